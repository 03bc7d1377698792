//! What of which source comes when: long documents, mixes that change, and the lengths that are counted.
use super::*;

#[test]
fn long_documents_come_as_often_as_asked_and_the_sources_share_stays() {
    let folder = tempfile::tempdir().unwrap();
    // A tenth of s0's documents is long: 40 % of its tokens.
    let lengths: Vec<usize> = (0..600)
        .map(|i| if i % 10 == 0 { 300 } else { 50 })
        .collect();
    for packing in [Packing::Concat, Packing::BestFit] {
        let spec = |share: Option<f64>| PlanStage {
            long: share
                .map(|share| ("s0".into(), LongSpec { over: 100, share }))
                .into_iter()
                .collect(),
            ..packed(packing, stage(100, 5, 60, "s0 = 3\ns1 = 1"))
        };
        let stages = vec![spec(None), spec(Some(0.8)), spec(Some(0.0))];
        let plan = Plan::new(sources(folder.path(), &[&lengths, &[90; 30]]), stages, 1).unwrap();
        for (s, share) in [(0, 0.4), (1, 0.8), (2, 0.0)] {
            let rows = &rows(&plan)[s];
            let of = |streams: &[usize]| -> u64 {
                let mine = rows
                    .iter()
                    .filter(|(of, _)| streams.contains(&(*of as usize)));
                mine.flat_map(|(_, pieces)| pieces).map(Piece::len).sum()
            };
            let (source, all) = (of(&plan.of_source[0]) as f64, of(&[0, 1, 2]) as f64);
            let long = of(&plan.of_source[0][1..]) as f64;
            assert!(
                (source - 0.75 * all).abs() <= 100.0,
                "{packing:?} {s}: {source} of {all}"
            );
            assert!(
                (long - share * source).abs() <= 100.0,
                "{packing:?} {s}: {long} of {source}"
            );
        }
    }
}

#[test]
fn long_documents_that_are_not_there_are_missed() {
    let folder = tempfile::tempdir().unwrap();
    let error = |lengths: &[usize], over, share| {
        let spec = PlanStage {
            long: BTreeMap::from([("s0".into(), LongSpec { over, share })]),
            ..stage(8, 1, 2, "s0 = 1")
        };
        Plan::new(sources(folder.path(), &[lengths]), vec![spec], 1)
            .unwrap_err()
            .to_string()
    };
    let said = error(&[5, 9], 20, 0.5);
    assert!(
        said.contains("\"s0\"") && said.contains("more than 20 tokens (`long`): the longest has 9"),
        "{said}"
    );
    let said = error(&[25, 30], 20, 0.5);
    assert!(
        said.contains("have more than 20 tokens; raise `over`"),
        "{said}"
    );
}

#[test]
fn a_mix_goes_from_one_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let spec = PlanStage {
        mix_to: Some(toml::from_str("s0 = 1\ns1 = 4").unwrap()),
        ..stage(10, 4, 250, "s0 = 4\ns1 = 1")
    };
    let plan = Plan::new(
        sources(folder.path(), &[&[40; 20], &[30; 20]]),
        vec![spec],
        1,
    )
    .unwrap();
    let first = |from: usize, to: usize| {
        let part = &plan.stages[0].sequences[from..to];
        part.iter().filter(|(s, _)| *s == 0).count()
    };
    // From 80 % to 20 %: half in all, 77 % of the first tenth and 23 % of the last.
    assert!(first(0, 1000).abs_diff(500) <= 1);
    assert!(first(0, 100).abs_diff(77) <= 1);
    assert!(first(900, 1000).abs_diff(23) <= 2);
    let error = PlanStage {
        mix_to: Some(toml::from_str("s2 = 1").unwrap()),
        ..stage(10, 4, 250, "s0 = 4")
    };
    let error = Plan::new(sources(folder.path(), &[&[40], &[30]]), vec![error], 1).unwrap_err();
    assert!(
        error.to_string().contains("\"s2\" is no data source"),
        "{error}"
    );
}

#[test]
fn lengths_are_counted_as_stored_and_as_seen() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(
        sources(folder.path(), &[&[1, 3, 9, 17], &[5]]),
        vec![stage(10, 1, 3, "s0 = 1")],
        2,
    )
    .unwrap();
    let stored = plan.stored();
    assert_eq!(
        (stored[0].0.as_str(), stored[0].1.count, stored[0].1.tokens),
        ("s0", 4, 30)
    );
    let buckets: Vec<(u64, u64, u64)> = stored[0]
        .1
        .buckets
        .iter()
        .map(|b| (b.from, b.count, b.tokens))
        .collect();
    assert_eq!(buckets, [(1, 1, 1), (2, 1, 3), (8, 1, 9), (16, 1, 17)]);
    let seen = plan.seen(0);
    assert_eq!(seen.len(), 1, "nothing of s1");
    let all: Vec<Piece> = rows(&plan)
        .concat()
        .into_iter()
        .flat_map(|(_, pieces)| pieces)
        .collect();
    assert_eq!(
        (seen[0].spans.count, seen[0].spans.tokens),
        (all.len() as u64, 30)
    );
    assert_eq!(
        seen[0].spans.longest,
        all.iter().map(Piece::len).max().unwrap()
    );
    assert_eq!((seen[0].longer, seen[0].padding, seen[0].unused), (1, 0, 0));
    assert!(plan.seen(1).is_empty());
}
