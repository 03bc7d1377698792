//! What can be told of two arms, and what cannot.
use super::{comparison::compare_all, *};

/// An item of a cluster of its own.
fn row(length: u64, item: usize, value: f64) -> ItemRow {
    ItemRow {
        arm: String::new(),
        seed: None,
        task: "task".into(),
        protocol: String::new(),
        length: Some(length),
        position: String::new(),
        item: format!("{length}/{item}"),
        cluster: format!("{length}/{item}"),
        metric: "metric".into(),
        value,
        weight: 1.0,
    }
}

fn paired(a: &[ItemRow], b: &[ItemRow]) -> std::result::Result<Pairing, Unpaired> {
    pair(&a.iter().collect::<Vec<_>>(), &b.iter().collect::<Vec<_>>())
}

/// The same rows under seeds, with what `shift` adds to each.
fn under(seeds: u64, rows: &[ItemRow], shift: impl Fn(u64) -> f64) -> Vec<ItemRow> {
    let of = |seed| {
        let shift = shift(seed);
        let mut rows = rows.to_vec();
        for row in &mut rows {
            (row.seed, row.value) = (Some(seed), row.value + shift);
        }
        rows
    };
    (0..seeds).flat_map(of).collect()
}

/// 30 items of mixed sign at one length, one item at another.
fn one_alone() -> (Vec<ItemRow>, Vec<ItemRow>) {
    let mixed = (0..30).map(|i| row(256, i, ((i * 7) % 11) as f64 - 4.0));
    let first: Vec<ItemRow> = mixed.chain([row(512, 0, 0.5)]).collect();
    let second = first.iter().map(|r| ItemRow {
        value: 0.0,
        ..r.clone()
    });
    let second = second.collect();
    (first, second)
}

#[test]
fn a_length_of_one_item_tells_no_error_under_one_seed() {
    let (first, second) = one_alone();
    let found = paired(&first, &second).unwrap();
    assert!(!found.difference.has_error());
    assert_eq!((found.p(), found.difference.interval(0.05)), (1.0, None));
    let comparison = &compare_all(&[("a", "b", found)], 1.0, 0)[0];
    assert_eq!(
        (comparison.test.as_str(), comparison.detectable),
        ("", None)
    );
    // The length that has several items, alone, does.
    let several = &first[..30];
    let found = paired(several, &second[..30]).unwrap();
    assert!(found.difference.has_error() && found.p() < 1.0);
}

#[test]
fn under_several_seeds_it_leaves_the_error_of_other_lengths() {
    let (first, second) = one_alone();
    let wobble = |seed: u64| [0.01, -0.02, 0.01][seed as usize];
    let (first, second) = (under(3, &first, wobble), under(3, &second, |_| 0.0));
    let all = paired(&first, &second).unwrap().difference;
    let of_256 = |rows: &[ItemRow]| -> Vec<ItemRow> {
        rows.iter()
            .filter(|r| r.length == Some(256))
            .cloned()
            .collect()
    };
    let several = paired(&of_256(&first), &of_256(&second))
        .unwrap()
        .difference;
    // Half of the weight, and nearly nothing of the seeds.
    let ratio = all.standard_error() / several.standard_error();
    assert!((ratio - 0.5).abs() < 0.01, "{ratio}");
}

#[test]
fn all_right_under_three_seeds_is_no_rounding() {
    // Weights of six thirds add up to less than 2.
    let mut rows: Vec<ItemRow> = (0..21).map(|i| row(256, i, 1.0)).collect();
    rows[20].cluster = rows[0].cluster.clone();
    let items = under(3, &rows, |_| 0.0);
    let items: Vec<Item> = items.iter().map(Item::from).collect();
    let estimate = Estimate::new(&items, true).unwrap();
    assert_eq!((estimate.mean, estimate.standard_error()), (1.0, 0.0));
    let (low, high) = estimate.share_interval(0.1);
    assert!(low > 0.85 && high == 1.0, "{low} {high}");
}

#[test]
fn lengths_that_all_agree_make_a_narrow_mean() {
    // Found at the two short lengths and at none of the long ones: a mean of 0.5 that no other items would move far.
    let rows: Vec<ItemRow> = [(256, 1.0), (512, 1.0), (1024, 0.0), (2048, 0.0)]
        .into_iter()
        .flat_map(|(length, value)| (0..80).map(move |i| row(length, i, value)))
        .collect();
    let items: Vec<Item> = rows.iter().map(Item::from).collect();
    let (low, high) = Estimate::new(&items, true).unwrap().share_interval(0.05);
    assert!(0.47 < low && low < 0.49, "{low}");
    assert!(0.51 < high && high < 0.53, "{high}");
}

#[test]
fn what_does_not_fit_is_named() {
    let rows = rows();
    let changed = |change: &dyn Fn(&mut ItemRow)| {
        let mut rows = rows.clone();
        change(&mut rows[2]);
        let either = [paired(&rows, &self::rows()), paired(&self::rows(), &rows)];
        let [one, other] = either.map(|found| found.unwrap_err().to_string());
        assert_eq!(one, other);
        one
    };
    let said = changed(&|row| row.cluster = "other".into());
    assert!(
        said.contains("\"256/2\" is not in the same cluster"),
        "{said}"
    );
    let said = changed(&|row| row.weight = 2.0);
    assert!(said.contains("\"256/2\" does not weigh the same"), "{said}");
    // Bytes are those of other tokens under another tokenizer, and comparable.
    let bytes = |weight: f64| -> Vec<ItemRow> {
        let of = |row: &ItemRow| ItemRow {
            metric: "bits_per_byte".into(),
            weight: weight + row.value,
            ..row.clone()
        };
        rows.iter().map(of).collect()
    };
    assert!(paired(&bytes(100.0), &bytes(103.0)).is_ok());
    let said = changed(&|row| row.item = "256/1".into());
    assert!(said.contains("\"256/1\" is there more than once"), "{said}");
    let said = changed(&|row| row.seed = Some(1));
    assert!(said.contains("rows with a seed and rows without"), "{said}");
    let weightless: Vec<ItemRow> = rows
        .iter()
        .map(|r| ItemRow {
            weight: 0.0,
            ..r.clone()
        })
        .collect();
    assert_eq!(paired(&weightless, &weightless), Err(Unpaired::Weightless));
    let mut missing = under(2, &rows, |_| 0.0);
    missing.pop();
    let said = paired(&missing, &rows).unwrap_err().to_string();
    assert_eq!(said, "item \"256/3\" has no value under seed 1");
}

fn rows() -> Vec<ItemRow> {
    (0..4).map(|i| row(256, i, i as f64)).collect()
}

#[test]
fn mcnemar_is_for_one_length_and_equal_weights() {
    // Two items lost at one length, 20 of 100 gained at the other: the mean is −0.4, and 20 : 2 is no proof of that.
    let of = |short: f64, long: f64| -> Vec<ItemRow> {
        let short = (0..2).map(move |i| row(256, i, short));
        let long = (0..100).map(move |i| row(512, i, if i < 20 { long } else { 0.0 }));
        short.chain(long).collect()
    };
    let found = paired(&of(0.0, 1.0), &of(1.0, 0.0)).unwrap();
    assert!(found.difference.mean < 0.0 && found.mcnemar.is_none());
    // Five of six is not significant, and no study of six could see less than all of them.
    let (a, b): (Vec<_>, Vec<_>) = (0..6)
        .map(|i| (row(256, i, f64::from(i < 5)), row(256, i, 0.0)))
        .unzip();
    let found = paired(&a, &b).unwrap();
    assert_eq!(found.mcnemar, Some(0.0625));
    let comparison = &compare_all(&[("a", "b", found)], 1.0, 0)[0];
    assert_eq!(comparison.detectable, Some(1.0));
}

#[test]
fn comparisons_that_the_scores_chose_are_corrected_for_all() {
    let (a, b): (Vec<_>, Vec<_>) = (0..10)
        .map(|i| (row(256, i, f64::from(i < 6)), row(256, i, 0.0)))
        .unzip();
    let found = [("a", "b", paired(&a, &b).unwrap())];
    let p = |family| compare_all(&found, 1.0, family)[0].p_corrected;
    assert!((p(0) - 0.03125).abs() < 1e-12 && (p(3) - 3.0 * 0.03125).abs() < 1e-12);
}
