use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

pub(super) fn source(name: &str) -> Source {
    Source {
        name: name.into(),
        held_out: false,
    }
}

/// `count` words out of 100,000.
fn words(rng: &mut ChaCha8Rng, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| format!("w{}", rng.random_range(0..100_000)))
        .collect()
}

/// A deduplication of documents, each with the index of its source.
fn dedup(spec: &DedupSpec, sources: &[Source], documents: &[(usize, String)]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let mut dedup = Dedup::open(folder.path(), spec, sources).unwrap();
    let signer = dedup.signer();
    for (source, text) in documents {
        dedup.push(*source, &signer.sign(text)).unwrap();
    }
    dedup.finish().unwrap()
}

fn fates(outcome: &Outcome) -> Vec<Fate> {
    (0..outcome.documents()).map(|n| outcome.fate(n)).collect()
}

#[test]
fn precedence_then_length_then_place_decide_what_stays() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let text = words(&mut rng, 300).join(" ");
    let longer = format!("{text} and a few words more");
    let documents = [
        (0, text.to_uppercase()),
        (0, longer.clone()),
        (1, format!("{text}!")),
        (
            1,
            "Something else altogether, of which there is no other.".into(),
        ),
        (0, format!("{text}.")),
    ];
    let sources = [source("a"), source("b")];
    let spec = DedupSpec::default();
    let outcome = dedup(&spec, &sources, &documents);
    let near = Fate::Near { of: 1 };
    assert_eq!(
        fates(&outcome),
        [near, Fate::Stays, near, Fate::Stays, near]
    );
    assert_eq!(outcome.report.kept, 2);
    assert_eq!(outcome.report.clusters, [(4, 1)].into());
    let pair = |from: &str, of: &str, exact, near| SourcePair {
        from: from.into(),
        duplicate_of: of.into(),
        exact,
        near,
    };
    assert_eq!(
        outcome.report.sources,
        [pair("a", "a", 0, 2), pair("b", "a", 0, 1)]
    );
    assert_eq!(outcome.report.examples.len(), 1);
    let example = &outcome.report.examples[0];
    assert_eq!((example.gone, example.stays), (0, 1));
    assert!(example.similarity > 0.9);

    let spec = DedupSpec {
        precedence: vec!["b".into()],
        ..spec
    };
    let outcome = dedup(&spec, &sources, &documents);
    let (near, exact) = (Fate::Near { of: 2 }, Fate::Exact { of: 2 });
    assert_eq!(
        fates(&outcome),
        [exact, near, Fate::Stays, Fate::Stays, exact]
    );
    assert_eq!(outcome.report.sources, [pair("a", "b", 2, 1)]);
}

#[test]
fn short_documents_are_compared_as_a_whole() {
    let texts = [
        "Four words are few.",
        "four WORDS are few",
        "four words are",
        "!",
        "?",
        "!",
    ];
    let documents: Vec<_> = texts.iter().map(|t| (0, t.to_string())).collect();
    let outcome = dedup(&DedupSpec::default(), &[source("a")], &documents);
    assert_eq!(
        fates(&outcome),
        [
            Fate::Stays,
            Fate::Exact { of: 0 },
            Fate::Stays,
            Fate::Stays,
            Fate::Stays,
            Fate::Exact { of: 3 }
        ]
    );
    assert_eq!(outcome.report.short, 6);
}

/// Each document is the one before without its first twenty words and with twenty more.
#[test]
fn a_chain_does_not_run_together() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let tape = words(&mut rng, 400 + 20 * 50);
    let documents: Vec<_> = (0..50)
        .map(|i| (0, tape[i * 20..i * 20 + 400].join(" ")))
        .collect();
    let outcome = dedup(&DedupSpec::default(), &[source("a")], &documents);
    let kept: Vec<u32> = (0..50)
        .filter(|n| outcome.fate(*n) == Fate::Stays)
        .collect();
    for number in 0..50 {
        if let Fate::Near { of } = outcome.fate(number) {
            // At a distance of d, the similarity is (396 − 20 d) / (396 + 20 d).
            assert!(number.abs_diff(of) <= 8, "{number} went for {of}");
        }
    }
    for pair in kept.windows(2) {
        assert!(pair[1] - pair[0] >= 2, "{pair:?} both stay");
    }
    assert!((5..25).contains(&kept.len()), "{} stay", kept.len());
}

#[test]
fn what_is_near_a_held_out_document_goes_and_held_out_ones_stay() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let first = words(&mut rng, 200).join(" ");
    let second = format!("{first} x y");
    let held_out = Source {
        name: "evaluation".into(),
        held_out: true,
    };
    // Many copies of what is held out: each is a leader, however many there are.
    let mut documents: Vec<_> = (0..40).map(|i| (1, format!("{first} v{i}"))).collect();
    documents.extend([
        (0, format!("z {second} and longer than any other by far")),
        (0, format!("{first} v7.")),
        (0, words(&mut rng, 200).join(" ")),
        (1, second.clone()),
    ]);
    let spec = DedupSpec {
        precedence: vec!["a".into()],
        ..DedupSpec::default()
    };
    let outcome = dedup(&spec, &[source("a"), held_out], &documents);
    assert!((0..40).all(|n| outcome.fate(n) == Fate::Stays));
    assert!(matches!(outcome.fate(40), Fate::Near { of } if of < 40 || of == 43));
    assert_eq!(outcome.fate(41), Fate::Exact { of: 7 });
    assert_eq!(outcome.fate(42), Fate::Stays);
    assert_eq!(outcome.fate(43), Fate::Stays);
    assert_eq!(outcome.report.kept, 1);
    assert_eq!(outcome.report.documents, 44);
}

/// Documents with duplicates of all kinds, within and across two sources.
fn corpus(count: usize) -> Vec<(usize, String)> {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut documents: Vec<(usize, String)> = Vec::new();
    for i in 0..count {
        let source = usize::from(i % 3 == 0);
        let mut text = match rng.random_range(0..4) {
            0 if i > 0 => documents[rng.random_range(0..i)].1.clone(),
            1 if i > 0 => {
                let mut words: Vec<_> = documents[rng.random_range(0..i)]
                    .1
                    .split(' ')
                    .map(str::to_string)
                    .collect();
                let at = rng.random_range(0..words.len());
                words[at] = "changed".into();
                words.join(" ")
            }
            _ => {
                let count = rng.random_range(1..120);
                words(&mut rng, count).join(" ")
            }
        };
        if rng.random_range(0..3) == 0 {
            text.make_ascii_uppercase();
        }
        documents.push((source, text));
    }
    documents
}

fn outcome_file(spec: &DedupSpec, documents: &[(usize, String)], small: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let sources = [source("a"), source("b")];
    let mut dedup = Dedup::open(folder.path(), spec, &sources).unwrap();
    if small {
        dedup.spec.memory = bytesize::ByteSize::kib(100);
        dedup.pending = Pending::new(dedup.shape, 0, 100 << 10);
    }
    let signer = dedup.signer();
    let sign = |(source, text): &(usize, String)| (*source, signer.sign(text));
    let signatures: Vec<_> = documents.par_iter().map(sign).collect();
    for (source, signature) in &signatures {
        dedup.push(*source, signature).unwrap();
    }
    assert_eq!(dedup.segments.len() > 5, small, "{}", dedup.segments.len());
    dedup.finish().unwrap();
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1, "segments go when the outcome is there");
    fs::read(folder.path().join(OUTCOME)).unwrap()
}

#[test]
fn neither_memory_nor_threads_change_a_byte() {
    let documents = corpus(3000);
    let spec = DedupSpec::default();
    let whole = outcome_file(&spec, &documents, false);
    assert!(whole == outcome_file(&spec, &documents, true));
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.unwrap();
        assert!(whole == pool.install(|| outcome_file(&spec, &documents, true)));
    }
    let parsed = Outcome::parse(&whole[24..]).unwrap();
    assert_eq!(parsed.report.sources.len(), 3);
    let both = |pair: &SourcePair| pair.exact > 9 && pair.near > 9;
    assert!(
        parsed.report.sources.iter().all(both),
        "{:?}",
        parsed.report
    );
}

/// The rule, plainly: all pairs that agree in a band, by rank.
#[test]
fn what_stays_is_what_the_rule_says() {
    let documents = corpus(1200);
    let spec = DedupSpec::default();
    let outcome = dedup(&spec, &[source("a"), source("b")], &documents);
    let signer = Signer::new(&spec);
    let signatures: Vec<_> = documents.iter().map(|(_, t)| signer.sign(t)).collect();
    let mut order: Vec<usize> = (0..documents.len()).collect();
    order.sort_by_key(|i| (documents[*i].0, usize::MAX - documents[*i].1.len(), *i));
    let mut kept: Vec<usize> = Vec::new();
    for &i in &order {
        let is_exact = |k: &&usize| signatures[**k].exact == signatures[i].exact;
        let is_near = |k: &&usize| {
            let bands = signatures[**k].bands.iter().zip(&signatures[i].bands);
            let (a, b) = (&signatures[**k].sketch, &signatures[i].sketch);
            bands.clone().any(|(a, b)| a == b) && minhash::similarity(a, b) >= 0.5
        };
        let expected = match (kept.iter().find(is_exact), kept.iter().find(is_near)) {
            (Some(k), _) => Fate::Exact { of: *k as u32 },
            (None, Some(k)) => Fate::Near { of: *k as u32 },
            (None, None) => {
                kept.push(i);
                Fate::Stays
            }
        };
        assert_eq!(outcome.fate(i as u32), expected, "document {i}");
    }
    assert_eq!(outcome.report.kept as usize, kept.len());
    assert!(kept.len() < 900);
}

#[test]
fn a_killed_one_goes_on_from_whole_segments() {
    let documents = corpus(2000);
    let sources = [source("a"), source("b")];
    let spec = DedupSpec::default();
    let whole = outcome_file(&spec, &documents, false);
    let folder = tempfile::tempdir().unwrap();
    let mut opened = 0;
    // Each life pushes 700 documents at most, of which the last are lost.
    let outcome = loop {
        let mut dedup = Dedup::open(folder.path(), &spec, &sources).unwrap();
        let done = dedup.documents() as usize;
        assert!(done > 0 || opened == 0, "nothing was kept");
        opened += 1;
        dedup.pending = Pending::new(dedup.shape, done as u32, 100 << 10);
        let signer = dedup.signer();
        for (source, text) in documents.iter().skip(done).take(700) {
            dedup.push(*source, &signer.sign(text)).unwrap();
        }
        if dedup.documents() as usize == documents.len() {
            break dedup.finish().unwrap();
        }
        fs::write(folder.path().join(".harness-HALF"), "half a segment").unwrap();
    };
    assert!(opened > 2);
    assert!(whole == fs::read(folder.path().join(OUTCOME)).unwrap());
    let again = Dedup::open(folder.path(), &spec, &sources).unwrap();
    assert_eq!(again.documents(), 2000);
    assert_eq!(again.finish().unwrap(), outcome);
}

#[test]
fn what_does_not_belong_together_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let sources = [source("a")];
    let spec = DedupSpec::default();
    let open = |spec: &DedupSpec| {
        let opened = Dedup::open(folder.path(), spec, &sources);
        opened.map(|_| ()).map_err(|e| e.to_string())
    };
    let mut dedup = Dedup::open(folder.path(), &spec, &sources).unwrap();
    dedup.push(0, &dedup.signer().sign("a b c d e f")).unwrap();
    dedup.write().unwrap();
    dedup.push(0, &dedup.signer().sign("b")).unwrap();
    dedup.write().unwrap();
    drop(dedup);
    let second = folder.path().join("0000000001.signatures");
    let second = fs::read(second).unwrap();
    let other = DedupSpec {
        seed: 1,
        ..spec.clone()
    };
    let error = open(&other).unwrap_err();
    assert!(error.contains("other settings"), "{error}");
    let path = folder.path().join("0000000000.signatures");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = open(&spec).unwrap_err();
    assert!(
        error.contains("0000000000.signatures: is damaged; remove the folder"),
        "{error}"
    );
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("0000000001.signatures"), second).unwrap();
    let error = open(&spec).unwrap_err();
    assert!(error.contains("begins with document 1, not 0"), "{error}");
    fs::write(path, bytes).unwrap();
    assert_eq!(open(&spec), Ok(()));

    let dedup = Dedup::open(folder.path(), &spec, &sources).unwrap();
    dedup.finish().unwrap();
    let error = open(&other).unwrap_err();
    assert!(error.contains("other settings"), "{error}");
    let mut dedup = Dedup::open(folder.path(), &spec, &sources).unwrap();
    let error = dedup.push(0, &dedup.signer().sign("a")).unwrap_err();
    assert!(error.to_string().contains("one too many"), "{error}");
}
