//! The same candidates as datatrove, given its words and its permutations. What tests/golden/datatrove.py wrote.
use super::{candidates::groups, segment::BAND, tests::source, *};
use serde::Deserialize;
use std::hash::Hasher;
use twox_hash::XxHash64;

#[derive(Deserialize)]
struct Golden {
    ngram: usize,
    rows: usize,
    a: Vec<u64>,
    b: Vec<u64>,
    documents: Vec<String>,
    buckets: Vec<Vec<(u32, u32)>>,
}

/// `(a · x + b mod 2^64) mod 2^61 − 1`, the least over the grams: datatrove's `get_signature`.
fn minima(golden: &Golden, document: &str) -> Vec<u64> {
    let words: Vec<&str> = document.split(' ').collect();
    let mut minima = vec![u64::MAX; golden.a.len()];
    for gram in words.windows(golden.ngram) {
        let mut hash = XxHash64::with_seed(0);
        hash.write(gram.join(" ").as_bytes());
        let x = hash.finish();
        for ((a, b), least) in golden.a.iter().zip(&golden.b).zip(&mut minima) {
            let permuted = a.wrapping_mul(x).wrapping_add(*b) % ((1 << 61) - 1);
            *least = permuted.min(*least);
        }
    }
    minima
}

#[test]
fn candidates_are_datatroves() {
    let golden = include_str!("../../../tests/golden/datatrove.json");
    let golden: Golden = serde_json::from_str(golden).unwrap();
    let spec = DedupSpec {
        ngram: golden.ngram,
        bands: golden.buckets.len(),
        rows: golden.rows,
        ..DedupSpec::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut dedup = Dedup::open(folder.path(), &spec, &[source("golden")]).unwrap();
    for (i, document) in golden.documents.iter().enumerate() {
        let mut signature = dedup.signer().sign(document);
        signature.bands.clear();
        signature.sketch.clear();
        if document.split(' ').count() >= golden.ngram {
            signature.keep(&minima(&golden, document), golden.rows);
        }
        dedup.push(0, &signature).unwrap();
        if i % 50 == 49 {
            dedup.write().unwrap();
        }
    }
    dedup.write().unwrap();
    assert_eq!(dedup.segments.len(), 4);
    let mut all = 0;
    for (band, expected) in golden.buckets.iter().enumerate() {
        let runs = dedup.segments.iter().map(|s| s.band(band)).collect();
        let mut pairs = Vec::new();
        groups::<BAND>(runs, 1, |members| {
            // datatrove names each with the one before.
            pairs.extend(members.windows(2).map(|pair| (pair[0], pair[1])));
            Ok(())
        })
        .unwrap();
        pairs.sort_unstable();
        assert_eq!(&pairs, expected, "band {band}");
        all += pairs.len();
    }
    assert!(all > 150, "{all} pairs");
}
