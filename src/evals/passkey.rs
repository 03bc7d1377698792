//! Passkey retrieval (Mohtashami and Jaggi, arXiv:2305.16300): five digits hidden in filler, asked for at
//! the end. Exact match over context length and depth of the needle.
use super::fit;
use super::record::{Place, Protocol, Record};
use super::task::{a_tenth, at_least_one, chunks_that_fit, lengths_problem, scores_by_length};
use super::{Error, Estimate, Kind, Subject, Task, Tokens};
use crate::data::Document;
use crate::model::generate;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::rc::Rc;

const PREAMBLE: &str = "There is an important info hidden inside a lot of irrelevant text. Find it and \
memorize them. I will quiz you about the important information there.\n";
const FILLER: [&str; 5] = [
    "The grass is green.",
    "The sky is blue.",
    "The sun is yellow.",
    "Here we go.",
    "There and back again.",
];
const QUESTION: &str = "\nWhat is the pass key? The pass key is";

/// Digits of a key.
const DIGITS: usize = 5;

/// `kind = "passkey"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasskeySpec {
    pub name: String,
    /// Tokens of prompt and answer, in the model's own tokens: at most this, and as near as the filler allows.
    pub lengths: Vec<usize>,
    /// Depths of the needle, evenly from 0 (after the preamble) to 1 (before the question).
    pub depths: usize,
    /// Items for each length and depth.
    pub items: usize,
    /// Decides the keys.
    #[serde(default)]
    pub seed: u64,
    /// Mean from which a length counts as passed: gives the score `effective_context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

impl Kind for PasskeySpec {
    fn name(&self) -> &str {
        &self.name
    }

    fn problem(&self) -> Option<String> {
        lengths_problem(&self.lengths, self.threshold)
            .or_else(|| at_least_one(&[("depths", self.depths), ("items", self.items)]))
    }

    fn scores(&self) -> Vec<String> {
        scores_by_length("exact_match", &self.lengths, self.threshold)
    }

    fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    fn reduce(&mut self) {
        self.items = a_tenth(self.items);
    }

    fn prepare(&self, tokens: Rc<Tokens>) -> Result<Box<dyn Task>, Error> {
        Ok(Box::new(Passkey::new(self, tokens)?))
    }
}

/// The prepared task.
pub struct Passkey {
    spec: PasskeySpec,
    tokens: Rc<Tokens>,
    items: Vec<String>,
}

/// One item's prompt.
#[derive(Debug, Clone, PartialEq)]
struct Prompt {
    ids: Vec<u32>,
    /// Tokens of the answer.
    answer: usize,
}

impl Prompt {
    /// Tokens of the prompt and its answer.
    fn tokens(&self) -> usize {
        self.ids.len() + self.answer
    }
}

/// Which length, depth and repetition an item is.
#[derive(Debug, Clone, Copy)]
struct Cell {
    length: usize,
    depth: usize,
    repetition: usize,
}

impl Passkey {
    /// # Errors
    /// When a length has no room for the text around the key.
    pub fn new(spec: &PasskeySpec, tokens: Rc<Tokens>) -> Result<Self, Error> {
        let mut task = Passkey {
            spec: spec.clone(),
            tokens,
            items: Vec::new(),
        };
        for index in 0..spec.lengths.len() * spec.depths * spec.items {
            let cell = task.cell(index);
            let depth = Place::Depth(task.depth(cell.depth));
            let (name, length, item) = (&spec.name, cell.length, cell.repetition);
            task.items.push(format!("{name}/{length}/{depth}/{item}"));
            task.check_room(index)?;
        }
        Ok(task)
    }

    fn cell(&self, index: usize) -> Cell {
        let (items, depths) = (self.spec.items, self.spec.depths);
        Cell {
            length: self.spec.lengths[index / (items * depths)],
            depth: index / items % depths,
            repetition: index % items,
        }
    }

    /// The needle's depth from 0 to 1, to four decimals.
    fn depth(&self, depth: usize) -> f64 {
        let steps = (self.spec.depths - 1).max(1) as f64;
        (depth as f64 / steps * 1e4).round() / 1e4
    }

    /// The key of an item: depends on the task's seed and the item, not on what else the suite has.
    fn key(&self, index: usize) -> String {
        let cell = self.cell(index);
        let depth = Place::Depth(self.depth(cell.depth));
        let (seed, length, item) = (self.spec.seed, cell.length, cell.repetition);
        let name = format!("harness passkey/{seed}/{length}/{depth}/{item}");
        let mut rng = ChaCha8Rng::from_seed(*blake3::hash(name.as_bytes()).as_bytes());
        // 2^32 is no multiple of ten; the bias is 1e-9.
        let digit = |_| char::from(b'0' + (rng.next_u32() % 10) as u8);
        (0..DIGITS).map(digit).collect()
    }

    /// Checks that an item's length has room for the text around its key.
    ///
    /// # Errors
    /// When the prompt without filler is longer.
    fn check_room(&self, index: usize) -> Result<(), Error> {
        let length = self.cell(index).length;
        let key = self.key(index);
        let used = self.encode(&text(&key, 0, 0.0), &key)?.tokens();
        if used > length {
            let what =
                format!("length {length} is too short: the text around the key has {used} tokens");
            return Err(Error::task(&self.spec.name, what));
        }
        Ok(())
    }

    /// The longest prompt that fits the item's length together with its answer.
    fn prompt(&self, index: usize) -> Result<Prompt, Error> {
        let cell = self.cell(index);
        let key = self.key(index);
        let depth = self.depth(cell.depth);
        let of_size = |sentences: usize| self.encode(&text(&key, sentences, depth), &key);
        let count = |sentences: usize| of_size(sentences).map(|prompt| prompt.tokens());
        // A sentence has a token at least.
        let sentences = fit::largest(0, cell.length, cell.length, count)?;
        of_size(sentences.unwrap_or(0))
    }

    fn encode(&self, text: &str, key: &str) -> Result<Prompt, Error> {
        let ids = self.tokens.document(text)?;
        // What the key adds to the question: SentencePiece puts a space of its own before a text that stands alone.
        let asked = self.tokens.spans(QUESTION)?.ids.len();
        let answered = self.tokens.spans(&format!("{QUESTION} {key}"))?.ids.len();
        let answer = answered.saturating_sub(asked);
        Ok(Prompt { ids, answer })
    }

    fn record(&self, index: usize, prompt: Prompt, output: Vec<u32>) -> Result<Record, Error> {
        let cell = self.cell(index);
        let key = self.key(index);
        let output_text = self.tokens.decode(&output)?;
        let found = if is_match(&output_text, &key) {
            1.0
        } else {
            0.0
        };
        Ok(Record {
            task: self.spec.name.clone(),
            protocol: Protocol::Passkey,
            item: self.items[index].clone(),
            index,
            length: cell.length,
            place: Some(Place::Depth(self.depth(cell.depth))),
            cluster: self.items[index].clone(),
            prompt: prompt.ids,
            output,
            output_text,
            expected: key,
            choices: Vec::new(),
            metrics: BTreeMap::from([("exact_match".into(), found)]),
            weight: 1.0,
            samples: Vec::new(),
            threshold: self.spec.threshold,
        })
    }
}

impl Task for Passkey {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn items(&self) -> &[String] {
        &self.items
    }

    fn chunks(&self) -> Vec<usize> {
        // Prompts of different lengths are not put together: the longest decides the cache.
        let per_length = self.spec.depths * self.spec.items;
        let lengths = self.spec.lengths.iter();
        lengths
            .flat_map(|&length| chunks_that_fit(std::iter::repeat_n(length, per_length)))
            .collect()
    }

    fn texts(&self) -> Result<Vec<Document>, Error> {
        Ok(Vec::new())
    }

    fn estimate(&self) -> Estimate {
        let per_length = self.spec.depths * self.spec.items;
        Estimate {
            prefill: per_length * self.spec.lengths.iter().sum::<usize>(),
            generated: self.items.len() * (DIGITS + 1),
        }
    }

    fn run(&self, subject: &Subject, items: &[usize]) -> Result<Vec<Record>, Error> {
        let prompts: Vec<Prompt> = items
            .iter()
            .map(|&i| self.prompt(i))
            .collect::<Result<_, _>>()?;
        let longest_answer = prompts.iter().map(|p| p.answer).max().unwrap_or(0);
        let ids: Vec<Vec<u32>> = prompts.iter().map(|p| p.ids.clone()).collect();
        let (env, model) = (subject.env, subject.model);
        let eos = &model.config.eos_token_id;
        let outputs = generate::greedy(env, model, &ids, longest_answer, eos)?;
        items
            .iter()
            .zip(prompts)
            .zip(outputs)
            .map(|((&index, prompt), mut output)| {
                // What an item scores must not depend on the answers beside it.
                output.truncate(prompt.answer);
                self.record(index, prompt, output)
            })
            .collect()
    }
}

/// The prompt with so many sentences of filler, the needle after the nearest sentence to its depth.
fn text(key: &str, sentences: usize, depth: f64) -> String {
    let needle = format!("The pass key is {key}. Remember it. {key} is the pass key.");
    let before = (depth * sentences as f64).round() as usize;
    let filler = |from: usize, to: usize| (from..to).map(|i| FILLER[i % FILLER.len()]);
    let lines: Vec<&str> = filler(0, before)
        .chain([needle.as_str()])
        .chain(filler(before, sentences))
        .collect();
    format!("{PREAMBLE}{}{QUESTION}", lines.join(" "))
}

/// Whether an output, trimmed, begins with the key.
fn is_match(output: &str, key: &str) -> bool {
    output.trim().starts_with(key)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{decoder, tokens};
    use super::*;

    fn task_with(tokens: Tokens, lengths: &[usize], items: usize) -> Passkey {
        let spec = PasskeySpec {
            name: "passkey".into(),
            lengths: lengths.to_vec(),
            depths: 5,
            items,
            seed: 7,
            threshold: None,
        };
        Passkey::new(&spec, Rc::new(tokens)).unwrap()
    }

    fn task(lengths: &[usize], items: usize) -> Passkey {
        task_with(tokens(), lengths, items)
    }

    #[test]
    fn prompts_fill_their_length_and_never_exceed_it() {
        let task = task(&[200, 256, 511, 1024, 2048], 3);
        for (i, name) in task.items().iter().enumerate() {
            let prompt = task.prompt(i).unwrap();
            let room = task.cell(i).length as i64 - (prompt.ids.len() + prompt.answer) as i64;
            assert!((0..=12).contains(&room), "{name}: {room} tokens of room");
            // The answer is a space and five digits, each a token.
            assert_eq!(prompt.answer, DIGITS + 1);
            let whole = task.tokens.decode(&prompt.ids).unwrap() + " " + &task.key(i);
            let ids = task.tokens.document(&whole).unwrap();
            assert_eq!(
                ids[..prompt.ids.len()],
                prompt.ids,
                "the answer continues the prompt"
            );
        }
    }

    #[test]
    fn prompts_fill_their_length_where_a_text_begins_with_a_space_more() {
        // A token a word. SentencePiece's normalizer puts a space before every text.
        let json = serde_json::json!({
            "version": "1.0",
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ]},
            "pre_tokenizer": {"type": "Split", "pattern": {"String": "▁"}, "behavior": "MergedWithNext",
                "invert": false},
            "model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"},
        });
        let tokenizer: tokenizers::Tokenizer = json.to_string().parse().unwrap();
        let task = task_with(Tokens::new(&tokenizer).unwrap(), &[100, 511, 2000], 2);
        assert_eq!(task.tokens.spans(" Here we go.").unwrap().ids.len(), 4);
        for (i, name) in task.items().iter().enumerate() {
            let prompt = task.prompt(i).unwrap();
            assert_eq!(prompt.answer, 1);
            // A sentence has four words at most.
            let room = task.cell(i).length as i64 - prompt.tokens() as i64;
            assert!((0..4).contains(&room), "{name}: {room} tokens of room");
        }
    }

    #[test]
    fn the_needle_is_at_its_depth() {
        let task = task(&[512, 1000], 1);
        for i in 0..task.items().len() {
            let prompt = task.tokens.decode(&task.prompt(i).unwrap().ids).unwrap();
            let needle = format!("The pass key is {}. Remember it.", task.key(i));
            let body = &prompt[PREAMBLE.len()..prompt.len() - QUESTION.len()];
            let at = body.find(&needle).unwrap();
            let end = at + needle.len() + " 12345 is the pass key.".len();
            let rest = at + body.len() - end;
            let depth = task.depth(task.cell(i).depth);
            assert!(
                (at as f64 / rest as f64 - depth).abs() < 0.05,
                "{at} of {rest}"
            );
            assert_eq!(depth == 0.0, at == 0);
            assert_eq!(depth == 1.0, end == body.len());
            assert!(!prompt.contains("  ") && prompt.ends_with("The pass key is"));
        }
    }

    #[test]
    fn text_is_the_template() {
        let expected = "There is an important info hidden inside a lot of irrelevant text. Find it and \
            memorize them. I will quiz you about the important information there.\n\
            The grass is green. The pass key is 04217. Remember it. 04217 is the pass key. \
            The sky is blue.\nWhat is the pass key? The pass key is";
        assert_eq!(text("04217", 2, 0.5), expected);
    }

    #[test]
    fn keys_are_fresh_and_do_not_depend_on_the_rest_of_the_suite() {
        let few = task(&[256], 4);
        let many = task(&[512, 256], 8);
        let keys: std::collections::BTreeSet<String> =
            (0..many.items().len()).map(|i| many.key(i)).collect();
        assert!(
            keys.len() >= many.items().len() - 1,
            "80 of 100,000 keys are hardly ever equal"
        );
        assert!(
            keys.iter()
                .all(|k| k.len() == 5 && k.bytes().all(|b| b.is_ascii_digit()))
        );
        for (i, item) in few.items().iter().enumerate() {
            let j = many.items().iter().position(|other| other == item).unwrap();
            assert_eq!(few.prompt(i).unwrap(), many.prompt(j).unwrap());
        }
        // Every digit in every place, so nothing can be guessed from the rest.
        for place in 0..DIGITS {
            let digits: std::collections::BTreeSet<u8> =
                keys.iter().map(|k| k.as_bytes()[place]).collect();
            assert_eq!(digits.len(), 10);
        }
    }

    #[test]
    fn exact_match_is_the_first_five_characters_trimmed() {
        assert!(is_match(" 12345", "12345"));
        assert!(is_match("\n12345. Rem", "12345"));
        assert!(!is_match(" 1234", "12345"));
        assert!(!is_match(" 12354", "12345"));
        assert!(!is_match(" x12345", "12345"));
        let task = task(&[256], 1);
        let prompt = task.prompt(2).unwrap();
        let right = task.tokens.spans(&format!(" {}", task.key(2))).unwrap().ids;
        let record = task.record(2, prompt.clone(), right).unwrap();
        assert_eq!(record.metrics["exact_match"], 1.0);
        assert_eq!(record.place, Some(Place::Depth(0.5)));
        let record = task.record(2, prompt, Vec::new()).unwrap();
        assert_eq!(record.metrics["exact_match"], 0.0);
    }

    #[test]
    fn chunks_cover_the_items_and_keep_lengths_apart() {
        let task = task(&[256, 300], 2);
        assert_eq!(task.chunks(), [8, 2, 8, 2]);
        assert_eq!(task.items().len(), 20);
        assert_eq!(task.estimate().prefill, 10 * 556);
        // Of long prompts fewer are continued together.
        assert_eq!(self::task(&[5000], 1).chunks(), [3, 2]);
    }

    #[test]
    fn an_answer_ends_at_eos() {
        let env = crate::ops::Env::cpu();
        let mut model = decoder(&env);
        let task = task(&[200], 1);
        let run = |model: &crate::model::Decoder| {
            let records = task.run(&Subject { env: &env, model }, &[0]);
            records.unwrap().remove(0).output
        };
        model.config.eos_token_id = Vec::new();
        let output = run(&model);
        assert_eq!(output.len(), DIGITS + 1);
        model.config.eos_token_id = vec![output[0]];
        assert_eq!(run(&model), output[..1]);
    }

    #[test]
    fn a_length_without_room_is_an_error() {
        let mut spec = task(&[256], 1).spec;
        spec.lengths = vec![256, 40];
        let error = Passkey::new(&spec, Rc::new(tokens()))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("length 40 is too short"), "{error}");
    }
}
