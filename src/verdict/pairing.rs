//! Two arms on the same items under the same seeds.
use super::{
    Estimate, ItemRow,
    layout::{Item, Uneven},
    share::mcnemar,
};
use std::collections::{BTreeMap, BTreeSet};

/// The difference of two arms in one score.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairing {
    /// First less second.
    pub difference: Estimate,
    /// Mean of each on the paired items.
    pub means: (f64, f64),
    /// Items are right or wrong.
    pub binary: bool,
    /// McNemar's exact p, where there is one seed and no two items share a cluster; it is then the difference's p, too.
    pub mcnemar: Option<f64>,
    /// Items that one of the two alone has.
    pub left_out: usize,
}

impl Pairing {
    /// Two-sided p of no difference, before any correction.
    pub fn p(&self) -> f64 {
        self.mcnemar.unwrap_or_else(|| self.difference.p())
    }
}

/// Why two arms cannot be paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unpaired {
    #[error("they have no items in common")]
    NoItems,
    #[error("they have no seeds in common")]
    NoSeeds,
    #[error("some items are missing under a seed, or are there twice")]
    Uneven,
}

type Key<'a> = (u64, &'a str);

/// Pairs items by their names and lengths. An arm without seeds (the base) stands beside every seed of the other; of two
/// with seeds the common ones are taken.
///
/// # Errors
/// When nothing can be paired.
pub fn pair(first: &[&ItemRow], second: &[&ItemRow]) -> Result<Pairing, Unpaired> {
    let (left, right) = (by_seed(first)?, by_seed(second)?);
    let pairs: Vec<(u64, &Values, &Values)> = match (left.get(&None), right.get(&None)) {
        (Some(a), Some(b)) => vec![(0, a, b)],
        (Some(a), None) => right
            .iter()
            .filter_map(|(s, b)| Some(((*s)?, a, b)))
            .collect(),
        (None, Some(b)) => left
            .iter()
            .filter_map(|(s, a)| Some(((*s)?, a, b)))
            .collect(),
        (None, None) => {
            let both = |(s, a): (&Option<u64>, _)| Some(((*s)?, a, right.get(s)?));
            left.iter().filter_map(both).collect()
        }
    };
    if first.is_empty() || second.is_empty() {
        return Err(Unpaired::NoItems);
    }
    if pairs.is_empty() {
        return Err(Unpaired::NoSeeds);
    }
    let mut items = Vec::new();
    let mut sides = (Vec::new(), Vec::new());
    let mut all: BTreeSet<Key> = BTreeSet::new();
    let mut found: BTreeSet<Key> = BTreeSet::new();
    let (mut gained, mut lost) = (0, 0);
    let mut binary = true;
    for (seed, a, b) in &pairs {
        all.extend(a.keys().chain(b.keys()));
        for (key, row) in a.iter() {
            let Some(other) = b.get(key) else { continue };
            found.insert(*key);
            binary &= [row.value, other.value]
                .iter()
                .all(|v| *v == 0.0 || *v == 1.0);
            gained += u64::from(row.value > other.value);
            lost += u64::from(row.value < other.value);
            let item = |value| Item {
                seed: *seed,
                stratum: key.0,
                item: key.1,
                cluster: &row.cluster,
                value,
                weight: row.weight,
            };
            items.push(item(row.value - other.value));
            sides.0.push(item(row.value));
            sides.1.push(item(other.value));
        }
    }
    if items.is_empty() {
        return Err(Unpaired::NoItems);
    }
    let difference = Estimate::new(&items, binary).map_err(|e| match e {
        Uneven::Empty => Unpaired::NoItems,
        Uneven::Items => Unpaired::Uneven,
    })?;
    let mean = |side: &[Item]| {
        let layout = super::layout::Layout::new(side);
        layout.map_or(f64::NAN, |layout| layout.moments().mean)
    };
    let single = binary && pairs.len() == 1 && difference.clusters == difference.items;
    Ok(Pairing {
        means: (mean(&sides.0), mean(&sides.1)),
        binary,
        mcnemar: single.then(|| mcnemar(gained, lost)),
        left_out: all.len() - found.len(),
        difference,
    })
}

type Values<'a> = BTreeMap<Key<'a>, &'a ItemRow>;

/// Rows by seed, then by length and item.
fn by_seed<'a>(rows: &[&'a ItemRow]) -> Result<BTreeMap<Option<u64>, Values<'a>>, Unpaired> {
    let mut all: BTreeMap<Option<u64>, Values> = BTreeMap::new();
    for row in rows {
        let key = (row.length.unwrap_or_default(), row.item.as_str());
        let of_seed = all.entry(row.seed).or_default();
        if of_seed.insert(key, row).is_some() {
            return Err(Unpaired::Uneven);
        }
    }
    Ok(all)
}
