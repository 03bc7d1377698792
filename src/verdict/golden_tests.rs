//! The statistics against numbers made elsewhere (`tests/golden/statistics.py`).
use super::{
    Estimate, Item,
    bootstrap::Bootstrap,
    distribution::{detectable, mean_of_deviation, student_p, student_quantile},
    holm,
    layout::Layout,
    share::{mcnemar, wilson},
};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/statistics.json")).unwrap()
}

fn close(got: f64, want: &Value, within: f64, what: &str) {
    let want = want.as_f64().unwrap();
    let error = (got - want).abs();
    assert!(
        error <= within * want.abs().max(1e-3),
        "{what}: {got} {want}"
    );
}

fn numbers(value: &Value) -> Vec<f64> {
    let all = value.as_array().unwrap().iter();
    all.map(|v| v.as_f64().unwrap()).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn student_is_scipys_at_any_degrees_of_freedom() {
    let golden = golden();
    for case in golden["quantiles"].as_array().unwrap() {
        let got = student_quantile(number(&case["alpha"]), number(&case["df"]));
        close(got, &case["t"], 1e-7, &case.to_string());
    }
    for case in golden["p_values"].as_array().unwrap() {
        close(
            student_p(number(&case["t"]), number(&case["df"])),
            &case["p"],
            1e-7,
            &case.to_string(),
        );
    }
}

#[test]
fn power_is_statsmodels() {
    for case in golden()["power"].as_array().unwrap() {
        let got = detectable(number(&case["alpha"]), 0.8, number(&case["df"]));
        close(got, &case["shift"], 1e-4, &case.to_string());
    }
}

#[test]
fn mean_deviations_are_scipys() {
    for case in golden()["deviations"].as_array().unwrap() {
        let got = mean_of_deviation(number(&case["df"]));
        close(got, &case["mean"], 1e-10, &case.to_string());
    }
}

#[test]
fn shares_are_statsmodels() {
    let golden = golden();
    for case in golden["wilson"].as_array().unwrap() {
        let n = number(&case["n"]);
        let (low, high) = wilson(number(&case["hits"]) / n, n, student_quantile(0.05, 1e9));
        close(low, &case["low"], 1e-8, &case.to_string());
        close(high, &case["high"], 1e-8, &case.to_string());
    }
    for case in golden["mcnemar"].as_array().unwrap() {
        let (gained, lost) = (
            case["gained"].as_u64().unwrap(),
            case["lost"].as_u64().unwrap(),
        );
        close(mcnemar(gained, lost), &case["p"], 1e-9, &case.to_string());
    }
}

#[test]
fn holm_and_the_interval_over_seeds() {
    let golden = golden();
    let case = &golden["holm"];
    for (got, want) in holm(&numbers(&case["p"]))
        .iter()
        .zip(case["corrected"].as_array().unwrap())
    {
        close(*got, want, 1e-12, "holm");
    }
    let case = &golden["seeds"];
    let estimate = Estimate::of_seeds(&numbers(&case["values"]));
    close(estimate.mean, &case["mean"], 1e-12, "mean");
    close(
        estimate.interval(0.05).unwrap().0,
        &case["low"],
        1e-8,
        "low",
    );
    close(
        estimate.interval(0.05).unwrap().1,
        &case["high"],
        1e-8,
        "high",
    );
    close(estimate.p(), &case["p"], 1e-8, "p");
    assert_eq!(Estimate::of_seeds(&[1.0]).interval(0.05), None);
}

/// The rows of the crossed case; all of one stratum where `flat`.
fn rows(case: &Value, flat: bool) -> Vec<(u64, u64, String, String, f64, f64)> {
    let row = |r: &Value| {
        let text = |i: usize| r[i].as_str().unwrap().to_string();
        let stratum = if flat { 0 } else { r[1].as_u64().unwrap() };
        (
            r[0].as_u64().unwrap(),
            stratum,
            text(2),
            text(3),
            number(&r[4]),
            number(&r[5]),
        )
    };
    case["rows"].as_array().unwrap().iter().map(row).collect()
}

fn items(rows: &[(u64, u64, String, String, f64, f64)]) -> Vec<Item<'_>> {
    let item = |r: &'_ (u64, u64, String, String, f64, f64)| (r.0, r.1, r.4, r.5);
    rows.iter()
        .map(|r| {
            let (seed, stratum, value, weight) = item(r);
            Item {
                seed,
                stratum,
                item: &r.2,
                cluster: &r.3,
                value,
                weight,
            }
        })
        .collect()
}

#[test]
fn the_variance_is_that_of_leaving_clusters_out() {
    let golden = golden();
    let case = &golden["crossed"];
    let rows = rows(case, false);
    let moments = Layout::new(&items(&rows)).unwrap().moments();
    close(moments.mean, &case["mean"], 1e-9, "mean");
    close(moments.of_seeds, &case["of_seeds"], 1e-9, "of seeds");
    close(
        moments.of_clusters.unwrap(),
        &case["of_clusters"],
        1e-9,
        "of clusters",
    );
    close(
        moments.clusters_df,
        &case["clusters_df"],
        1e-9,
        "degrees of freedom",
    );
    // As of right and wrong, it is not resampled.
    let estimate = Estimate::new(&items(&rows), true).unwrap();
    close(
        estimate.interval(0.05).unwrap().0,
        &case["low"],
        1e-7,
        "low",
    );
    close(
        estimate.interval(0.05).unwrap().1,
        &case["high"],
        1e-7,
        "high",
    );
    let edge = estimate.interval(estimate.p()).unwrap();
    assert!(
        edge.0.abs().min(edge.1.abs()) < 1e-6,
        "the interval of level 1 − p ends at 0: {edge:?}"
    );
}

#[test]
fn resamplings_are_numpys_with_the_same_indices() {
    let golden = golden();
    let rows = rows(&golden["crossed"], true);
    let layout = Layout::new(&items(&rows)).unwrap();
    let case = &golden["bootstrap"];
    let indices = |draw: &Value| numbers(draw).iter().map(|c| *c as usize).collect();
    let draws = case["draws"].as_array().unwrap().iter().map(indices);
    let resampled = Bootstrap::from_draws(&layout, &layout.moments(), draws).unwrap();
    close(resampled.quantile(0.05), &case["q95"], 1e-9, "95 %");
    close(resampled.quantile(0.1), &case["q90"], 1e-9, "90 %");
    for (i, want) in case["ratios"].as_array().unwrap().iter().enumerate() {
        close(
            resampled.quantile(1.0 - (20 * i + 1) as f64 / 200.0),
            want,
            1e-9,
            &i.to_string(),
        );
    }
}
