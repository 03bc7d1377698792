//! Planted near duplicates: the share of them that become candidates, against the formula.
use super::{candidates::Pairs, tests::source, *};
use rayon::prelude::*;

/// Words of its own at each place: no two are the same but where the argument is.
fn word(argument: u64) -> String {
    let hash = blake3::hash(&argument.to_le_bytes());
    hash.to_hex()[..7].to_string()
}

/// Two documents with 10 grams in common of each twentieth, of 200 in all; the rest is half the one's, half the other's.
fn planted(seed: u64, pair: u64, twentieths: u64) -> [String; 2] {
    let (shared, own) = (10 * twentieths, (200 - 10 * twentieths) / 2);
    let at = |side: u64, i: u64| word(((seed << 20 | pair) << 2 | side) << 12 | i);
    let common: Vec<String> = (0..shared + 4).map(|i| at(0, i)).collect();
    [1, 2].map(|side| {
        let rest = (0..own).map(|i| at(side, i));
        common
            .iter()
            .cloned()
            .chain(rest)
            .collect::<Vec<_>>()
            .join(" ")
    })
}

/// The share of pairs found at the similarity `twentieths` / 20, and whether any other pair was.
fn found(seed: u64, twentieths: u64, pairs: u64) -> (f64, usize) {
    let folder = tempfile::tempdir().unwrap();
    let spec = DedupSpec {
        seed,
        ..DedupSpec::default()
    };
    let mut dedup = Dedup::open(folder.path(), &spec, &[source("planted")]).unwrap();
    let signer = dedup.signer();
    let signatures: Vec<[Signature; 2]> = (0..pairs)
        .into_par_iter()
        .map(|pair| planted(seed, pair, twentieths).map(|text| signer.sign(&text)))
        .collect();
    for signature in signatures.iter().flatten() {
        dedup.push(0, signature).unwrap();
    }
    dedup.write().unwrap();
    let ranks = Ranks::new(&dedup.segments, 1, 0, 1 << 20).unwrap();
    let segments = &dedup.segments;
    let all = |_| true;
    let mut candidates =
        Pairs::find(segments, spec.bands, &ranks, all, 1 << 20, folder.path()).unwrap();
    let (mut found, mut others) = (0, 0);
    while let Some((a, b)) = candidates.next().unwrap() {
        let (a, b) = (ranks.number(a), ranks.number(b));
        match a / 2 == b / 2 {
            true => found += 1,
            false => others += 1,
        }
    }
    (f64::from(found) / pairs as f64, others)
}

fn check(seeds: &[u64], pairs: u64) {
    for &seed in seeds {
        for twentieths in [19, 18, 16, 12, 8] {
            let s = twentieths as f64 / 20.0;
            let expected = 1.0 - (1.0 - s.powi(8)).powi(14);
            let (share, others) = found(seed, twentieths, pairs);
            println!("seed {seed}, similarity {s}: found {share:.4}, expected {expected:.4}");
            assert!(
                (share - expected).abs() < 0.03,
                "{seed} {s}: {share} {expected}"
            );
            assert_eq!(others, 0);
        }
    }
}

#[test]
fn planted_duplicates_are_found_as_often_as_the_formula_says() {
    check(&[0], 1000);
}

#[test]
#[ignore = "takes a minute without optimisation; run it with --release"]
fn planted_duplicates_are_found_as_often_as_the_formula_says_at_full_size() {
    check(&[0, 1, 2], 5000);
}
