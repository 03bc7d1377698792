//! From the overlaps of all documents to what is done with each.
use super::{Action, Index, Overlap};
use crate::data::clean::Kind;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::BTreeMap, ops::Range};

/// An n-gram in no more training documents is never boilerplate.
const FEW_DOCUMENTS: usize = 10;
/// Boilerplate that the report shows.
const EXAMPLES: usize = 10;
/// A cut takes the rest of the lines that it touches, where this is not more bytes.
const LINE: usize = 1000;

/// What is done with a training document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is left out.
    Drop,
    /// These bytes of it are, and the rest of their lines.
    Cut(Vec<Range<usize>>),
}

/// Takes the overlaps of all training documents, and decides when it has them all.
#[derive(Debug)]
pub struct Decontaminator<'a> {
    index: &'a Index,
    documents: usize,
    found: Vec<(usize, String, Vec<Overlap>)>,
}

/// What is done, by the documents' numbers, and the report of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decontaminated {
    pub decisions: BTreeMap<usize, Decision>,
    pub report: DecontaminateReport,
}

/// What decontamination found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DecontaminateReport {
    /// Evaluation texts that were looked for.
    pub items: usize,
    /// Those that have too few words to be found in prose, and in code.
    pub too_short_for_prose: Vec<String>,
    pub too_short_for_code: Vec<String>,
    /// Training documents that were looked at, and those that are dropped or cut.
    pub documents: usize,
    pub contaminated: usize,
    /// Every run that was found, in the documents' order.
    pub findings: Vec<Finding>,
    /// N-grams that are in too many evaluation texts to be evidence, of prose and of code.
    pub common_in_items: usize,
    /// N-grams that are in too many training documents to be evidence, and the ten most frequent.
    pub common_in_documents: usize,
    pub common_examples: Vec<Common>,
}

/// An evaluation's text in a training document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The ids of the training document and of the evaluation text.
    pub document: String,
    pub item: String,
    /// Words of the run, and its beginning as the document has it.
    pub words: usize,
    pub text: String,
}

/// An n-gram that is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// Training documents that have it.
    pub documents: usize,
    pub text: String,
}

impl<'a> Decontaminator<'a> {
    pub fn new(index: &'a Index) -> Self {
        Self {
            index,
            documents: 0,
            found: Vec::new(),
        }
    }

    /// Adds the next training document with what [`Index::check`] found in it.
    pub fn add(&mut self, id: &str, overlaps: Vec<Overlap>) {
        if !overlaps.is_empty() {
            self.found.push((self.documents, id.to_string(), overlaps));
        }
        self.documents += 1;
    }

    /// Decides over all documents that were added; their numbers count from 0 in that order.
    pub fn finish(self) -> Decontaminated {
        let index = self.index;
        let counts = [Kind::Prose, Kind::Code].map(|kind| self.counts(kind));
        let share = index.spec.common_share * self.documents as f64;
        let many = |count: u32| count as usize > FEW_DOCUMENTS && f64::from(count) > share;
        let is_common = |kind: Kind, gram: u32| many(counts[kind as usize][&gram]);
        let mut report = DecontaminateReport {
            items: index.items.len(),
            documents: self.documents,
            ..Default::default()
        };
        let names = |kind| {
            let short = index.grams(kind).too_short();
            short.map(|item| index.items[item].id.clone()).collect()
        };
        report.too_short_for_prose = names(Kind::Prose);
        report.too_short_for_code = names(Kind::Code);
        for (kind, counts) in [Kind::Prose, Kind::Code].into_iter().zip(&counts) {
            let grams = index.grams(kind);
            report.common_in_items += grams.common;
            let mut common: Vec<(u32, u32)> = counts
                .iter()
                .filter(|(_, count)| many(**count))
                .map(|(gram, count)| (*gram, *count))
                .collect();
            common.sort_unstable_by_key(|(gram, count)| (Reverse(*count), grams.place(*gram)));
            report.common_in_documents += common.len();
            for (gram, count) in common {
                if report.common_examples.len() < EXAMPLES {
                    report.common_examples.push(Common {
                        documents: count as usize,
                        text: grams.text(&index.items, gram).to_string(),
                    });
                }
            }
        }
        let mut decisions = BTreeMap::new();
        for (number, id, mut overlaps) in self.found {
            overlaps.retain(|overlap| {
                let own = longest(&overlap.grams, |gram| !is_common(overlap.kind, gram));
                own > 0 && index.grams(overlap.kind).words(own) >= overlap.required
            });
            if overlaps.is_empty() {
                continue;
            }
            report.contaminated += 1;
            let decision = match index.spec.action {
                Action::Drop => Decision::Drop,
                Action::Cut => {
                    Decision::Cut(merged(overlaps.iter().map(|o| o.bytes.clone()).collect()))
                }
            };
            decisions.insert(number, decision);
            report
                .findings
                .extend(overlaps.into_iter().map(|overlap| Finding {
                    document: id.clone(),
                    item: index.items[overlap.item].id.clone(),
                    words: overlap.words,
                    text: overlap.text,
                }));
        }
        Decontaminated { decisions, report }
    }

    /// In how many documents each n-gram of a kind stands.
    fn counts(&self, kind: Kind) -> FxHashMap<u32, u32> {
        let mut counts = FxHashMap::default();
        for (_, _, overlaps) in &self.found {
            let of_kind = overlaps.iter().filter(|overlap| overlap.kind == kind);
            let mut grams: Vec<u32> = of_kind.flat_map(|o| o.grams.iter().copied()).collect();
            grams.sort_unstable();
            grams.dedup();
            for gram in grams {
                *counts.entry(gram).or_default() += 1;
            }
        }
        counts
    }
}

impl Decision {
    /// The document's text as training sees it; None when it is dropped, or nothing but white space is left.
    ///
    /// A cut takes what is left of the first and the last line, so that no half sentence stays; of lines longer than
    /// 1,000 bytes it takes the found text alone.
    pub fn apply(&self, text: &str) -> Option<String> {
        let Decision::Cut(spans) = self else {
            return None;
        };
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        let lines = spans.iter().map(|span| lines_around(text, span)).collect();
        for span in merged(lines) {
            out.push_str(&text[from..span.start]);
            from = span.end;
        }
        out.push_str(&text[from..]);
        (!out.trim().is_empty()).then_some(out)
    }
}

/// The span with the rest of its lines, the last one's end with it.
fn lines_around(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[span.end..]
        .find('\n')
        .map_or(text.len(), |at| span.end + at + 1);
    let near = |a: usize, b: usize| b - a <= LINE;
    let start = if near(start, span.start) {
        start
    } else {
        span.start
    };
    let end = if near(span.end, end) { end } else { span.end };
    start..end
}

/// Spans in their order, those that touch made one.
fn merged(mut spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    spans.sort_by_key(|span| (span.start, span.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    merged
}

/// The longest stretch of elements that `own` holds for.
fn longest(grams: &[u32], own: impl Fn(u32) -> bool) -> usize {
    let stretches = grams.split(|gram| !own(*gram));
    stretches.map(<[u32]>::len).max().unwrap_or(0)
}
