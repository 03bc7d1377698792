use super::super::*;
use super::*;
use crate::evals::testing::tokens;

fn spec(context: usize, stride: usize) -> LongLossSpec {
    LongLossSpec {
        name: "prose".into(),
        sources: Vec::new(),
        protocol: Windows::Sliding,
        context,
        stride: Some(stride),
        documents: 3,
        min_tokens: None,
        max_tokens: 150,
        by_position: true,
    }
}

fn documents() -> Vec<Document> {
    let document = |i: usize| Document {
        id: format!("doc-{i}"),
        text: (0..20 * i).map(|j| format!("Crab 🦀 {j} goes. ")).collect(),
    };
    (0..7).map(document).collect()
}

fn task(context: usize, stride: usize) -> LongLoss {
    LongLoss::new(&spec(context, stride), Rc::new(tokens()), documents()).unwrap()
}

/// A made-up loss that depends on the token, its position in the window and the window's first token.
fn made_up(ids: &[u32]) -> Vec<f32> {
    let loss = |i: usize| -0.01 * ids[i] as f32 - i as f32 - 0.001 * ids[0] as f32;
    (1..ids.len()).map(loss).collect()
}

/// Hugging Face's loop, written down literally: token t is scored in the first window that has it.
#[test]
fn the_sliding_loss_is_that_of_the_naive_loop() {
    let task = task(48, 20);
    let mut score = |ids: &[u32], first: usize| Ok(made_up(ids)[first - 1..].to_vec());
    for part in &task.parts {
        let text = &task.documents[part.document];
        let n = text.ids.len();
        let mut nats = 0.0;
        for t in 1..n {
            let window = (0..).find(|w| w * 20 + 48 > t).unwrap();
            let begin = window * 20;
            let end = (begin + 48).min(n);
            nats -= f64::from(made_up(&text.ids[begin..end])[t - begin - 1]);
        }
        let sum = task.whole_windows(&text.ids, part, &mut score).unwrap();
        assert!((sum.nats - nats).abs() < 1e-6 * nats);
        assert_eq!(sum.tokens, n - 1);
        assert_eq!(sum.bytes, task.tokens.bytes(&text.ids[1..]));
    }
}

#[test]
fn positions_come_from_disjoint_windows() {
    let task = task(70, 35);
    let mut score = |ids: &[u32], first: usize| Ok(made_up(ids)[first - 1..].to_vec());
    let document = task.documents.iter().position(|text| text.ids.len() == 150);
    let part = &task.parts[document.unwrap()];
    let text = &task.documents[part.document];
    let mut naive = [(0.0, 0, 0); 3];
    for window in 0..2 {
        let ids = &text.ids[window * 70..(window + 1) * 70];
        for (position, log_prob) in made_up(ids).iter().enumerate().map(|(i, x)| (i + 1, x)) {
            let bucket = match position {
                0..=31 => 0,
                32..=63 => 1,
                _ => 2,
            };
            naive[bucket].0 -= f64::from(*log_prob);
            naive[bucket].1 += 1;
            naive[bucket].2 += task.tokens.bytes(&ids[position..=position]);
        }
    }
    let sums = task.by_position(part, &mut score).unwrap();
    assert_eq!(sums.len(), 3);
    for (sum, (nats, tokens, bytes)) in sums.iter().zip(naive) {
        assert!((sum.nats - nats).abs() < 1e-6 * nats);
        assert_eq!((sum.tokens, sum.bytes), (tokens, bytes));
    }
    assert_eq!(
        sums.iter().map(|s| s.tokens).collect::<Vec<_>>(),
        [62, 64, 12]
    );
}

#[test]
fn bits_per_byte_of_a_known_loss() {
    // 8 tokens at ln 256 nats over 16 bytes: 64 bits, 4 a byte.
    assert!((bits_per_byte(8.0 * 256f64.ln(), 16) - 4.0).abs() < 1e-12);
    let task = task(48, 20);
    let sum = Sum {
        nats: 3.0 * std::f64::consts::LN_2,
        tokens: 2,
        bytes: 6,
    };
    let record = task.record(0, &sum, vec![1, 2]);
    assert!((record.metrics["bits_per_byte"] - 0.5).abs() < 1e-12);
    assert!((record.metrics["nats_per_token"] - 1.5 * std::f64::consts::LN_2).abs() < 1e-12);
    assert_eq!((record.weight, record.metrics["bytes"]), (2.0, 6.0));
}

#[test]
fn any_part_of_a_documents_items_gives_the_same_records() {
    let task = task(70, 35);
    let mut score = |ids: &[u32], first: usize| Ok(made_up(ids)[first - 1..].to_vec());
    let each = 1 + buckets(70).len();
    assert_eq!(task.chunks(), vec![each; 3]);
    assert_eq!(task.items().len(), 3 * each);
    let chunk: Vec<usize> = (each..2 * each).collect();
    let ids = &task.documents[1].ids;
    let whole = task.score(&chunk, ids, &mut score).unwrap();
    assert_eq!(whole.len(), each);
    for (record, &i) in whole.iter().zip(&chunk) {
        assert_eq!((&record.item, record.index), (&task.items()[i], i));
        assert_eq!(
            &task.score(&[i], ids, &mut score).unwrap(),
            std::slice::from_ref(record)
        );
    }
    assert_eq!(
        task.score(&chunk[2..], ids, &mut score).unwrap(),
        whole[2..]
    );
}

#[test]
fn the_estimate_is_what_is_scored() {
    let task = task(70, 35);
    let mut scored = 0;
    let mut score = |ids: &[u32], first: usize| {
        scored += ids.len();
        Ok(made_up(ids)[first - 1..].to_vec())
    };
    let each = 1 + buckets(70).len();
    for document in 0..3 {
        let chunk: Vec<usize> = (document * each..(document + 1) * each).collect();
        let ids = &task.documents[document].ids;
        task.score(&chunk, ids, &mut score).unwrap();
    }
    assert_eq!(task.estimate().prefill, scored);
}

#[test]
fn documents_are_long_enough_and_fewer_are_the_first_of_more() {
    let all = task(70, 35);
    assert!(
        all.documents
            .iter()
            .all(|d| (70..=150).contains(&d.ids.len()))
    );
    let mut fewer = spec(70, 35);
    fewer.documents = 2;
    let mut shuffled = documents();
    shuffled.reverse();
    let fewer = LongLoss::new(&fewer, Rc::new(tokens()), shuffled).unwrap();
    assert_eq!(fewer.items(), &all.items()[..fewer.items().len()]);
    let mut long = spec(70, 35);
    long.min_tokens = Some(100_000);
    let error = LongLoss::new(&long, Rc::new(tokens()), documents())
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("none of its 7 documents has 100000 tokens"),
        "{error}"
    );
}

#[test]
fn documents_shorter_than_a_window_are_reduced_no_further() {
    let mut short = spec(256, 128);
    (short.min_tokens, short.max_tokens, short.by_position) = (Some(64), 128, false);
    short.sources = vec![toml::from_str("name = 'x'\npaths = ['a']").unwrap()];
    assert_eq!(short.problem(), None);
    short.reduce();
    assert_eq!((short.documents, short.max_tokens), (2, 128));
    assert_eq!(short.problem(), None);
}

/// A document of two and a half parts gives the sums of one that is not cut.
#[test]
fn a_long_document_is_scored_in_parts() {
    for protocol in [Windows::Sliding, Windows::Rolling] {
        let mut spec = spec(1000, 600);
        spec.protocol = protocol;
        spec.stride = is_sliding(&protocol).then_some(600);
        spec.max_tokens = usize::MAX;
        let text = "Here we go to the sky. ".repeat(10 * PART / 40);
        let document = Document {
            id: "long".into(),
            text,
        };
        let task = LongLoss::new(&spec, Rc::new(tokens()), vec![document]).unwrap();
        let text = task.documents[0].ids.clone();
        let ids = match protocol {
            Windows::Sliding => text.clone(),
            Windows::Rolling => [&[399], &text[..]].concat(),
        };
        let chunks = task.chunks();
        assert!(chunks.len() > 1, "{} tokens", text.len());
        assert!(chunks.iter().all(|&size| size == 1 + buckets(1000).len()));
        let mut score = |ids: &[u32], first: usize| Ok(made_up(ids)[first - 1..].to_vec());
        let (mut nats, mut scored, mut positions, mut from) = (0.0, 0.0, 0.0, 0);
        for size in chunks {
            let items: Vec<usize> = (from..from + size).collect();
            from += size;
            let records = task.score(&items, &ids, &mut score).unwrap();
            assert!(records[0].prompt.len() <= PART + 1000);
            nats += records[0].metrics["nats_per_token"] * records[0].weight;
            scored += records[0].weight;
            positions += records[1..].iter().map(|r| r.weight).sum::<f64>();
        }
        let windows = match protocol {
            Windows::Sliding => sliding(ids.len(), 1000, 600),
            Windows::Rolling => rolling(ids.len(), 1000),
        };
        let mut at_once = 0.0;
        for Window { tokens, scored } in windows {
            let first = scored.start - tokens.start;
            at_once -= made_up(&ids[tokens])[first - 1..]
                .iter()
                .map(|&x| f64::from(x))
                .sum::<f64>();
        }
        assert!((nats - at_once).abs() < 1e-9 * at_once);
        assert_eq!(scored as usize, ids.len() - 1);
        assert_eq!(positions as usize, text.len() / 1000 * 999);
        let distinct: std::collections::BTreeSet<&String> = task.items().iter().collect();
        assert_eq!(distinct.len(), task.items().len());
    }
}

#[test]
fn a_protocol_has_the_keys_that_belong_to_it() {
    let mut spec = spec(48, 20);
    spec.sources = vec![toml::from_str("name = 'x'\npaths = ['a']").unwrap()];
    assert_eq!(spec.problem(), None);
    spec.protocol = Windows::Rolling;
    assert!(spec.problem().unwrap().contains("leave it out"));
    spec.stride = None;
    assert_eq!(spec.problem(), None);
    spec.protocol = Windows::Sliding;
    assert!(spec.problem().unwrap().contains("has no `stride`"));
}
