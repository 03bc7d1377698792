//! The table on the terminal.
use crate::verdict::{Better, Decision, SummaryRow, Tables};
use comfy_table::{CellAlignment, Table, presets};

/// Arms with their scores (means over seeds; passkeys by length), and the decision in plain words.
pub fn table(tables: &Tables, summary: &[SummaryRow], decision: Option<&Decision>) -> String {
    let mut columns: Vec<(String, Option<u64>, String)> = Vec::new();
    for row in summary {
        let by_length = row.protocol == "passkey" && row.length.is_some();
        let loss = match row.protocol.as_str() {
            "sliding" | "rolling" | "next_line" | "choice" | "programs" => true,
            "answer" => row.length.is_none(),
            other => other.starts_with("long_ppl"),
        };
        let shown = row.metric != "bits_per_byte" && row.position.is_empty() && (by_length || loss);
        let column = (
            row.task.clone(),
            row.length.filter(|_| by_length),
            row.metric.clone(),
        );
        if shown && !columns.contains(&column) {
            columns.push(column);
        }
    }
    let mut out = Table::new();
    out.load_style(presets::NOTHING);
    let title = |(task, length, metric): &(String, Option<u64>, String)| {
        let arrow = match Better::of(metric) {
            Some(Better::Higher) => "↑",
            Some(Better::Lower) => "↓",
            None => "",
        };
        let metric = match metric.as_str() {
            "exact_match" => "exact",
            "edit_similarity" => "edit",
            "nats_per_token" => "nats",
            other => other,
        };
        match length {
            Some(length) => format!("{task}\n{length} {arrow}"),
            None => format!("{task}\n{metric} {arrow}"),
        }
    };
    let mut header = vec!["arm".to_string(), "done".into()];
    header.extend(columns.iter().map(title));
    out.set_header(header);
    for arm in tables.arms() {
        let trials: Vec<_> = tables.trials.iter().filter(|t| t.arm == arm).collect();
        let done = trials.iter().filter(|t| t.status == "done").count();
        let mut row = vec![arm.to_string(), format!("{done}/{}", trials.len())];
        for (task, length, metric) in &columns {
            let found = summary.iter().find(|r| {
                r.arm == arm
                    && &r.task == task
                    && &r.metric == metric
                    && r.position.is_empty()
                    && r.protocol != "disjoint"
                    && (!matches!(r.protocol.as_str(), "passkey" | "answer") || r.length == *length)
            });
            row.push(found.map_or(String::new(), |r| format!("{:.3}", r.mean)));
        }
        out.add_row(row);
    }
    for column in out.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines: Vec<String> = out
        .lines()
        .map(|line| line.trim_end().to_string())
        .collect();
    let mut text = lines.join("\n") + "\n";
    if tables.trials.iter().any(|t| t.reduced) {
        text.push_str("Reduced: one seed, a tenth of the tokens and items.\n");
    }
    if let Some(decision) = decision {
        text.push_str(&format!("\n{}\n", decision.why));
    }
    text
}

/// The scores over all positions, one a line, with their standard errors.
pub fn scores(tables: &Tables) -> String {
    let mut out = Table::new();
    out.load_style(presets::NOTHING);
    out.set_header(["task", "protocol", "length", "metric", "value", "±", "n"]);
    for row in tables.scores.iter().filter(|row| row.position.is_empty()) {
        out.add_row([
            row.task.clone(),
            row.protocol.clone(),
            row.length
                .map_or(String::new(), |length| length.to_string()),
            row.metric.clone(),
            format!("{:.4}", row.value),
            row.standard_error
                .map_or(String::new(), |e| format!("{e:.4}")),
            row.n.to_string(),
        ]);
    }
    for column in [2, 4, 5, 6] {
        if let Some(column) = out.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = out.lines().map(|line| line.trim().to_string()).collect();
    lines.join("\n") + "\n"
}
