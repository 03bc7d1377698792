//! The grid that the axes span: every combination of their values.
use super::{AxisSpec, Error, Result, place::Places, study::ArmSpec};
use std::collections::BTreeSet;
use toml::Table;

/// One combination of the axes' values: a study without its seeds.
#[derive(Debug)]
pub(super) struct Arm {
    /// Axis and label.
    pub labels: Vec<(String, String)>,
    /// For each axis the number of its value.
    chosen: Vec<usize>,
    /// The study's file with the values in their places, without what does not belong to a trial.
    pub table: Table,
}

impl Arm {
    /// `rope=yarn-4,mix=7:2:1`, or `default` in a study without axes.
    pub fn name(&self) -> String {
        join(&self.labels)
    }

    /// An error that this arm has: where what it speaks of comes from an axis, at the line of the axis's
    /// value.
    pub fn error(&self, axes: &[AxisSpec], places: &Places, what: String) -> Error {
        let end = what.find([':', ' ']).unwrap_or(what.len());
        let path = &what[..end];
        let within = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}."));
        let axis = axes
            .iter()
            .rposition(|a| within(path, &a.key) || within(&a.key, path));
        match axis {
            Some(i) => {
                let at = format!("axis.{i}.values.{}", self.chosen[i]);
                places.error_at(&at, format!("{what} (in arm {})", self.name()))
            }
            None => places.error_named(what),
        }
    }

    /// What the arm says.
    ///
    /// # Errors
    /// When its table does not say an arm.
    pub fn said(&self, axes: &[AxisSpec], places: &Places) -> Result<ArmSpec> {
        let said = self.table.clone().try_into();
        said.map_err(|e| self.explain(axes, places, &e))
    }

    /// What serde says against the arm's table, as an error of its axes if they are to blame.
    pub fn explain(&self, axes: &[AxisSpec], places: &Places, error: &toml::de::Error) -> Error {
        let message = error.message();
        for (i, axis) in axes.iter().enumerate() {
            if let Some(advice) = axis.corrected(message) {
                let what = format!("axis key `{}` is unknown; {advice}", axis.key);
                return places.error_at(&format!("axis.{i}.key"), what);
            }
        }
        let (line, what) = places.reword(message, None);
        match line {
            Some(_) => places.error(line, what),
            None => {
                let what = format!("arm {}: {what}", self.name());
                places.error_at("axis", what)
            }
        }
    }
}

/// `a=1,b=2`, or `default`.
pub(super) fn join(labels: &[(String, String)]) -> String {
    if labels.is_empty() {
        return "default".into();
    }
    let parts: Vec<String> = labels
        .iter()
        .map(|(axis, label)| format!("{axis}={label}"))
        .collect();
    parts.join(",")
}

/// All arms, the last axis changing fastest.
pub(super) fn arms(study: &Table, axes: &[AxisSpec], places: &Places) -> Result<Vec<Arm>> {
    let mut table = study.clone();
    for key in ["name", "seeds", "axis", "decision"] {
        table.remove(key);
    }
    let mut arms = vec![Arm {
        labels: Vec::new(),
        chosen: Vec::new(),
        table,
    }];
    let mut keys = BTreeSet::new();
    for (i, axis) in axes.iter().enumerate() {
        let wrong = |key: &str, what: String| {
            let what = format!("axis `{}`: {what}", axis.key);
            places.error_at(&format!("axis.{i}.{key}"), what)
        };
        if !keys.insert(axis.key.as_str()) {
            return Err(wrong(
                "key",
                "is there twice; give all its values in one".into(),
            ));
        }
        if axis.key == "seed" || axis.key.starts_with("seeds") {
            return Err(wrong(
                "key",
                "every combination runs with all of `seeds`".into(),
            ));
        }
        let labels = axis.labels().map_err(|what| wrong("values", what))?;
        let alike = axes
            .iter()
            .filter(|a| a.short_name() == axis.short_name())
            .count();
        // `seed` is what every trial's name ends with.
        let name = if alike > 1 || axis.short_name() == "seed" {
            &axis.key
        } else {
            axis.short_name()
        };
        let mut next = Vec::new();
        for arm in &arms {
            for (j, (value, label)) in axis.values.iter().zip(&labels).enumerate() {
                let mut table = arm.table.clone();
                axis.put(&mut table, value)
                    .map_err(|what| wrong("key", what))?;
                let mut labels = arm.labels.clone();
                labels.push((name.to_string(), label.clone()));
                let chosen = arm.chosen.iter().copied().chain([j]).collect();
                next.push(Arm {
                    labels,
                    chosen,
                    table,
                });
            }
        }
        arms = next;
    }
    Ok(arms)
}
