//! Two arms on the same items under the same seeds.
use super::{
    Estimate, ItemRow,
    layout::{Item, Layout, Uneven},
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
    /// McNemar's exact p, where there is one seed and one length, no two items share a cluster and all weigh the same; it
    /// is then the difference's p, too.
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpaired {
    #[error("they have no items in common")]
    NoItems,
    #[error("they have no seeds in common")]
    NoSeeds,
    #[error("one of them has rows with a seed and rows without")]
    SomeSeeds,
    #[error("item {item:?} has no value under seed {seed}")]
    Missing { item: String, seed: u64 },
    #[error("item {item:?} is there more than once{}", under(seed))]
    Twice { item: String, seed: Option<u64> },
    #[error("item {0:?} is not in the same cluster everywhere")]
    Cluster(String),
    #[error(
        "item {0:?} does not weigh the same everywhere (a loss per token under two tokenizers cannot be compared; bits \
         per byte can)"
    )]
    Weight(String),
    #[error("all items of a length weigh nothing")]
    Weightless,
}

fn under(seed: &Option<u64>) -> String {
    seed.map_or(String::new(), |seed| format!(" under seed {seed}"))
}

impl From<Uneven> for Unpaired {
    fn from(uneven: Uneven) -> Self {
        match uneven {
            Uneven::Empty => Unpaired::NoItems,
            Uneven::Weightless => Unpaired::Weightless,
            Uneven::Item {
                item,
                seed,
                values: 0,
            } => Unpaired::Missing { item, seed },
            Uneven::Item { item, seed, .. } => Unpaired::Twice {
                item,
                seed: Some(seed),
            },
        }
    }
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
    let mut known: BTreeMap<Key, (&ItemRow, f64)> = BTreeMap::new();
    let (mut gained, mut lost) = (0, 0);
    let mut binary = true;
    for (seed, a, b) in &pairs {
        all.extend(a.keys().chain(b.keys()));
        for (key, row) in a.iter() {
            let Some(other) = b.get(key) else { continue };
            found.insert(*key);
            // Two tokenizers leave out another number of bytes, those of a document's first token.
            let weight = match row.metric == "bits_per_byte" {
                true => 0.5 * (row.weight + other.weight),
                false => row.weight,
            };
            let (first, known) = *known.entry(*key).or_insert((row, weight));
            if row.cluster != first.cluster || other.cluster != first.cluster {
                return Err(Unpaired::Cluster(row.item.clone()));
            }
            if weight != known || (row.metric != "bits_per_byte" && other.weight != weight) {
                return Err(Unpaired::Weight(row.item.clone()));
            }
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
                weight,
            };
            items.push(item(row.value - other.value));
            sides.0.push(item(row.value));
            sides.1.push(item(other.value));
        }
    }
    if items.is_empty() {
        return Err(Unpaired::NoItems);
    }
    let difference = Estimate::new(&items, binary)?;
    let mean = |side: &[Item]| Layout::new(side).map(|layout| layout.moments().mean);
    let same = |item: &Item| (item.stratum, item.weight) == (items[0].stratum, items[0].weight);
    let single = binary
        && pairs.len() == 1
        && difference.clusters == difference.items
        && items.iter().all(same);
    Ok(Pairing {
        means: (mean(&sides.0)?, mean(&sides.1)?),
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
            return Err(Unpaired::Twice {
                item: row.item.clone(),
                seed: row.seed,
            });
        }
    }
    if all.len() > 1 && all.contains_key(&None) {
        return Err(Unpaired::SomeSeeds);
    }
    Ok(all)
}
