//! Items under several seeds: their mean, and how it varies with seeds and with clusters.
use super::ItemRow;
use std::collections::BTreeMap;

/// One value of one item under one seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Item<'a> {
    pub seed: u64,
    /// Strata weigh the same in the mean, whatever the number of their items: lengths.
    pub stratum: u64,
    pub item: &'a str,
    /// Items of one cluster are not independent.
    pub cluster: &'a str,
    pub value: f64,
    pub weight: f64,
}

impl<'a> From<&'a ItemRow> for Item<'a> {
    fn from(row: &'a ItemRow) -> Self {
        Item {
            seed: row.seed.unwrap_or_default(),
            stratum: row.length.unwrap_or_default(),
            item: &row.item,
            cluster: &row.cluster,
            value: row.value,
            weight: row.weight,
        }
    }
}

/// Why a mean cannot be taken over seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uneven {
    /// There is no item.
    Empty,
    /// The first item that has no value under a seed, or several.
    Item {
        item: String,
        seed: u64,
        values: usize,
    },
    /// All items of a stratum weigh nothing.
    Weightless,
}

/// A cluster's items of one stratum; its weighted sums by seed stand in `Layout::sums`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cell {
    stratum: usize,
    weight: f64,
}

/// Clusters of items, crossed with seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    pub seeds: usize,
    pub items: usize,
    strata: usize,
    /// Items of each stratum.
    sizes: Vec<usize>,
    /// Where each cluster's cells begin, and where the last one's end.
    begins: Vec<usize>,
    cells: Vec<Cell>,
    /// Of each cell, by seed.
    sums: Vec<f64>,
    /// Clusters by the strata that they are in: resampling leaves the strata as large as they are.
    groups: Vec<Vec<usize>>,
    /// Strata of one cluster: what their items add to the variance cannot be told.
    lone: Vec<bool>,
    /// How many sets of clusters share no stratum, those of one cluster aside: each of them costs a degree of freedom.
    parts: usize,
    /// Variances up to this are rounding.
    nothing: f64,
}

/// Rounding of a mean, in the largest value.
const ROUNDING: f64 = 1e-12;

/// A mean over seeds and items with the parts of its variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    pub mean: f64,
    /// What the seeds add to the mean's variance beyond the items; 0 with one seed.
    pub of_seeds: f64,
    /// What the clusters add, their interaction with seeds included. A stratum of one cluster adds nothing to it, and
    /// with one seed there is then nothing at all, as where no stratum has a second cluster.
    pub of_clusters: Option<f64>,
    /// Degrees of freedom of `of_clusters`.
    pub clusters_df: f64,
}

impl Layout {
    /// # Errors
    /// When there is none, or an item is missing under a seed or is there twice.
    pub fn new(items: &[Item]) -> Result<Self, Uneven> {
        let sorted = |values: Vec<u64>| {
            let mut values = values;
            values.sort_unstable();
            values.dedup();
            values
        };
        let seeds = sorted(items.iter().map(|i| i.seed).collect());
        let strata = sorted(items.iter().map(|i| i.stratum).collect());
        if items.is_empty() {
            return Err(Uneven::Empty);
        }
        let mut by_cluster: BTreeMap<&str, BTreeMap<usize, (f64, Vec<f64>)>> = BTreeMap::new();
        let mut counts: BTreeMap<(u64, &str), BTreeMap<u64, usize>> = BTreeMap::new();
        for item in items {
            let place = |all: &[u64], one: u64| all.binary_search(&one).unwrap_or_default();
            let (seed, stratum) = (place(&seeds, item.seed), place(&strata, item.stratum));
            let cells = by_cluster.entry(item.cluster).or_default();
            let cell = cells
                .entry(stratum)
                .or_insert_with(|| (0.0, vec![0.0; seeds.len()]));
            cell.0 += item.weight;
            cell.1[seed] += item.weight * item.value;
            let under = counts.entry((item.stratum, item.item)).or_default();
            *under.entry(item.seed).or_default() += 1;
        }
        for ((_, item), under) in &counts {
            let values = |seed: &u64| under.get(seed).copied().unwrap_or_default();
            if let Some(seed) = seeds.iter().find(|seed| values(seed) != 1) {
                return Err(Uneven::Item {
                    item: (*item).to_string(),
                    seed: *seed,
                    values: values(seed),
                });
            }
        }
        let (mut begins, mut cells, mut sums) = (vec![0], Vec::new(), Vec::new());
        let mut weights = vec![0.0; strata.len()];
        let mut heaviest = vec![0.0f64; strata.len()];
        let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for (cluster, of_cluster) in by_cluster.into_values().enumerate() {
            groups
                .entry(of_cluster.keys().copied().collect())
                .or_default()
                .push(cluster);
            for (stratum, (weight, by_seed)) in of_cluster {
                // An item weighs the same under every seed. Divided at the end, so that whole weights stay whole.
                let weight = weight / seeds.len() as f64;
                weights[stratum] += weight;
                heaviest[stratum] = heaviest[stratum].max(weight);
                cells.push(Cell { stratum, weight });
                sums.extend(by_seed);
            }
            begins.push(cells.len());
        }
        if weights.contains(&0.0) {
            return Err(Uneven::Weightless);
        }
        let lone: Vec<bool> = weights.iter().zip(&heaviest).map(|(w, h)| h >= w).collect();
        let parts = parts(&lone, groups.keys());
        let size = |stratum: &u64| counts.keys().filter(|key| key.0 == *stratum).count();
        let scale = items.iter().map(|i| i.value.abs()).fold(0.0, f64::max);
        Ok(Layout {
            seeds: seeds.len(),
            items: counts.len(),
            strata: strata.len(),
            sizes: strata.iter().map(size).collect(),
            begins,
            cells,
            sums,
            groups: groups.into_values().collect(),
            lone,
            parts,
            nothing: (ROUNDING * scale).powi(2),
        })
    }

    /// How many clusters.
    pub fn clusters(&self) -> usize {
        self.begins.len() - 1
    }

    /// Whether a cluster lies in several strata.
    pub fn is_crossed(&self) -> bool {
        self.cells.len() > self.clusters()
    }

    /// Clusters that a resampling draws from each other's place.
    pub fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    /// The mean and its variance on the clusters as they are.
    pub fn moments(&self) -> Moments {
        let all: Vec<usize> = (0..self.clusters()).collect();
        self.moments_of(&all)
    }

    /// A cluster's cells with their sums by seed.
    fn cells_of(&self, cluster: usize) -> impl Iterator<Item = (&Cell, &[f64])> {
        let (begin, end) = (self.begins[cluster], self.begins[cluster + 1]);
        let sums = self.sums[begin * self.seeds..end * self.seeds].chunks(self.seeds);
        self.cells[begin..end].iter().zip(sums)
    }

    /// Weights of the strata, and means by stratum and seed, over these clusters.
    fn stratum_means(&self, chosen: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let mut weights = vec![0.0; self.strata];
        let mut means = vec![0.0; self.strata * self.seeds];
        for &cluster in chosen {
            for (cell, sums) in self.cells_of(cluster) {
                weights[cell.stratum] += cell.weight;
                let of = &mut means[cell.stratum * self.seeds..][..self.seeds];
                for (mean, sum) in of.iter_mut().zip(sums) {
                    *mean += sum;
                }
            }
        }
        for (of, weight) in means.chunks_mut(self.seeds).zip(&weights) {
            of.iter_mut().for_each(|mean| *mean /= weight);
        }
        (weights, means)
    }

    fn over_strata(&self, means: &[f64]) -> Vec<f64> {
        let strata = self.strata as f64;
        let of = |seed| means.iter().skip(seed).step_by(self.seeds).sum::<f64>() / strata;
        (0..self.seeds).map(of).collect()
    }

    /// Mean and variance over clusters (by number, repeated as often as they are drawn).
    ///
    /// With θ_s the mean under seed s (of the strata's means), the influence of cluster c on it is
    /// u(s, c) = 1/L · Σ_l (Σ w·x − W_c·mean_l) / (W_l·(1 − h)), h = W_c / W_l, the shift of the mean when the cluster
    /// is left out: the jackknife (CR3), which holds for clusters of unequal size, where the plain sandwich is too
    /// small. The mean over seeds has the variance of the clusters, (C − K)/C · Σ_c ū_c², and of the seeds,
    /// Σ_s (θ_s − θ)² / (S·(S − 1)) less their interaction with clusters, which the first holds already; K as in
    /// `parts`. Degrees of freedom of the first are Kish's effective number of clusters less K. Strata of one cluster are
    /// left out of the variance: they are as they are, and only the seeds speak of other values of theirs.
    pub fn moments_of(&self, chosen: &[usize]) -> Moments {
        let (weights, means) = self.stratum_means(chosen);
        let (strata, seeds) = (self.strata as f64, self.seeds as f64);
        let by_seed = self.over_strata(&means);
        let mean = by_seed.iter().sum::<f64>() / seeds;
        let (mut of_clusters, mut interaction, mut concentration) = (0.0, 0.0, 0.0);
        let several = self.lone.iter().filter(|lone| !**lone).count() as f64;
        let mut count = 0.0;
        let mut alone = several == 0.0 || (self.seeds == 1 && self.lone.contains(&true));
        let mut influence = vec![0.0; self.seeds];
        for &cluster in chosen {
            influence.fill(0.0);
            let mut share = 0.0;
            for (cell, sums) in self.cells_of(cluster) {
                if self.lone[cell.stratum] {
                    continue;
                }
                let h = cell.weight / weights[cell.stratum];
                share += h / several;
                // Of those drawn.
                alone |= h >= 1.0;
                let scale = 1.0 / (strata * weights[cell.stratum] * (1.0 - h));
                let of = &means[cell.stratum * self.seeds..][..self.seeds];
                for ((u, sum), mean) in influence.iter_mut().zip(sums).zip(of) {
                    *u += (sum - cell.weight * mean) * scale;
                }
            }
            if share == 0.0 {
                continue;
            }
            count += 1.0;
            let middle = influence.iter().sum::<f64>() / seeds;
            of_clusters += middle * middle;
            interaction += influence.iter().map(|u| (u - middle).powi(2)).sum::<f64>();
            concentration += share * share;
        }
        let parts = self.parts as f64;
        let alone = alone || count <= parts;
        let (of_clusters, interaction) = match alone {
            true => (None, 0.0),
            false => {
                let free = (count - parts) / count;
                (
                    Some(free * of_clusters),
                    free * interaction / (seeds * (seeds - 1.0).max(1.0)),
                )
            }
        };
        let of_seeds = match self.seeds {
            1 => 0.0,
            _ => sum_of_squares(&by_seed, mean) / (seeds * (seeds - 1.0)),
        };
        let clean = |variance: f64| {
            if variance > self.nothing {
                variance
            } else {
                0.0
            }
        };
        Moments {
            mean,
            of_seeds: clean((of_seeds - interaction).max(0.0)),
            of_clusters: of_clusters.map(|v| clean(v.max(interaction))),
            clusters_df: match concentration > 0.0 {
                true => (1.0 / concentration - parts).max(1.0),
                false => 1.0,
            },
        }
    }

    /// Of each stratum: its share, its clusters and its items, where values are right or wrong.
    pub fn strata(&self) -> Vec<Stratum> {
        let all: Vec<usize> = (0..self.clusters()).collect();
        let (_, means) = self.stratum_means(&all);
        let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
        let mut strata: Vec<Stratum> = means
            .chunks(self.seeds)
            .zip(&self.sizes)
            .map(|(of, items)| Stratum {
                share: mean(of),
                clusters: 0,
                items: *items,
            })
            .collect();
        for cell in &self.cells {
            strata[cell.stratum].clusters += 1;
        }
        strata
    }
}

/// A stratum of items that are right or wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stratum {
    pub share: f64,
    pub clusters: usize,
    pub items: usize,
}

/// How many parts the strata fall into when those in which one cluster lies belong together; `lone` ones count for none.
fn parts<'a>(lone: &[bool], sets: impl Iterator<Item = &'a Vec<usize>>) -> usize {
    let mut part: Vec<usize> = (0..lone.len()).collect();
    for set in sets {
        let mut set = set.iter().filter(|&&stratum| !lone[stratum]);
        let Some(&first) = set.next() else { continue };
        for &other in set {
            let (from, to) = (part[other], part[first]);
            part.iter_mut()
                .filter(|p| **p == from)
                .for_each(|p| *p = to);
        }
    }
    let mut part: Vec<usize> = (0..lone.len())
        .filter(|&stratum| !lone[stratum])
        .map(|stratum| part[stratum])
        .collect();
    part.sort_unstable();
    part.dedup();
    part.len()
}

/// Σ (x − mean)².
pub fn sum_of_squares(values: &[f64], mean: f64) -> f64 {
    values.iter().map(|v| (v - mean).powi(2)).sum()
}
