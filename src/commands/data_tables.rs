//! How a study's data came about, as tables for people.
use crate::{
    data::{
        Lengths,
        prepare::{PreparationReport, SourceReport},
    },
    experiment::{ArmsData, DataManifest},
};
use comfy_table::{CellAlignment, Table, presets};

/// The manifest as text: what each step left of each source; with `all`, every rule, pair and finding, too.
pub(super) fn text(manifest: &DataManifest, all: bool) -> String {
    let mut out = String::new();
    for data in &manifest.preparations {
        if manifest.preparations.len() > 1 {
            out += &format!("arms {}\n", data.arms.join(", "));
        }
        out += &steps(&data.report);
        if all {
            details(data, &mut out);
        }
    }
    out
}

/// A table whose columns but the first are numbers.
fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn push(out: &mut String, title: &str, table: &Table) {
    *out += &format!("\n{title}\n{}\n", table.trim_fmt());
}

/// What each step left of each source.
fn steps(report: &PreparationReport) -> String {
    let mut steps = table([
        "source",
        "after",
        "documents",
        "bytes",
        "tokens",
        "bytes/token",
    ]);
    for source in &report.sources {
        for (i, left) in source.steps.iter().enumerate() {
            let last = i + 1 == source.steps.len();
            let (tokens, each) = match last {
                true => tokens(source),
                false => (String::new(), String::new()),
            };
            let count = left.count;
            steps.add_row([
                if i == 0 {
                    source.name.clone()
                } else {
                    String::new()
                },
                left.after.to_string(),
                count.documents.to_string(),
                count.bytes.to_string(),
                tokens,
                each,
            ]);
        }
        if source.steps.is_empty() {
            let empty = String::new();
            let (tokens, _) = tokens(source);
            let documents = source.documents.to_string();
            steps.add_row([
                source.name.clone(),
                empty.clone(),
                documents,
                empty.clone(),
                tokens,
                empty,
            ]);
        }
    }
    format!("{}\n", steps.trim_fmt())
}

/// Tokens, and bytes of text for each.
fn tokens(source: &SourceReport) -> (String, String) {
    let bytes = source.steps.last().map_or(0, |left| left.count.bytes);
    let each = bytes as f64 / source.tokens.max(1) as f64;
    (source.tokens.to_string(), format!("{each:.2}"))
}

fn details(data: &ArmsData, out: &mut String) {
    let report = &data.report;
    let mut inputs = table(["input", "content", "files", "documents", "bytes"]);
    for source in &report.sources {
        if let Some(read) = &source.read {
            inputs.add_row([
                source.name.clone(),
                source.content.clone(),
                read.files.to_string(),
                read.documents.to_string(),
                read.bytes.to_string(),
            ]);
        }
    }
    push(out, "Inputs, with the hash of their documents", &inputs);
    for source in &report.sources {
        of_source(source, out);
    }
    if let Some(dedup) = &report.dedup {
        let mut pairs = table(["gone from", "duplicate of", "exact", "near"]);
        for pair in &dedup.sources {
            let (exact, near) = (pair.exact.to_string(), pair.near.to_string());
            pairs.add_row([pair.from.clone(), pair.duplicate_of.clone(), exact, near]);
        }
        let title = format!(
            "Duplicates: {} documents with those held out, {} stay; {} candidate pairs, {} refused as less similar",
            dedup.documents, dedup.kept, dedup.candidates, dedup.refused
        );
        push(out, &title, &pairs);
        let mut clusters = table(["size of cluster", "clusters"]);
        for (size, n) in &dedup.clusters {
            clusters.add_row([size.to_string(), n.to_string()]);
        }
        push(out, "Clusters of duplicates", &clusters);
        let mut examples = table(["gone", "stays", "similarity"]);
        let name = |number| {
            report
                .dedup_examples
                .get(&number)
                .cloned()
                .unwrap_or_default()
        };
        for example in &dedup.examples {
            let similarity = format!("{:.2}", example.similarity);
            examples.add_row([name(example.gone), name(example.stays), similarity]);
        }
        push(out, "Examples of near duplicates", &examples);
    }
    if let Some(found) = &report.decontaminate {
        let mut findings = table(["document", "item", "words", "text"]);
        for finding in &found.findings {
            findings.add_row([
                finding.document.clone(),
                finding.item.clone(),
                finding.words.to_string(),
                excerpt(&finding.text),
            ]);
        }
        let title = format!(
            "Evaluation texts: {} looked for ({} too short in prose, {} in code) in {} documents, {} of which hold one",
            found.items,
            found.too_short_for_prose.len(),
            found.too_short_for_code.len(),
            found.documents,
            found.contaminated
        );
        push(out, &title, &findings);
    }
    let mut lengths = table(["source", "tokens of a document", "documents", "tokens"]);
    for (source, stored) in &data.lengths {
        for bucket in &stored.buckets {
            lengths.add_row([
                source.clone(),
                format!("{} to {}", bucket.from, 2 * bucket.from - 1),
                bucket.count.to_string(),
                bucket.tokens.to_string(),
            ]);
        }
    }
    push(out, "Lengths of documents", &lengths);
    trained(data, out);
}

/// What training takes and sees.
fn trained(data: &ArmsData, out: &mut String) {
    let mut trained = table(["arm", "source", "tokens", "epochs"]);
    for (arm, all) in &data.trained {
        for taken in &all.sources {
            trained.add_row([
                arm.clone(),
                taken.source.clone(),
                taken.tokens.to_string(),
                format!("{:.2}", taken.epochs),
            ]);
        }
    }
    push(out, "What training takes", &trained);
    let mut seen = table([
        "arm",
        "stage",
        "source",
        "sequences",
        "spans",
        "median",
        "longest",
        "cut",
        "longer",
        "padding",
        "unused",
    ]);
    for (arm, all) in &data.trained {
        for (stage, sources) in all.stages.iter().enumerate() {
            for source in sources {
                let spans = &source.spans;
                seen.add_row([
                    arm.clone(),
                    stage.to_string(),
                    source.source.clone(),
                    source.sequences.to_string(),
                    spans.count.to_string(),
                    median(spans),
                    spans.longest.to_string(),
                    source.cut.to_string(),
                    source.longer.to_string(),
                    source.padding.to_string(),
                    source.unused.to_string(),
                ]);
            }
        }
    }
    let title = "What training sees: parts of one document in a sequence (spans), documents that fit and are cut, \
                 documents longer than a sequence, tokens of padding and of ends that are left out";
    push(out, title, &seen);
}

/// The power of two in which the median lies.
fn median(lengths: &Lengths) -> String {
    let mut before = 0;
    let bucket = lengths.buckets.iter().find(|bucket| {
        before += bucket.count;
        2 * before >= lengths.count
    });
    bucket.map_or(String::new(), |b| {
        format!("{} to {}", b.from, 2 * b.from - 1)
    })
}

/// What reading and cleaning left out of a source.
fn of_source(source: &SourceReport, out: &mut String) {
    let mut left_out = table(["why", "documents", "bytes", "first"]);
    for (reason, found) in source.read.iter().flat_map(|read| &read.left_out) {
        left_out.add_row([
            reason.to_string(),
            found.documents.to_string(),
            found.bytes.to_string(),
            found.examples.first().cloned().unwrap_or_default(),
        ]);
    }
    if let Some(clean) = &source.clean {
        let dropped = clean
            .dropped
            .iter()
            .map(|(rule, effect)| (format!("rule {rule}"), effect));
        let repaired = clean
            .repaired
            .iter()
            .map(|(repair, effect)| (format!("repaired: {repair}"), effect));
        for (why, effect) in dropped.chain(repaired) {
            let first = effect.examples.first().map(|e| e.document.clone());
            left_out.add_row([
                why,
                effect.count.documents.to_string(),
                effect.count.bytes.to_string(),
                first.unwrap_or_default(),
            ]);
        }
    }
    if !left_out.is_empty() {
        push(
            out,
            &format!("{}: left out and repaired", source.name),
            &left_out,
        );
    }
}

/// A text's beginning, in one line.
fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
