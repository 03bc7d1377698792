//! What an evaluation keeps of every item.
use super::Error;
use super::long_ppl::KeyRule;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How an item was scored. Scores under different protocols are not comparable, so every row names its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Greedy continuation; its first five characters must be the key.
    Passkey,
    /// Loss of each token once, in overlapping windows that move by `stride` (Hugging Face's and YaRN's).
    Sliding,
    /// Loss of each token once, in windows of which only the last overlaps, after a BOS (lm-eval's
    /// `loglikelihood_rolling`).
    Rolling,
    /// Loss by position in windows that do not overlap.
    Disjoint,
    /// Loss of the tokens that need the long context, as a judge has it.
    LongPpl(KeyRule),
    /// The likeliest of given continuations.
    Choice,
    /// Greedy continuation, compared with given answers.
    Answer,
    /// Greedy continuation to the end of the line, and the loss of the true line.
    NextLine,
    /// Drawn continuations up to a stop, run with the problem's tests.
    Programs,
    /// Greedy continuation of RULER's prompts for base models; the share of the expected strings in it, or whether
    /// one of the right answers is.
    Ruler,
    /// Greedy answer to a conversation that is written by the model's own chat template.
    ChatTemplate,
    /// The same in lines of `User:` and `Assistant:`, since the model has no template.
    ChatPlain,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Protocol::Passkey => "passkey",
            Protocol::Sliding => "sliding",
            Protocol::Rolling => "rolling",
            Protocol::Disjoint => "disjoint",
            Protocol::LongPpl(rule) => return write!(f, "long_ppl {rule}"),
            Protocol::Choice => "choice",
            Protocol::Answer => "answer",
            Protocol::NextLine => "next_line",
            Protocol::Programs => "programs",
            Protocol::Ruler => "ruler",
            Protocol::ChatTemplate => "chat_template",
            Protocol::ChatPlain => "chat_plain",
        })
    }
}

/// Where in the context or in which part of its task a score was measured; written `0.25`, `32-63` or `niah_single_1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// The needle's depth: 0 after the preamble, 1 before the question.
    Depth(f64),
    /// Positions of the predicted tokens in their window, both ends included.
    Positions { from: usize, to: usize },
    /// One of several tasks that are scored as one; its name begins with a letter.
    Subtask(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Place::Depth(depth) => write!(f, "{depth}"),
            Place::Positions { from, to } => write!(f, "{from}-{to}"),
            Place::Subtask(name) => f.write_str(name),
        }
    }
}

impl From<Place> for String {
    fn from(place: Place) -> String {
        place.to_string()
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with(|c: char| c.is_alphabetic()) {
            return Ok(Place::Subtask(text.to_string()));
        }
        let error = || format!("`{text}` is no depth, range of positions or name");
        match text.split_once('-') {
            Some((from, to)) => Ok(Place::Positions {
                from: from.parse().map_err(|_| error())?,
                to: to.parse().map_err(|_| error())?,
            }),
            None => Ok(Place::Depth(text.parse().map_err(|_| error())?)),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A continuation among which an item chooses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The ids that the model was given, context and continuation.
    pub token_ids: Vec<u32>,
    /// Index of the continuation's first token.
    pub scored_from: usize,
    /// Of the whole continuation, in nats.
    pub logprob: f64,
    /// Whether it is what the model would have said.
    pub greedy: bool,
}

/// One scored item: a line of `records.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The task's name in the suite.
    pub task: String,
    pub protocol: Protocol,
    /// Names the item: the same under every model, so that scores can be paired.
    pub item: String,
    /// The item's place in its task.
    pub index: usize,
    /// Passkey, RULER, dialogue: prompt and answer have at most this many tokens. Losses: tokens of a window.
    /// Completion: tokens of the prefix.
    pub length: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Items of the same cluster are not independent: the document of a loss or a question, the file of a
    /// completion, the conversation of a dialogue, the item itself for a passkey.
    pub cluster: String,
    /// The exact ids that the model was given. Of a loss: the document's. Empty for losses by position,
    /// whose ids are those of the same document's sliding record.
    pub prompt: Vec<u32>,
    /// The ids that it generated.
    pub output: Vec<u32>,
    pub output_text: String,
    pub expected: String,
    /// The continuations of a choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// By metric; `bytes` beside `bits_per_byte` is its weight, not a score.
    pub metrics: BTreeMap<String, f64>,
    /// Weight of `nats_per_token`: scored tokens.
    pub weight: f64,
    /// Where an item is scored by several outputs, these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// The mean from which a length counts as passed, where the suite says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// One of the programs that were drawn for a problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The ids that the model generated.
    pub output: Vec<u32>,
    /// What was run, without the tests.
    pub program: String,
    /// `passed`, or why not: `failed: AssertionError`, `timeout: CPU time`, `memory`, …
    pub outcome: String,
}

/// The records in a log's bytes, and where its last whole line ends.
///
/// # Errors
/// When a line is no record.
pub fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<(usize, Vec<T>), Error> {
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    let mut records = Vec::new();
    let lines = bytes[..whole].split(|&b| b == b'\n');
    for (i, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let record = serde_json::from_slice(line).map_err(|e| Error::Record {
            path: path.to_path_buf(),
            line: i + 1,
            what: e.to_string(),
        })?;
        records.push(record);
    }
    Ok((whole, records))
}

/// The records of one evaluation on disk, one JSON object a line, appended as items are finished.
pub struct RecordLog<T> {
    path: PathBuf,
    file: File,
    records: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> RecordLog<T> {
    /// Opens or makes the file and reads the records that it has. A last line without its end, which a
    /// killed process left, is cut off. The file is locked as long as this is there.
    ///
    /// # Errors
    /// When the file cannot be read or written, another process writes it, or a line is no record: it is then as it
    /// was.
    pub fn open(path: &Path) -> Result<(Self, Vec<T>), Error> {
        let io = |source| Error::Io {
            path: path.to_path_buf(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(io)?;
        // Where nothing can be locked, it is the folder's lock that counts.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::Io {
                path: path.to_path_buf(),
                source: std::io::Error::other(
                    "another process writes here; wait for it, or name another file",
                ),
            });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let (whole, records) = parse(path, &bytes)?;
        // Cut only now, and only what can be the beginning of a record: the file may be another one.
        if whole < bytes.len() {
            let last = &bytes[whole..];
            let is_json = serde_json::from_slice::<IgnoredAny>(last).is_ok();
            // A machine that went down may leave zeros.
            let begun = matches!(last[0], b'{' | 0) && !is_json;
            if !begun && serde_json::from_slice::<T>(last).is_err() {
                return Err(Error::Record {
                    path: path.to_path_buf(),
                    line: records.len() + 1,
                    what: "is no record that was being written; name another file".into(),
                });
            }
            file.set_len(whole as u64).map_err(io)?;
        }
        file.seek(SeekFrom::Start(whole as u64)).map_err(io)?;
        let path = path.to_path_buf();
        let log = RecordLog {
            path,
            file,
            records: PhantomData,
        };
        Ok((log, records))
    }

    /// Appends records in one write and waits until they are on disk.
    pub fn append(&mut self, records: &[T]) -> Result<(), Error> {
        let mut text = String::new();
        for record in records {
            text.push_str(&serde_json::to_string(record).expect("a record has string keys"));
            text.push('\n');
        }
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|source| Error::Io {
                path: self.path.clone(),
                source,
            })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record with what the tests of other files vary.
    pub fn record(task: &str, protocol: Protocol, item: &str) -> Record {
        Record {
            task: task.into(),
            protocol,
            item: item.into(),
            index: 0,
            length: 256,
            place: None,
            cluster: item.into(),
            prompt: vec![1, 2],
            output: vec![3],
            output_text: "\n 1".into(),
            expected: "1".into(),
            choices: Vec::new(),
            metrics: BTreeMap::new(),
            weight: 1.0,
            samples: Vec::new(),
            threshold: None,
        }
    }

    #[test]
    fn places_are_written_as_text() {
        for (place, text) in [
            (Place::Depth(0.25), "0.25"),
            (Place::Depth(1.0), "1"),
            (Place::Positions { from: 32, to: 63 }, "32-63"),
            (Place::Subtask("niah_single_1".into()), "niah_single_1"),
        ] {
            assert_eq!(place.to_string(), text);
            assert_eq!(text.parse(), Ok(place));
        }
        assert!("3.x".parse::<Place>().is_err() && "".parse::<Place>().is_err());
    }

    #[test]
    fn a_log_keeps_numbers_to_the_bit_and_drops_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        let mut written = Vec::new();
        let mut x = 0.1f64;
        for i in 0..2000 {
            x = (x * 997.331).fract();
            let mut record = record("loss", Protocol::Disjoint, &format!("loss/{i}"));
            record.place = Some(Place::Positions { from: 0, to: 31 });
            record.metrics.insert("nats_per_token".into(), x * 9.0);
            written.push(record);
        }
        let (mut log, read) = RecordLog::open(&path).unwrap();
        assert!(read.is_empty());
        log.append(&written[..1500]).unwrap();
        drop(log);
        // Killed while it wrote the next line.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"task\":\"loss\",\"proto").unwrap();
        let (mut log, read) = RecordLog::open(&path).unwrap();
        assert_eq!(read, written[..1500]);
        log.append(&written[1500..]).unwrap();
        let second = RecordLog::<Record>::open(&path).err().unwrap().to_string();
        assert!(second.contains("another process writes here"), "{second}");
        drop(log);
        let (_, read) = RecordLog::<Record>::open(&path).unwrap();
        assert_eq!(read, written);
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        std::fs::write(&path, "{\"task\": 3}\n").unwrap();
        let error = RecordLog::<Record>::open(&path).err().unwrap().to_string();
        assert!(
            error.contains("records.jsonl") && error.contains("line 1"),
            "{error}"
        );
    }

    #[test]
    fn only_the_beginning_of_a_record_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let open = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let opened = RecordLog::<BTreeMap<String, u32>>::open(&path);
            let records = opened.map(|(_, records)| records.len());
            (records.ok(), std::fs::read_to_string(&path).unwrap())
        };
        let whole = "{\"a\": 1}\n";
        for begun in ["{\"b\": ", "{", "\0\0", "{\"b\": 2}"] {
            let text = format!("{whole}{begun}");
            assert_eq!(open(&text), (Some(1), whole.to_string()), "{begun:?}");
        }
        // Other files stay as they are.
        for other in ["text", "[1, 2]", "{\"a\": \"b\"}", "{\"a\": \"b\"}\n{\"c\""] {
            assert_eq!(open(other), (None, other.to_string()));
        }
    }
}
