//! The model card of an export.
use crate::evals::{Protocol, ScoreRow};
use serde_json::Value;
use std::fmt::Write;

/// What a card says.
#[derive(Debug)]
pub struct Card<'a> {
    /// The trial's name and study, or the checkpoint's name.
    pub title: String,
    /// What the weights are, in sentences.
    pub about: String,
    /// Name and value, one a line.
    pub facts: Vec<(&'a str, String)>,
    /// `rope_parameters` as config.json says them.
    pub rope: Value,
    /// The trial in full, as TOML; base, data, mix, stages, optimizer, seed and suite.
    pub recipe: Option<String>,
    /// Hashes of what the recipe's paths held, by their names.
    pub contents: Vec<(String, String)>,
    pub scores: Vec<ScoreRow>,
}

/// The card as Markdown with Hugging Face's front matter.
pub fn card(card: &Card) -> String {
    let mut out = String::from("---\nlibrary_name: transformers\npipeline_tag: text-generation\n");
    out.push_str("tags:\n- harness\n---\n");
    line(&mut out, &format!("# {}\n\n{}\n", card.title, card.about));
    out.push_str("| | |\n|---|---|\n");
    for (name, value) in &card.facts {
        line(&mut out, &format!("| {name} | {value} |"));
    }
    line(&mut out, "\n## RoPE\n");
    line(
        &mut out,
        "Positions are part of the weights: another base or scaling than this gives another model.\n",
    );
    line(&mut out, &format!("```json\n{:#}\n```", card.rope));
    if let Some(recipe) = &card.recipe {
        line(
            &mut out,
            &format!("\n## Recipe\n\n```toml\n{}\n```", recipe.trim()),
        );
    }
    if !card.contents.is_empty() {
        line(&mut out, "\nWhat its paths held (blake3):\n");
        out.push_str("| | |\n|---|---|\n");
        for (name, hash) in &card.contents {
            line(&mut out, &format!("| {name} | `{hash}` |"));
        }
    }
    if !card.scores.is_empty() {
        scores(&mut out, &card.scores);
    }
    out
}

/// The scores but for those by position, which are for curves.
fn scores(out: &mut String, rows: &[ScoreRow]) {
    line(out, "\n## Scores\n");
    line(
        out,
        "| task | protocol | length | depth | metric | value | standard error | items |",
    );
    out.push_str("|---|---|---:|---:|---|---:|---:|---:|\n");
    for row in rows.iter().filter(|row| row.protocol != Protocol::Disjoint) {
        let length = row.length.map_or(String::new(), |l| l.to_string());
        let place = row
            .depth_or_position
            .as_ref()
            .map_or(String::new(), |p| p.to_string());
        let error = row
            .standard_error
            .map_or(String::new(), |e| format!("{e:.4}"));
        line(
            out,
            &format!(
                "| {} | {} | {length} | {place} | {} | {:.4} | {error} | {} |",
                row.task, row.protocol, row.metric, row.value, row.n
            ),
        );
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}
