use super::*;
use crate::data::{
    Document, SourceSpec,
    megatron::{About, Writer},
    prepare::Preparation,
    stream::Piece,
    train_tokenizer,
};
use std::{fs, path::Path};

#[path = "plan_share_tests.rs"]
mod shares;

/// A source of documents of these many tokens. Document `d`'s token `t` is 1000·d + t + 1, and its last one 0.
fn source(folder: &Path, name: &str, lengths: &[usize]) -> (String, Shard) {
    let about = About {
        made_of: name.into(),
        tokenizer: String::new(),
        vocabulary: 1 << 24,
        bos: None,
        eos: Some(0),
    };
    let prefix = folder.join(name);
    let mut writer = Writer::open(&prefix, about).unwrap();
    for (d, &n) in lengths.iter().enumerate() {
        let ids = (1..n).map(|t| (1000 * d + t) as u32).collect();
        writer.push_between(ids).unwrap();
    }
    writer.finish().unwrap();
    (name.into(), Shard::open(&prefix).unwrap())
}

fn sources(folder: &Path, lengths: &[&[usize]]) -> Vec<(String, Shard)> {
    let all = lengths.iter().enumerate();
    all.map(|(s, lengths)| source(folder, &format!("s{s}"), lengths))
        .collect()
}

fn stage(context: usize, sequences: usize, steps: u64, mix: &str) -> PlanStage {
    PlanStage {
        context,
        sequences,
        steps,
        mix: toml::from_str(mix).unwrap(),
        mix_to: None,
        long: BTreeMap::new(),
        packing: Packing::Concat,
        document_mask: true,
        restart_positions: false,
    }
}

fn packed(packing: Packing, spec: PlanStage) -> PlanStage {
    PlanStage { packing, ..spec }
}

/// What of which stream each sequence has, stage by stage.
fn rows(plan: &Plan) -> Vec<Vec<(u32, Vec<Piece>)>> {
    let of_stage = |stage: &Stage| {
        let n = 0..stage.sequences.len();
        n.map(|i| (stage.sequences[i].0, plan.row(stage, i).1.pieces))
            .collect()
    };
    plan.stages.iter().map(of_stage).collect()
}

/// How often each token of each document of the first source is seen.
fn seen(plan: &Plan) -> Vec<Vec<u32>> {
    let shard = &plan.streams[0].source.shard;
    let mut seen: Vec<Vec<u32>> = (0..shard.len())
        .map(|i| vec![0; shard.length(i) as usize])
        .collect();
    for (stream, pieces) in rows(plan).concat() {
        if plan.of_source[0].contains(&(stream as usize)) {
            for piece in pieces {
                let document = &mut seen[piece.document as usize];
                document[piece.from as usize..piece.to as usize]
                    .iter_mut()
                    .for_each(|n| *n += 1);
            }
        }
    }
    seen
}

#[test]
fn an_epoch_gives_every_token_once() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |seed| {
        let all = sources(folder.path(), &[&[8, 4, 13, 2, 21]]);
        // Two epochs of 48 tokens in 12 sequences of 8.
        Plan::new(
            all,
            vec![stage(8, 1, 5, "s0 = 1"), stage(8, 1, 7, "s0 = 1")],
            seed,
        )
        .unwrap()
    };
    let (first, same, other) = (plan(1), plan(1), plan(2));
    let read = |plan: &Plan| -> Vec<u32> {
        (0..5)
            .map(|i| (0, i))
            .chain((0..7).map(|i| (1, i)))
            .flat_map(|(stage, step)| plan.batch(stage, step).unwrap().ids)
            .collect()
    };
    let ids = read(&first);
    assert_eq!(ids, read(&same));
    assert_ne!(ids, read(&other));
    let sorted = |ids: &[u32]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(&ids[..48]), sorted(&ids[48..]));
    assert!(seen(&first).concat().iter().all(|n| *n == 2));
    // Asked for out of order, a step gives the same.
    assert_eq!(first.batch(1, 3).unwrap(), same.batch(1, 3).unwrap());
    assert!(first.batch(0, 5).is_err());
    assert_eq!(first.usage()[0].epochs, 2.0);
}

/// Trials' bytes depend on it. The hash was made with the first release's order; when it must change, raise
/// `experiment::identity::ENGINE_FORMAT`.
#[test]
fn the_order_of_the_data_stays() {
    let folder = tempfile::tempdir().unwrap();
    let lengths = |n: usize| -> Vec<usize> { (0..n).map(|i| i * i * 31 % 53 + 1).collect() };
    let all = sources(folder.path(), &[&lengths(40), &lengths(9), &lengths(23)]);
    let mut unmasked = stage(64, 1, 40, "s0 = 2\ns2 = 5");
    unmasked.document_mask = false;
    let stages = vec![stage(16, 3, 50, "s0 = 7\ns1 = 2\ns2 = 1"), unmasked];
    let plan = Plan::new(all, stages, 3).unwrap();
    let mut hash = blake3::Hasher::new();
    for (stage, steps) in [(0, 50), (1, 40)] {
        for step in 0..steps {
            hash.update(format!("{:?}", plan.batch(stage, step).unwrap()).as_bytes());
        }
    }
    assert_eq!(hash.finalize().to_hex()[..16], *"607d0f9fb5114801");
}

/// Every row of a batch against what the documents say, token by token.
fn check_rows(plan: &Plan) {
    for (s, stage) in plan.stages.iter().enumerate() {
        let (n, context) = (stage.spec.sequences, stage.spec.context);
        for step in 0..stage.spec.steps {
            let batch = plan.batch(s, step).unwrap();
            for r in 0..n {
                let (stream, row) = plan.row(stage, step as usize * n + r);
                let at = |t: usize| r * context + t;
                let mut t = 0;
                for (p, piece) in row.pieces.iter().enumerate() {
                    let document = stream.source.shard.document(piece.document as usize);
                    let begin = t;
                    for place in piece.from..piece.to {
                        assert_eq!(batch.ids[at(t)], document[place as usize]);
                        let start = if stage.spec.document_mask { begin } else { 0 };
                        assert_eq!(batch.doc_starts[at(t)], start as u32);
                        let position = if stage.spec.restart_positions {
                            t - begin
                        } else {
                            t
                        };
                        assert_eq!(batch.positions[at(t)], position as u32);
                        let weight = match document.get(place as usize + 1) {
                            Some(next) => {
                                assert_eq!(batch.targets[at(t)], *next);
                                1.0
                            }
                            // The end of a document predicts the next one only where they see each other.
                            None if stage.spec.document_mask => 0.0,
                            None => {
                                f32::from(u8::from(p + 1 < row.pieces.len() || row.ahead.is_some()))
                            }
                        };
                        assert_eq!(batch.weights[at(t)], weight);
                        t += 1;
                    }
                }
                for pad in t..context {
                    assert_eq!(stage.spec.packing, Packing::BestFit);
                    assert_eq!(
                        (batch.weights[at(pad)], batch.doc_starts[at(pad)]),
                        (0.0, pad as u32)
                    );
                }
            }
        }
    }
}

#[test]
fn rows_are_what_the_documents_say() {
    let folder = tempfile::tempdir().unwrap();
    let lengths: Vec<usize> = (0..60).map(|i| i * i * 31 % 83 + 1).collect();
    for packing in [Packing::Concat, Packing::BestFit, Packing::Documents] {
        for (document_mask, restart_positions) in
            [(true, false), (true, true), (false, false), (false, true)]
        {
            let stage = PlanStage {
                document_mask,
                restart_positions,
                ..packed(packing, stage(32, 3, 9, "s0 = 1"))
            };
            let plan = Plan::new(sources(folder.path(), &[&lengths]), vec![stage], 7).unwrap();
            check_rows(&plan);
        }
    }
}

#[test]
fn best_fit_cuts_no_document_that_fits_and_pads_little() {
    let folder = tempfile::tempdir().unwrap();
    let lengths: Vec<usize> = (0..3000).map(|i| i * i * 7919 % 300 + 2).collect();
    // Documents of up to 301 tokens in sequences of 256: two epochs.
    let total: usize = lengths.iter().sum();
    let steps = (2 * total / 256 / 4) as u64;
    let stages = |packing| vec![packed(packing, stage(256, 4, steps, "s0 = 1"))];
    let make =
        |packing| Plan::new(sources(folder.path(), &[&lengths]), stages(packing), 7).unwrap();
    let plan = make(Packing::BestFit);
    let seen = plan.seen(0).remove(0);
    assert_eq!(seen.cut, 0);
    for (_, pieces) in rows(&plan).concat() {
        for piece in pieces {
            let length = lengths[piece.document as usize] as u64;
            assert!(length > 256 || piece.len() == length);
        }
    }
    let all = seen.padding + seen.spans.tokens;
    assert_eq!(all, steps * 4 * 256);
    assert!(
        seen.padding * 50 < all,
        "{} of {all} are padding",
        seen.padding
    );
    assert_eq!(plan.usage()[0].tokens, seen.spans.tokens);
    // Asked for out of order, another plan gives the same.
    let other = make(Packing::BestFit);
    for step in [steps - 1, 0, steps / 2, 3] {
        assert_eq!(plan.batch(0, step).unwrap(), other.batch(0, step).unwrap());
    }
    let cut = make(Packing::Concat).seen(0).remove(0);
    assert!(
        cut.cut > steps,
        "{} documents are cut by sequences' ends alone",
        cut.cut
    );
    assert_eq!(cut.padding, 0);
}

#[test]
fn whole_documents_only_where_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = packed(Packing::Documents, stage(8, 1, 6, "s0 = 1"));
    let all = || sources(folder.path(), &[&[6, 10, 31, 15]]);
    let plan = Plan::new(all(), vec![spec.clone()], 7).unwrap();
    let mut firsts: Vec<u32> = (0..3).map(|i| plan.batch(0, i).unwrap().ids[0]).collect();
    firsts.sort_unstable();
    assert_eq!(
        firsts,
        [1001, 2001, 3001],
        "three documents are long enough, each once an epoch"
    );
    let seen = plan.seen(0).remove(0);
    assert_eq!((seen.longer, seen.unused), (6, 2 * (2 + 23 + 7)));
    spec.context = 64;
    let error = Plan::new(all(), vec![spec], 7).unwrap_err();
    assert!(
        error.to_string().contains("the longest has 31 tokens"),
        "{error}"
    );
}

/// Stages of other contexts, packings and mixes, and long documents asked for and not: nothing comes again before
/// all has come that was due, and nothing is left out.
#[test]
fn what_was_due_comes_once_whatever_the_stages_make_of_it() {
    use Packing::{BestFit, Concat};
    let folder = tempfile::tempdir().unwrap();
    let lengths: Vec<usize> = (0..400).map(|i| i * i * 7919 % 181 + 2).collect();
    let long = |share| BTreeMap::from([("s0".to_string(), LongSpec { over: 120, share })]);
    type Stage = (Packing, usize, u64, &'static str, Option<f64>);
    let cases: [Vec<Stage>; 5] = [
        vec![
            (BestFit, 64, 40, "s0 = 1", None),
            (BestFit, 256, 30, "s0 = 1", None),
        ],
        vec![
            (Concat, 64, 41, "s0 = 1", None),
            (BestFit, 128, 30, "s0 = 1", None),
            (Concat, 100, 31, "s0 = 1", None),
        ],
        vec![
            (BestFit, 100, 40, "s0 = 1\ns1 = 3", None),
            (Concat, 32, 50, "s0 = 3\ns1 = 1", None),
            (BestFit, 64, 60, "s0 = 1\ns1 = 9", None),
        ],
        vec![
            (Concat, 64, 40, "s0 = 1", None),
            (Concat, 64, 40, "s0 = 1", Some(0.6)),
            (BestFit, 128, 20, "s0 = 1", None),
        ],
        vec![
            (BestFit, 200, 20, "s0 = 1", Some(0.7)),
            (BestFit, 64, 40, "s0 = 2\ns1 = 1", Some(0.2)),
            (Concat, 64, 30, "s0 = 1", None),
        ],
    ];
    for case in cases {
        let stages = case
            .iter()
            .map(|&(packing, context, sequences, mix, share)| PlanStage {
                long: share.map(long).unwrap_or_default(),
                ..packed(packing, stage(context, 1, sequences, mix))
            });
        let all = sources(folder.path(), &[&lengths, &[50, 60, 70]]);
        let plan = Plan::new(all, stages.collect(), 11).unwrap();
        for &s in &plan.of_source[0] {
            assert!(
                plan.stages
                    .iter()
                    .map(|stage| u64::from(stage.counts[s]))
                    .sum::<u64>()
                    > 0
            );
        }
        let usage = &plan.usage()[0];
        assert!(
            usage.epochs < 1.0,
            "{usage:?}: within one epoch, a token that comes twice was not due"
        );
        assert!(seen(&plan).concat().iter().all(|n| *n <= 1), "{case:?}");
        // The rest of the epoch, in pieces of its own size: all of it comes now, and once.
        let taken: u64 = usage.tokens;
        let mut more = plan
            .stages
            .iter()
            .map(|s| s.spec.clone())
            .collect::<Vec<_>>();
        more.push(stage(1 << 20, 1, 1, "s0 = 1"));
        let all = sources(folder.path(), &[&lengths, &[50, 60, 70]]);
        let longer = Plan::new(all, more, 11).unwrap();
        for &s in &longer.of_source[0] {
            let course = longer.stages[case.len()].courses[s].as_ref().unwrap();
            let stream = &longer.streams[s];
            let mut left = stream.tokens;
            for (of, pieces) in rows(&plan).concat() {
                left -= pieces
                    .iter()
                    .filter(|_| of as usize == s)
                    .map(Piece::len)
                    .sum::<u64>();
            }
            let mut rest: Vec<Vec<u32>> = lengths.iter().map(|n| vec![0; *n]).collect();
            for piece in course.row(stream, 0).pieces {
                let take = piece.len().min(left);
                left -= take;
                let from = piece.from as usize;
                rest[piece.document as usize][from..from + take as usize]
                    .iter_mut()
                    .for_each(|n| *n += 1);
            }
            let before = seen(&plan);
            for (d, document) in rest
                .iter()
                .enumerate()
                .filter(|(d, _)| stream.lengths.contains(&(lengths[*d] as u64)))
            {
                let both: Vec<u32> = document
                    .iter()
                    .zip(&before[d])
                    .map(|(a, b)| a + b)
                    .collect();
                assert!(
                    both.iter().all(|n| *n == 1),
                    "{case:?}: document {d}: {both:?} after {taken}"
                );
            }
        }
    }
}

#[test]
fn packing_by_documents_takes_none_that_was_seen() {
    let folder = tempfile::tempdir().unwrap();
    let lengths: Vec<usize> = (0..200).map(|i| i * i * 7919 % 91 + 2).collect();
    for before in [Packing::Concat, Packing::BestFit] {
        let stages = vec![
            packed(before, stage(64, 1, 30, "s0 = 1")),
            packed(Packing::Documents, stage(50, 1, 12, "s0 = 1")),
            packed(Packing::Documents, stage(70, 1, 5, "s0 = 1")),
            packed(before, stage(64, 1, 5, "s0 = 1")),
        ];
        let plan = Plan::new(sources(folder.path(), &[&lengths]), stages, 5).unwrap();
        check_rows(&plan);
        assert!(seen(&plan).concat().iter().all(|n| *n <= 1), "{before:?}");
        assert!(plan.usage()[0].epochs <= 1.0);
    }
}

/// The token ids of a source.
fn prepare(spec: &SourceSpec, tokenizer: &tokenizers::Tokenizer, cache: &Path) -> Shard {
    let preparation = Preparation {
        sources: std::slice::from_ref(spec),
        dedup: None,
        decontaminate: None,
        held_out: &[],
        tokenizer,
        ends: (None, Some(0)),
    };
    let prepared = preparation.run(cache, &|_| ());
    prepared.unwrap().shards.remove(0).1
}

#[test]
fn a_damaged_cache_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let seen = Document {
        id: "a".into(),
        text: "abcdefghij".into(),
    };
    let tokenizer = train_tokenizer(&[seen], 257).unwrap();
    fs::write(folder.path().join("a.txt"), "abc abc").unwrap();
    let said = format!("name = 's'\npaths = ['{}/a.txt']", folder.path().display());
    let spec: SourceSpec = toml::from_str(&said).unwrap();
    let cache = folder.path().join("cache");
    let make = || prepare(&spec, &tokenizer, &cache);
    let tokens = make().document(0);
    assert_eq!(tokens.last(), Some(&0));
    let files = || {
        let names = fs::read_dir(&cache)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let files = names.filter(|path| path.is_file());
        let mut all: Vec<_> = files.map(|path| (fs::read(&path).unwrap(), path)).collect();
        all.sort_by(|a, b| a.1.cmp(&b.1));
        all
    };
    let whole = files();
    assert_eq!(whole.len(), 3);
    for (bytes, path) in &whole {
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        for damaged in [&bytes[..bytes.len() - 3], &flipped, &[]] {
            fs::write(path, damaged).unwrap();
            assert_eq!(make().document(0), tokens);
            assert_eq!(files(), whole);
        }
    }
    // The same tokens as a source of their own.
    let prefix = whole[0].1.with_extension("");
    let said = format!("name = 't'\ntokens = '{}'", prefix.display());
    let elsewhere: SourceSpec = toml::from_str(&said).unwrap();
    elsewhere.check().unwrap();
    let shard = prepare(&elsewhere, &tokenizer, &cache);
    assert_eq!(shard.document(0), tokens);
    fs::remove_file(&whole[1].1).unwrap();
    let error = elsewhere.check().unwrap_err().to_string();
    assert!(
        error.contains("there is no") && error.contains(".idx"),
        "{error}"
    );
}
