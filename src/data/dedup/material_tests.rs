//! Recall and precision among real documents, against true similarities by an exact method.
use super::{candidates::Pairs, tests::source, words::each_block, *};
use rayon::prelude::*;
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

/// The set of a document's grams, as sorted hashes.
fn grams(text: &str, n: usize) -> Vec<u64> {
    let mut words = Vec::new();
    each_block(text, |block| words.extend_from_slice(block));
    let hash = |gram: &[u64]| {
        let mut hasher = DefaultHasher::new();
        gram.hash(&mut hasher);
        hasher.finish()
    };
    let mut grams: Vec<u64> = words.windows(n).map(hash).collect();
    grams.sort_unstable();
    grams.dedup();
    grams
}

fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut common) = (0, 0, 0usize);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, common) = (i + 1, j + 1, common + 1),
        }
    }
    let union = a.len() + b.len() - common;
    common as f64 / union.max(1) as f64
}

/// All pairs of sets that are at least so similar: two such sets have an element in common among their first
/// n − ⌈s·n⌉ + 1 (prefix filtering, Bayardo 2007).
fn all_pairs(sets: &[Vec<u64>], s: f64) -> BTreeSet<(u32, u32)> {
    let mut index: Vec<(u64, u32)> = Vec::new();
    for (i, set) in sets.iter().enumerate() {
        let prefix = set.len() + 1 - (s * set.len() as f64 - 1e-9).ceil() as usize;
        index.extend(set.iter().take(prefix).map(|gram| (*gram, i as u32)));
    }
    index.par_sort_unstable();
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    for group in index.chunk_by(|a, b| a.0 == b.0) {
        for (i, (_, a)) in group.iter().enumerate() {
            for (_, b) in &group[i + 1..] {
                let (n, m) = (sets[*a as usize].len(), sets[*b as usize].len());
                if n.min(m) as f64 >= s * n.max(m) as f64 {
                    pairs.push((*a, *b));
                }
            }
        }
    }
    pairs.par_sort_unstable();
    pairs.dedup();
    let is_near = |(a, b): &(u32, u32)| jaccard(&sets[*a as usize], &sets[*b as usize]) >= s;
    pairs.into_par_iter().filter(is_near).collect()
}

#[test]
fn all_pairs_are_those_of_a_plain_search() {
    // Families of eight, whose members have up to seven elements of their own.
    let element = |i: u64, k: u64| match k < i % 8 {
        true => 10_000_000 + i * 100 + k,
        false => i / 8 * 1000 + k,
    };
    let scatter = |x: u64| x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let set = |i: u64| (0..60).map(|k| scatter(element(i, k))).collect();
    let sets: Vec<BTreeSet<u64>> = (0..200).map(set).collect();
    let sets: Vec<Vec<u64>> = sets.into_iter().map(|s| s.into_iter().collect()).collect();
    for s in [0.5, 0.9] {
        let mut plain = BTreeSet::new();
        for b in 0..200 {
            for a in 0..b {
                let of = |x: usize| sets[x].iter().copied().collect::<BTreeSet<u64>>();
                let (x, y) = (of(a), of(b));
                let common = x.intersection(&y).count() as f64;
                if common / x.union(&y).count() as f64 >= s {
                    plain.insert((a as u32, b as u32));
                }
            }
        }
        assert_eq!(all_pairs(&sets, s), plain);
        assert!(plain.len() > 20, "{}", plain.len());
    }
}

#[test]
#[ignore = "needs a folder of JSON lines, HARNESS_DEDUP_CORPUS (benches/peers/dedup_corpus.py makes one), and --release"]
fn near_duplicates_among_real_documents_are_found_and_false_ones_are_few() {
    #[derive(Deserialize)]
    struct Line {
        text: String,
    }
    let corpus = std::env::var("HARNESS_DEDUP_CORPUS").expect("HARNESS_DEDUP_CORPUS is not set");
    let mut paths: Vec<_> = fs::read_dir(corpus)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    let texts: Vec<String> = paths
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            let line = |l: &str| serde_json::from_str::<Line>(l).unwrap().text;
            text.lines().map(line).collect::<Vec<_>>()
        })
        .collect();

    let spec = DedupSpec::default();
    let folder = tempfile::tempdir().unwrap();
    let mut dedup = Dedup::open(folder.path(), &spec, &[source("corpus")]).unwrap();
    let signer = dedup.signer();
    let signatures: Vec<_> = texts.par_iter().map(|text| signer.sign(text)).collect();
    for signature in &signatures {
        dedup.push(0, signature).unwrap();
    }
    dedup.write().unwrap();

    // Of documents with the same text, one.
    let mut seen = BTreeSet::new();
    let is_first: Vec<bool> = signatures.iter().map(|s| seen.insert(s.exact)).collect();
    let sets: Vec<Vec<u64>> = texts
        .par_iter()
        .zip(&is_first)
        .map(|(text, first)| first.then(|| grams(text, spec.ngram)).unwrap_or_default())
        .collect();
    let near = all_pairs(&sets, 0.9);

    let ranks = Ranks::new(&dedup.segments, 1, 0, 64 << 20).unwrap();
    let is_in = |rank: u32| is_first[ranks.number(rank) as usize];
    let (segments, folder) = (&dedup.segments, folder.path());
    let mut pairs = Pairs::find(segments, spec.bands, &ranks, is_in, 64 << 20, folder).unwrap();
    let mut candidates = Vec::new();
    while let Some((a, b)) = pairs.next().unwrap() {
        let (a, b) = (ranks.number(a), ranks.number(b));
        candidates.push((a.min(b), a.max(b)));
    }
    let similarity = |(a, b): &(u32, u32)| jaccard(&sets[*a as usize], &sets[*b as usize]);
    let similarities: Vec<f64> = candidates.par_iter().map(similarity).collect();
    let candidates: BTreeSet<(u32, u32)> = candidates.into_iter().collect();
    let missed = near.difference(&candidates).count();
    let false_ones = similarities.iter().filter(|s| **s < 0.4).count();
    let share = false_ones as f64 / similarities.len() as f64;

    let outcome = dedup.finish().unwrap();
    let stay = |n: u32| outcome.fate(n) == Fate::Stays;
    let both_stay = near.iter().filter(|(a, b)| stay(*a) && stay(*b)).count();
    let gone = |n: u32| match outcome.fate(n) {
        Fate::Near { of } => Some(jaccard(
            &grams(&texts[n as usize], spec.ngram),
            &grams(&texts[of as usize], spec.ngram),
        )),
        _ => None,
    };
    let gone: Vec<f64> = (0..outcome.documents())
        .into_par_iter()
        .filter_map(gone)
        .collect();
    let wrong = gone.iter().filter(|s| **s < 0.4).count();
    println!(
        "{} documents, of which {} have a text of their own",
        texts.len(),
        seen.len()
    );
    println!(
        "pairs of similarity .9 or more: {}, no candidates of them: {missed}, both stay: {both_stay}",
        near.len()
    );
    println!(
        "candidates: {}, below .4: {false_ones} ({:.2} %)",
        similarities.len(),
        100.0 * share
    );
    println!(
        "near duplicates that go: {}, below .4 to what stays: {wrong}",
        gone.len()
    );
    println!("{:?}", outcome.report);
    assert!(near.len() > 50);
    assert_eq!((missed, both_stay), (0, 0));
    assert!(share <= 0.005, "{share}");
}
