//! Whether intervals cover and decisions keep what they promise, on tables whose truth is known.
//!
//! The full size is `cargo test --release --lib verdict::simulation -- --ignored --nocapture`; what it prints is
//! `results/statistics.md`'s tables (HARNESS_DESIGN="loss, skewed": of those alone). A smaller one always runs.
use super::{
    Better, Decision, DecisionSpec, Estimate, Item, ItemRow, ScoreRow, Status, Tables, TrialRow,
    decide, distribution::normal_cdf,
};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rayon::prelude::*;

/// What an item's value is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Right or wrong, this share of them right.
    Share(f64),
    /// The same at four lengths in turn, with `LENGTHS` of them right.
    Lengths,
    /// A loss around 3 whose deviations are normal.
    Normal,
    /// Student's t with 3 degrees of freedom: heavy tails on both sides.
    Heavy,
    /// Log-normal with σ = 0.5 (skewness 1.75): a long tail above, as losses of documents have it.
    Skewed,
}

/// Shares as a model has them within and beyond its context.
const LENGTHS: [f64; 4] = [0.97, 0.9, 0.5, 0.05];

/// Clusters of items, scored under seeds.
#[derive(Debug, Clone, Copy)]
struct Design {
    kind: Kind,
    clusters: usize,
    seeds: usize,
    /// Sizes are 1 more than an exponential number of mean 8; otherwise each is 8.
    uneven: bool,
    /// Standard deviation over seeds, where that of items in all is 1.
    seed_deviation: f64,
}

impl Design {
    fn label(&self) -> String {
        let kind = match self.kind {
            Kind::Share(share) => format!("share {share}"),
            Kind::Lengths => "four lengths".into(),
            Kind::Normal => "loss, normal".into(),
            Kind::Heavy => "loss, heavy".into(),
            Kind::Skewed => "loss, skewed".into(),
        };
        let sizes = if self.uneven { "unequal" } else { "equal" };
        format!(
            "{kind} | {} | {} | {sizes} | {}",
            self.clusters, self.seeds, self.seed_deviation
        )
    }

    fn deviate(&self, rng: &mut ChaCha8Rng) -> f64 {
        match self.kind {
            Kind::Share(_) | Kind::Lengths | Kind::Normal => normal(rng),
            Kind::Heavy => {
                let chi: f64 = (0..3).map(|_| normal(rng).powi(2)).sum();
                normal(rng) / chi.sqrt()
            }
            Kind::Skewed => {
                // Mean and deviation of exp(Z / 2).
                let (mean, deviation) = (
                    0.125f64.exp(),
                    ((0.25f64.exp() - 1.0) * 0.25f64.exp()).sqrt(),
                );
                ((0.5 * normal(rng)).exp() - mean) / deviation
            }
        }
    }
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// Clusters' sizes, and values by arm, seed and item (items in the order of the clusters).
struct Simulated {
    cluster_of: Vec<usize>,
    values: Vec<Vec<Vec<f64>>>,
}

fn rng(purpose: &str, design: &Design, repetition: usize) -> ChaCha8Rng {
    let key = format!("{purpose}/{design:?}/{repetition}");
    ChaCha8Rng::from_seed(*blake3::hash(key.as_bytes()).as_bytes())
}

/// Arms that differ by `shifts` (in the value's unit; shares are that much larger). Of the variance of an item 0.2 is of
/// its cluster (half of it shared by the arms), 0.5 its own (half shared) and 0.3 noise.
fn simulate(design: &Design, shifts: &[f64], rng: &mut ChaCha8Rng) -> Simulated {
    let arms = shifts.len();
    let total = (1.0 + design.seed_deviation.powi(2)).sqrt();
    let seeds: Vec<Vec<f64>> = (0..arms)
        .map(|_| {
            (0..design.seeds)
                .map(|_| design.seed_deviation * normal(rng))
                .collect()
        })
        .collect();
    let mut cluster_of = Vec::new();
    let mut values = vec![vec![Vec::new(); design.seeds]; arms];
    for cluster in 0..design.clusters {
        let size = match design.uneven {
            true => 1 + (-(1.0 - rng.random::<f64>()).ln() * 8.0) as usize,
            false => 8,
        };
        let part = |variance: f64, rng: &mut ChaCha8Rng| -> Vec<f64> {
            let shared = (variance / 2.0).sqrt() * design.deviate(rng);
            (0..arms)
                .map(|_| shared + (variance / 2.0).sqrt() * design.deviate(rng))
                .collect()
        };
        let of_cluster = part(0.2, rng);
        for _ in 0..size {
            cluster_of.push(cluster);
            let of_item = part(0.5, rng);
            for arm in 0..arms {
                for seed in 0..design.seeds {
                    let noise = 0.3f64.sqrt() * normal(rng);
                    let latent = of_cluster[arm] + of_item[arm] + seeds[arm][seed] + noise;
                    let right = |share: f64| {
                        f64::from(latent + threshold(share + shifts[arm]) * total > 0.0)
                    };
                    let value = match design.kind {
                        Kind::Share(share) => right(share),
                        Kind::Lengths => right(LENGTHS[(cluster_of.len() - 1) % LENGTHS.len()]),
                        _ => 3.0 + shifts[arm] + latent,
                    };
                    values[arm][seed].push(value);
                }
            }
        }
    }
    Simulated { cluster_of, values }
}

/// The normal quantile.
fn threshold(share: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if normal_cdf(middle) < share {
            low = middle
        } else {
            high = middle
        }
    }
    low
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("{i:05}")).collect()
}

fn estimate(
    design: &Design,
    simulated: &Simulated,
    value: impl Fn(usize, usize) -> f64,
    binary: bool,
) -> Estimate {
    let strata = if design.kind == Kind::Lengths {
        LENGTHS.len()
    } else {
        1
    };
    let names = names(simulated.cluster_of.len());
    let mut items = Vec::new();
    for seed in 0..simulated.values[0].len() {
        for (i, &cluster) in simulated.cluster_of.iter().enumerate() {
            items.push(Item {
                seed: seed as u64,
                stratum: (i % strata) as u64,
                item: &names[i],
                cluster: &names[cluster],
                value: value(seed, i),
                weight: 1.0,
            });
        }
    }
    Estimate::new(&items, binary).unwrap()
}

/// How often the 95 % intervals of an arm's score and of the difference of two equal arms hold the truth.
fn coverage(design: &Design, repetitions: usize) -> (f64, f64) {
    let binary = matches!(design.kind, Kind::Share(_) | Kind::Lengths);
    let truth = match design.kind {
        Kind::Share(share) => share,
        Kind::Lengths => LENGTHS.iter().sum::<f64>() / LENGTHS.len() as f64,
        _ => 3.0,
    };
    let once = |repetition| {
        let mut rng = rng("coverage", design, repetition);
        let simulated = simulate(design, &[0.0, 0.0], &mut rng);
        let v = &simulated.values;
        let score = estimate(design, &simulated, |s, i| v[0][s][i], binary);
        let interval = match binary {
            true => Some(score.share_interval(0.05)),
            false => score.interval(0.05),
        };
        let holds = |interval: Option<(f64, f64)>, truth: f64| {
            usize::from(interval.is_some_and(|(low, high)| low <= truth && truth <= high))
        };
        let difference = estimate(design, &simulated, |s, i| v[0][s][i] - v[1][s][i], binary);
        // Where no item differs, nothing is said to differ.
        let same = usize::from(difference.interval(0.05).is_none());
        (
            holds(interval, truth),
            holds(difference.interval(0.05), 0.0) + same,
        )
    };
    let found: Vec<(usize, usize)> = (0..repetitions).into_par_iter().map(once).collect();
    let share = |n: usize| n as f64 / repetitions as f64;
    (
        share(found.iter().map(|f| f.0).sum()),
        share(found.iter().map(|f| f.1).sum()),
    )
}

/// A study's tables: arms of the same tokens, the first the baseline.
fn tables(design: &Design, simulated: &Simulated) -> Tables {
    let mut tables = Tables::default();
    let names = names(simulated.cluster_of.len());
    let metric = metric(design);
    for (arm, seeds) in simulated.values.iter().enumerate() {
        for (seed, values) in seeds.iter().enumerate() {
            let (arm, trial, seed) = (name(arm), format!("{arm} {seed}"), Some(seed as u64));
            tables.trials.push(TrialRow {
                trial: trial.clone(),
                arm: arm.clone(),
                axes: String::new(),
                seed,
                tokens: 1,
                final_loss: None,
                tokens_per_second: None,
                status: "done".into(),
                reason: String::new(),
                rope: String::new(),
                reduced: false,
            });
            tables.scores.push(ScoreRow {
                trial,
                arm: arm.clone(),
                seed,
                task: "task".into(),
                protocol: "own".into(),
                length: Some(0),
                position: String::new(),
                metric: metric.into(),
                value: values.iter().sum::<f64>() / values.len() as f64,
                standard_error: None,
                low: None,
                high: None,
                n: values.len(),
                rope: String::new(),
                reduced: false,
            });
            let item = |(i, &value): (usize, &f64)| ItemRow {
                arm: arm.clone(),
                seed,
                task: "task".into(),
                protocol: "own".into(),
                length: Some(0),
                position: String::new(),
                item: names[i].clone(),
                cluster: names[simulated.cluster_of[i]].clone(),
                metric: metric.into(),
                value,
                weight: 1.0,
            };
            tables.items.extend(values.iter().enumerate().map(item));
        }
    }
    tables
}

/// Studies of arms that are equal, and what becomes of them when one arm is made better.
struct Outcomes {
    /// Share of studies of equal arms that find a recipe.
    equal: f64,
    /// Mean of the smallest differences that they said they could see.
    detectable: f64,
    /// Share of other studies in which the last arm is the recipe when it is better by that.
    wins: f64,
}

/// Studies of `arms` with the first as the baseline.
fn studies(design: &Design, arms: usize, repetitions: usize) -> Outcomes {
    let equal: Vec<(bool, f64)> = each(repetitions, |i| {
        let decision = study("equal", design, arms, 0.0, i);
        let last = decision
            .comparisons
            .iter()
            .find(|c| c.arm == name(arms - 1));
        (
            decision.recipe.is_some(),
            last.and_then(|c| c.detectable).unwrap_or_default(),
        )
    });
    let detectable = equal.iter().map(|e| e.1).sum::<f64>() / repetitions as f64;
    let won = each(repetitions, |i| {
        study("better", design, arms, detectable, i).recipe == Some(name(arms - 1))
    });
    Outcomes {
        equal: share(&equal.iter().map(|e| e.0).collect::<Vec<_>>()),
        detectable,
        wins: share(&won),
    }
}

fn each<T: Send>(repetitions: usize, once: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    (0..repetitions).into_par_iter().map(once).collect()
}

fn share(of: &[bool]) -> f64 {
    of.iter().filter(|x| **x).count() as f64 / of.len() as f64
}

fn name(arm: usize) -> String {
    format!("arm {arm}")
}

/// The decision of one study, whose last arm is better.
fn study(
    purpose: &str,
    design: &Design,
    arms: usize,
    better_by: f64,
    repetition: usize,
) -> Decision {
    let metric = metric(design);
    let spec = DecisionSpec {
        best: format!("task.{metric}"),
        baseline: Some(name(0)),
        ..DecisionSpec::default()
    };
    let mut shifts = vec![0.0; arms];
    shifts[arms - 1] = Better::of(metric).unwrap().sign() * better_by;
    let simulated = simulate(design, &shifts, &mut rng(purpose, design, repetition));
    let decision = decide("simulated", &spec, &tables(design, &simulated)).unwrap();
    assert_eq!(
        decision.recipe.is_none(),
        decision.status == Status::NoDecision
    );
    decision
}

fn metric(design: &Design) -> &'static str {
    match design.kind {
        Kind::Share(_) => "exact_match",
        _ => "nats_per_token",
    }
}

fn designs(kinds: &[Kind], clusters: &[usize], seed_deviations: &[f64]) -> Vec<Design> {
    let mut all = Vec::new();
    for &kind in kinds {
        for &clusters in clusters {
            for seeds in [3, 5] {
                for &seed_deviation in seed_deviations {
                    all.push(Design {
                        kind,
                        clusters,
                        seeds,
                        uneven: true,
                        seed_deviation,
                    });
                }
            }
        }
    }
    all
}

#[test]
fn intervals_cover_and_equal_arms_do_not_win() {
    let design = |kind, uneven, seed_deviation| Design {
        kind,
        clusters: 20,
        seeds: 3,
        uneven,
        seed_deviation,
    };
    for design in [
        design(Kind::Share(0.5), true, 0.1),
        design(Kind::Heavy, true, 0.1),
        design(Kind::Skewed, false, 0.3),
    ] {
        let (score, difference) = coverage(&design, 120);
        let label = design.label();
        // Four standard errors of a share of 0.95 in 120 are 0.08.
        assert!(
            score > 0.87 && difference > 0.87,
            "{label}: {score} {difference}"
        );
        assert!(
            score < 1.0 || difference < 1.0,
            "{label}: nothing ever misses"
        );
        let found = studies(&design, 2, 120);
        eprintln!(
            "{label}: {score} {difference} {} {} {}",
            found.equal, found.detectable, found.wins
        );
        assert!(
            found.equal < 0.13,
            "{label}: equal arms win {}",
            found.equal
        );
        // The mean of what 120 heavy-tailed studies say is above that of 2,000.
        let most = if design.kind == Kind::Heavy {
            0.98
        } else {
            0.95
        };
        assert!(
            (0.62..most).contains(&found.wins),
            "{label}: {} of 0.8",
            found.wins
        );
    }
}

const REPETITIONS: usize = 2000;

#[test]
#[ignore = "minutes; run with --release"]
fn full_size_coverage() {
    println!("| value | clusters | seeds | sizes | seed deviation | score | difference |");
    println!("|---|---:|---:|---|---:|---:|---:|");
    let kinds = [
        Kind::Normal,
        Kind::Heavy,
        Kind::Skewed,
        Kind::Share(0.05),
        Kind::Share(0.5),
        Kind::Share(0.97),
        Kind::Lengths,
    ];
    let mut all = designs(&kinds, &[10, 30, 100], &[0.0, 0.1, 0.5]);
    all.extend(
        designs(&kinds, &[30], &[0.1])
            .into_iter()
            .map(|d| Design { uneven: false, ..d }),
    );
    let wanted = std::env::var("HARNESS_DESIGN").unwrap_or_default();
    for design in all.iter().filter(|d| d.label().starts_with(&wanted)) {
        let (score, difference) = coverage(design, REPETITIONS);
        println!(
            "| {} | {:.1} | {:.1} |",
            design.label(),
            100.0 * score,
            100.0 * difference
        );
    }
}

#[test]
#[ignore = "minutes; run with --release"]
fn full_size_decisions() {
    println!(
        "| value | clusters | seeds | sizes | seed deviation | arms | equal arms win | detectable | better arm wins |"
    );
    println!("|---|---:|---:|---|---:|---:|---:|---:|---:|");
    let kinds = [Kind::Share(0.4), Kind::Heavy, Kind::Skewed];
    let of = |kinds: &[Kind], clusters: &[usize], seeds: usize, deviation: f64| {
        let all = designs(kinds, clusters, &[deviation]).into_iter();
        all.filter(move |d| d.seeds == seeds)
            .map(|d| (d, 2))
            .collect::<Vec<_>>()
    };
    let mut all = of(&kinds, &[30, 10, 100], 3, 0.1);
    all.extend(of(&kinds, &[30], 5, 0.1));
    for arms in [4, 8] {
        all.extend(
            of(&kinds, &[30], 3, 0.1)
                .into_iter()
                .map(|(d, _)| (d, arms)),
        );
    }
    all.extend(of(&kinds, &[30], 3, 0.0));
    // A share cannot be better by more than is wanting of 1.
    all.extend(of(&kinds[1..], &[30], 3, 0.5));
    for (design, arms) in &all {
        let found = studies(design, *arms, REPETITIONS);
        println!(
            "| {} | {arms} | {:.1} | {:.3} | {:.1} |",
            design.label(),
            100.0 * found.equal,
            found.detectable,
            100.0 * found.wins
        );
    }
}
