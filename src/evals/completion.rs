//! Completion of code (after the Long Code Completion task of LongCoder, arXiv:2306.14893): the next line
//! of a held-out file, given a long prefix. Exact match, edit similarity, and the loss of the true line.
use super::record::{Protocol, Record};
use super::task::{NO_SOURCES, a_tenth, at_least_one, chunks_that_fit, held_out};
use super::tokens::Spans;
use super::{Error, Estimate, Kind, Subject, Task, Tokens};
use crate::data::{Document, SourceSpec};
use crate::model::generate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Tokens that are generated for a line, at most; longer lines are not asked for.
const MAX_NEW_TOKENS: usize = 48;
/// Characters of the shortest line that is asked for: a lone brace tells nothing.
const MIN_LINE: usize = 10;
/// What comments begin with in C, Rust, Python and shells; their prose cannot be guessed.
const COMMENTS: [&str; 5] = ["//", "/*", "* ", "# ", "\"\"\""];

/// `kind = "completion"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompletionSpec {
    pub name: String,
    /// Held-out files.
    pub sources: Vec<SourceSpec>,
    /// Tokens of the file that the model is given before the line.
    pub prefix: usize,
    /// Lines to be completed.
    pub items: usize,
    /// Lines of one file, at most.
    pub per_file: usize,
    /// Decides which lines.
    #[serde(default)]
    pub seed: u64,
}

impl Kind for CompletionSpec {
    fn name(&self) -> &str {
        &self.name
    }

    fn sources(&self) -> &[SourceSpec] {
        &self.sources
    }

    fn sources_mut(&mut self) -> &mut [SourceSpec] {
        &mut self.sources
    }

    fn problem(&self) -> Option<String> {
        if self.sources.is_empty() {
            return Some(NO_SOURCES.into());
        }
        let (prefix, items, per_file) = (self.prefix, self.items, self.per_file);
        at_least_one(&[("prefix", prefix), ("items", items), ("per_file", per_file)])
    }

    fn scores(&self) -> Vec<String> {
        ["exact_match", "edit_similarity", "nats_per_token"]
            .map(String::from)
            .to_vec()
    }

    fn longest(&self) -> usize {
        self.prefix
    }

    fn reduce(&mut self) {
        self.items = a_tenth(self.items);
    }

    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error> {
        let documents = held_out(&self.name, &self.sources)?;
        Ok(Box::new(Completion::new(self, tokens, documents)?))
    }
}

/// The prepared task.
pub struct Completion {
    spec: CompletionSpec,
    tokens: Rc<Tokens>,
    lines: Vec<Line>,
    items: Vec<String>,
}

/// A line to be completed.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    /// Name of its file.
    file: String,
    /// Counted from 1.
    number: usize,
    /// The tokenizer's leading special ids and the last `prefix` ids before the line's.
    prompt: Vec<u32>,
    /// The line's ids, as the file's tokenization has them.
    ids: Vec<u32>,
    /// The line, trimmed.
    text: String,
}

impl Completion {
    /// Draws the lines: one of each file, then a second of each, up to `per_file`; files in the order of a
    /// hash of (seed, file), a file's lines in the order of a hash of (seed, file, line).
    ///
    /// # Errors
    /// When the files have too few lines with a prefix that is long enough.
    pub fn new(
        spec: &CompletionSpec,
        tokens: Rc<Tokens>,
        mut documents: Vec<Document>,
    ) -> Result<Self, Error> {
        documents.sort_by_cached_key(|d| (draw(spec.seed, &d.id, 0), d.id.clone()));
        let mut files = Vec::new();
        for document in &documents {
            if files.len() == spec.items {
                break;
            }
            // A token is at least a byte, so what is shorter need not be tokenised.
            if document.text.len() > spec.prefix {
                files.push(lines_of(spec, &tokens, document)?);
                files.retain(|lines| !lines.is_empty());
            }
        }
        let mut lines = Vec::new();
        for turn in 0..spec.per_file {
            lines.extend(files.iter().filter_map(|lines| lines.get(turn).cloned()));
        }
        if lines.len() < spec.items {
            let what = format!(
                "{} items were asked for, but its {} files have only {} lines with {} tokens before \
                 them (at most {} a file); name more sources, or lower `items` or `prefix`",
                spec.items,
                documents.len(),
                lines.len(),
                spec.prefix,
                spec.per_file
            );
            return Err(Error::task(&spec.name, what));
        }
        lines.truncate(spec.items);
        let item = |line: &Line| format!("{}/{}:{}", spec.name, line.file, line.number);
        Ok(Completion {
            items: lines.iter().map(item).collect(),
            spec: spec.clone(),
            tokens,
            lines,
        })
    }

    fn record(&self, index: usize, output: Vec<u32>, log_probs: &[f32]) -> Result<Record, Error> {
        let line = &self.lines[index];
        let output_text = self.tokens.decode(&output)?;
        let found = output_text.lines().next().unwrap_or_default().trim();
        let exact = if found == line.text { 1.0 } else { 0.0 };
        let nats = -log_probs.iter().map(|&x| f64::from(x)).sum::<f64>();
        let weight = line.ids.len() as f64;
        let metrics = BTreeMap::from([
            ("exact_match".to_string(), exact),
            (
                "edit_similarity".to_string(),
                edit_similarity(found, &line.text),
            ),
            ("nats_per_token".to_string(), nats / weight),
        ]);
        Ok(Record {
            task: self.spec.name.clone(),
            protocol: Protocol::NextLine,
            item: self.items[index].clone(),
            index,
            length: self.spec.prefix,
            place: None,
            cluster: line.file.clone(),
            prompt: line.prompt.clone(),
            output,
            output_text,
            expected: line.text.clone(),
            choices: Vec::new(),
            metrics,
            weight,
            samples: Vec::new(),
            threshold: None,
        })
    }
}

impl Task for Completion {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn items(&self) -> &[String] {
        &self.items
    }

    fn chunks(&self) -> Vec<usize> {
        let lines = self.lines.iter();
        chunks_that_fit(lines.map(|line| line.prompt.len() + MAX_NEW_TOKENS))
    }

    fn texts(&self) -> Result<Vec<Document>, Error> {
        let text = |(line, item): (&Line, &String)| {
            let ids = [&line.prompt[..], &line.ids[..]].concat();
            Ok(Document {
                id: item.clone(),
                text: self.tokens.decode(&ids)?,
            })
        };
        self.lines.iter().zip(&self.items).map(text).collect()
    }

    fn estimate(&self) -> Estimate {
        let tokens = |line: &Line| 2 * line.prompt.len() + line.ids.len();
        Estimate {
            prefill: self.lines.iter().map(tokens).sum(),
            generated: self.lines.len() * MAX_NEW_TOKENS,
        }
    }

    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error> {
        let (env, model) = (subject.env, subject.model);
        let prompts: Vec<Vec<u32>> = items
            .iter()
            .map(|&i| self.lines[i].prompt.clone())
            .collect();
        let stop = [self.tokens.newline(), &model.config.eos_token_id].concat();
        let outputs = generate::greedy(env, model, &prompts, MAX_NEW_TOKENS, &stop)?;
        let mut records = Vec::new();
        for (&index, output) in items.iter().zip(outputs) {
            let line = &self.lines[index];
            let ids = [&line.prompt[..], &line.ids].concat();
            let first = line.prompt.len();
            let log_probs = generate::log_probs_from(env, model, &ids, first)?;
            records.push(self.record(index, output, &log_probs)?);
        }
        Ok(records)
    }
}

/// 1 − Levenshtein distance / length of the longer, in characters; 1 of two empty texts.
pub(super) fn edit_similarity(a: &str, b: &str) -> f64 {
    strsim::normalized_levenshtein(a, b)
}

/// A number that decides in which order files and lines are drawn.
fn draw(seed: u64, file: &str, line: usize) -> [u8; 32] {
    *blake3::hash(format!("harness completion/{seed}/{line}/{file}").as_bytes()).as_bytes()
}

/// The lines of one file that are drawn first, at most `per_file`.
fn lines_of(spec: &CompletionSpec, tokens: &Tokens, file: &Document) -> Result<Vec<Line>, Error> {
    let Spans { ids, spans } = tokens.spans(&file.text)?;
    let mut lines = Vec::new();
    let mut start = 0;
    for (number, line) in file
        .text
        .split('\n')
        .enumerate()
        .map(|(i, line)| (i + 1, line))
    {
        let (line_start, line_end) = (start, start + line.len());
        start = line_end + 1;
        let text = line.trim();
        let is_comment = COMMENTS.iter().any(|comment| text.starts_with(comment));
        if text.chars().count() < MIN_LINE || is_comment {
            continue;
        }
        // Indentation is often one token with the newline before it. So the line is taken from the token
        // of its first visible character on: the prompt then ends where the file's own tokens do.
        let visible = line_start + line.len() - line.trim_start().len();
        let first = spans.partition_point(|span| span.1 <= visible);
        let end = spans.partition_point(|span| span.0 < line_end);
        if first < spec.prefix || spans[first].0 < line_start || end - first > MAX_NEW_TOKENS {
            continue;
        }
        lines.push(Line {
            file: file.id.clone(),
            number,
            prompt: [tokens.leading(), &ids[first - spec.prefix..first]].concat(),
            ids: ids[first..end].to_vec(),
            text: text.to_string(),
        });
    }
    lines.sort_by_cached_key(|line| draw(spec.seed, &line.file, line.number));
    lines.truncate(spec.per_file);
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{decoder, tokens};
    use super::*;

    fn spec(items: usize) -> CompletionSpec {
        CompletionSpec {
            name: "code".into(),
            sources: Vec::new(),
            prefix: 60,
            items,
            per_file: 3,
            seed: 1,
        }
    }

    fn documents() -> Vec<Document> {
        let document = |i: usize| {
            Document {
            id: format!("src/part{i}.rs"),
            text: (0..5 * i)
                .map(|j| {
                    format!(
                        "// sum of part {i}\nfn sum_{j}(values: &[u64]) -> u64 {{\n    \
                         let mut total = {j};\n    for x in values {{\n        total += x; // 🦀\n    }}\n\
                         \u{20}   total\n}}\n\n"
                    )
                })
                .collect(),
        }
        };
        (0..6).map(document).collect()
    }

    fn task(items: usize) -> Completion {
        Completion::new(&spec(items), Rc::new(tokens()), documents()).unwrap()
    }

    #[test]
    fn prompt_and_line_are_the_files_own_tokens() {
        let task = task(12);
        let documents = documents();
        for line in &task.lines {
            let file = documents.iter().find(|d| d.id == line.file).unwrap();
            let expected = file.text.lines().nth(line.number - 1).unwrap().trim();
            assert_eq!(line.text, expected);
            assert_eq!(task.tokens.decode(&line.ids).unwrap().trim(), expected);
            assert_eq!(line.prompt.len(), 60);
            let prompt = task.tokens.decode(&line.prompt).unwrap();
            // The prompt ends with the newline before the line and the line's indentation.
            assert_eq!(
                prompt.trim_end_matches([' ', '\t']).chars().last(),
                Some('\n')
            );
            let both = [&line.prompt[..], &line.ids].concat();
            let all = task.tokens.document(&file.text).unwrap();
            assert!(all.windows(both.len()).any(|window| window == both));
            assert!(line.text.len() >= MIN_LINE && !line.text.starts_with("//"));
        }
        // Five files have lines enough; a file gives a third line only when all have given two.
        let per_file = |file: &str| task.lines.iter().filter(|l| l.file == file).count();
        let counts: Vec<usize> = documents.iter().map(|d| per_file(&d.id)).collect();
        assert!(counts.iter().all(|n| [0, 2, 3].contains(n)), "{counts:?}");
    }

    #[test]
    fn the_draw_is_seeded_and_fewer_items_are_the_first_of_more() {
        assert_eq!(task(5).lines, task(12).lines[..5]);
        let mut shuffled = documents();
        shuffled.reverse();
        let again = Completion::new(&spec(12), Rc::new(tokens()), shuffled).unwrap();
        assert_eq!(again.lines, task(12).lines);
        let mut other = spec(12);
        other.seed = 2;
        let other = Completion::new(&other, Rc::new(tokens()), documents()).unwrap();
        assert_ne!(other.items, task(12).items);
    }

    #[test]
    fn too_few_lines_are_an_error_that_counts_them() {
        let error = Completion::new(&spec(99), Rc::new(tokens()), documents())
            .err()
            .unwrap();
        let text = error.to_string();
        assert!(
            text.contains("99 items were asked for, but its 6 files have only"),
            "{text}"
        );
    }

    #[test]
    fn edit_similarity_of_known_pairs() {
        assert_eq!(edit_similarity("", ""), 1.0);
        assert_eq!(edit_similarity("total", ""), 0.0);
        // kitten -> sitting: three edits, seven characters.
        assert!((edit_similarity("kitten", "sitting") - (1.0 - 3.0 / 7.0)).abs() < 1e-12);
        // Characters, not bytes.
        assert!((edit_similarity("é", "e") - 0.0).abs() < 1e-12);
        assert!((edit_similarity("né", "ne") - 0.5).abs() < 1e-12);
    }

    #[test]
    fn an_output_ends_at_eos() {
        let env = crate::ops::Env::cpu();
        let mut model = decoder(&env);
        let task = task(4);
        let run = |model: &crate::model::Decoder| {
            let records = task.run(&Subject { env: &env, model }, &[0, 1, 2, 3]);
            let outputs = records.unwrap().into_iter().map(|record| record.output);
            outputs.collect::<Vec<Vec<u32>>>()
        };
        model.config.eos_token_id = Vec::new();
        let free = run(&model);
        let long = free.iter().position(|output| output.len() > 1).unwrap();
        model.config.eos_token_id = vec![free[long][0]];
        assert_eq!(run(&model)[long], free[long][..1]);
    }

    #[test]
    fn fewer_lines_are_completed_together_where_prompts_are_long() {
        let mut task = task(4);
        assert_eq!(task.chunks(), [4]);
        for line in &mut task.lines {
            line.prompt = vec![0; 6000];
        }
        assert_eq!(task.chunks(), [2, 2]);
    }

    #[test]
    fn an_output_is_scored_up_to_its_newline() {
        let task = task(4);
        let line = task.lines[0].clone();
        let log_probs = vec![-0.5; line.ids.len()];
        let right = task
            .tokens
            .spans(&format!("  {}\n", line.text))
            .unwrap()
            .ids;
        let record = task.record(0, right, &log_probs).unwrap();
        assert_eq!(record.metrics["exact_match"], 1.0);
        assert_eq!(record.metrics["edit_similarity"], 1.0);
        assert_eq!(record.metrics["nats_per_token"], 0.5);
        assert_eq!(record.weight, line.ids.len() as f64);

        let wrong = task
            .tokens
            .spans(&format!("{}x\n{}", line.text, line.text))
            .unwrap()
            .ids;
        let record = task.record(0, wrong, &log_probs).unwrap();
        assert_eq!(record.metrics["exact_match"], 0.0);
        let length = line.text.chars().count() as f64 + 1.0;
        assert!((record.metrics["edit_similarity"] - (1.0 - 1.0 / length)).abs() < 1e-12);
        let record = task.record(0, Vec::new(), &log_probs).unwrap();
        assert_eq!(record.metrics["edit_similarity"], 0.0);
    }
}
