use super::*;
use crate::data::{Document, SourceSpec, prepare::Preparation, train_tokenizer};
use std::fs;

/// Sources of documents of these many letters each; a letter is about a token.
fn sources(folder: &std::path::Path, lengths: &[&[usize]]) -> Vec<(String, Shard)> {
    let seen = Document {
        id: "a".into(),
        text: "abcdefghij".into(),
    };
    let tokenizer = train_tokenizer(&[seen], 257).unwrap();
    lengths
        .iter()
        .enumerate()
        .map(|(s, lengths)| {
            for (i, &n) in lengths.iter().enumerate() {
                let letter = (b'a' + i as u8) as char;
                let path = folder.join(format!("{s}-{i}.txt"));
                fs::write(path, letter.to_string().repeat(n)).unwrap();
            }
            let spec: SourceSpec = toml::from_str(&format!(
                "name = 's{s}'\npaths = ['{}/{s}-*.txt']",
                folder.display()
            ))
            .unwrap();
            let preparation = Preparation {
                sources: &[spec],
                dedup: None,
                decontaminate: None,
                held_out: &[],
                tokenizer: &tokenizer,
                ends: (None, Some(0)),
            };
            let prepared = preparation.run(&folder.join("cache"), &|_| ());
            prepared.unwrap().shards.remove(0)
        })
        .collect()
}

fn stage(context: usize, sequences: usize, steps: u64, mix: &str) -> PlanStage {
    PlanStage {
        context,
        sequences,
        steps,
        mix: toml::from_str(mix).unwrap(),
        packing: Packing::Concat,
        document_mask: true,
    }
}

#[test]
fn an_epoch_gives_every_token_once() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |seed| {
        let all = sources(folder.path(), &[&[7, 3, 12, 1, 20]]);
        // 43 letters and 5 ends: two epochs of 48 tokens in 12 sequences of 8.
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
    let count = |ids: &[u32]| -> std::collections::BTreeMap<u32, usize> {
        ids.iter().fold(Default::default(), |mut all, id| {
            *all.entry(*id).or_default() += 1;
            all
        })
    };
    assert_eq!(count(&ids[..48]), count(&ids[48..]));
    let mut sizes: Vec<usize> = count(&ids[..48]).into_values().collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 3, 5, 7, 12, 20]);
    // Asked for out of order, a step gives the same.
    assert_eq!(first.batch(1, 3).unwrap(), same.batch(1, 3).unwrap());
    assert!(first.batch(0, 5).is_err());
    assert_eq!(first.usage()[0].epochs, 2.0);
}

#[test]
fn a_document_ends_where_its_mask_and_weight_say() {
    let folder = tempfile::tempdir().unwrap();
    let all = sources(folder.path(), &[&[5, 9, 3, 14]]);
    let plan = Plan::new(all, vec![stage(16, 2, 3, "s0 = 1")], 7).unwrap();
    for step in 0..3 {
        let batch = plan.batch(0, step).unwrap();
        for i in 0..32 {
            let (row, t) = (i / 16, i % 16);
            let start = batch.doc_starts[i] as usize;
            assert!(start <= t);
            // Id 0 ends a document: none lies between a document's start and its token.
            assert!(batch.ids[row * 16 + start..i].iter().all(|&id| id != 0));
            assert_eq!(batch.weights[i] == 0.0, batch.ids[i] == 0);
            if t < 15 {
                assert_eq!(batch.targets[i], batch.ids[i + 1]);
            }
        }
    }
}

#[test]
fn whole_documents_only_where_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = stage(8, 1, 6, "s0 = 1");
    spec.packing = Packing::Documents;
    let plan = Plan::new(
        sources(folder.path(), &[&[5, 9, 30, 14]]),
        vec![spec.clone()],
        7,
    )
    .unwrap();
    let mut firsts: Vec<u32> = (0..3).map(|i| plan.batch(0, i).unwrap().ids[0]).collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(
        firsts.len(),
        3,
        "three documents are long enough, each once an epoch"
    );
    spec.context = 64;
    let error = Plan::new(sources(folder.path(), &[&[5, 9]]), vec![spec], 7).unwrap_err();
    assert!(
        error.to_string().contains("the longest has 31 tokens"),
        "{error}"
    );
}

#[test]
fn each_packing_goes_on_where_it_stopped_itself() {
    let folder = tempfile::tempdir().unwrap();
    let by_documents = |steps| {
        let mut spec = stage(8, 1, steps, "s0 = 1");
        spec.packing = Packing::Documents;
        spec
    };
    let concat = |steps| stage(8, 1, steps, "s0 = 1");
    let all = || sources(folder.path(), &[&[5, 9, 30, 14, 21]]);
    let mixed = [by_documents(2), concat(3), by_documents(2), concat(2)];
    let mixed = Plan::new(all(), mixed.to_vec(), 7).unwrap();
    let alone = |spec| Plan::new(all(), vec![spec], 7).unwrap();
    let (documents, run) = (alone(by_documents(4)), alone(concat(5)));
    for step in 0..2 {
        assert_eq!(
            mixed.batch(2, step).unwrap(),
            documents.batch(0, 2 + step).unwrap()
        );
        assert_eq!(
            mixed.batch(3, step).unwrap(),
            run.batch(0, 3 + step).unwrap()
        );
    }
    // Four documents of nine tokens and more, each once; and 40 of 84 tokens.
    let usage = &mixed.usage()[0];
    assert_eq!(usage.tokens, 72);
    assert!((usage.epochs - 1.0 - 40.0 / 84.0).abs() < 1e-12);
}

#[test]
fn a_damaged_cache_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    sources(folder.path(), &[&[5, 9]]);
    let cache = folder.path().join("cache");
    let shard = fs::read_dir(&cache)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let whole = fs::read(&shard).unwrap();
    let mut flipped = whole.clone();
    flipped[50] ^= 1;
    for damaged in [&whole[..whole.len() - 3], &flipped, &[]] {
        fs::write(&shard, damaged).unwrap();
        sources(folder.path(), &[&[5, 9]]);
        assert_eq!(fs::read(&shard).unwrap(), whole);
    }
}
