//! RULER's 13 tasks: their names, templates, and how many tokens an answer has.
use serde::{Deserialize, Serialize};

/// One of the 13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subtask {
    /// One needle, a number, in repeated noise.
    #[serde(rename = "niah_single_1")]
    Single1,
    /// One needle, a number, in essays.
    #[serde(rename = "niah_single_2")]
    Single2,
    /// One needle, a UUID, in essays.
    #[serde(rename = "niah_single_3")]
    Single3,
    /// Four needles in essays, of which one is asked for.
    #[serde(rename = "niah_multikey_1")]
    MultiKey1,
    /// One needle among others that fill the context.
    #[serde(rename = "niah_multikey_2")]
    MultiKey2,
    /// The same with UUIDs for keys and values.
    #[serde(rename = "niah_multikey_3")]
    MultiKey3,
    /// One key with four values in essays.
    #[serde(rename = "niah_multivalue")]
    MultiValue,
    /// Four needles in essays, all of which are asked for.
    #[serde(rename = "niah_multiquery")]
    MultiQuery,
    /// Variables assigned to one another through the noise.
    #[serde(rename = "vt")]
    Variables,
    /// The ten words of a list that are there most often.
    #[serde(rename = "cwe")]
    CommonWords,
    /// The three coded words that are there most often.
    #[serde(rename = "fwe")]
    FrequentWords,
    /// Questions of SQuAD, the paragraph among others.
    #[serde(rename = "qa_1")]
    Squad,
    /// Questions of HotpotQA, its paragraphs among others.
    #[serde(rename = "qa_2")]
    Hotpot,
}

/// A prompt around its context: `before`, the context, `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pub before: String,
    pub after: String,
}

impl Template {
    /// The prompt with a context.
    pub fn around(&self, context: &str) -> String {
        format!("{}{context}{}", self.before, self.after)
    }
}

impl Subtask {
    /// RULER's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Subtask::Single1 => "niah_single_1",
            Subtask::Single2 => "niah_single_2",
            Subtask::Single3 => "niah_single_3",
            Subtask::MultiKey1 => "niah_multikey_1",
            Subtask::MultiKey2 => "niah_multikey_2",
            Subtask::MultiKey3 => "niah_multikey_3",
            Subtask::MultiValue => "niah_multivalue",
            Subtask::MultiQuery => "niah_multiquery",
            Subtask::Variables => "vt",
            Subtask::CommonWords => "cwe",
            Subtask::FrequentWords => "fwe",
            Subtask::Squad => "qa_1",
            Subtask::Hotpot => "qa_2",
        }
    }

    /// Tokens that RULER lets a model generate.
    pub fn answer_tokens(self) -> usize {
        match self {
            Subtask::Variables => 30,
            Subtask::CommonWords => 120,
            Subtask::FrequentWords => 50,
            Subtask::Squad | Subtask::Hotpot => 32,
            _ => 128,
        }
    }

    /// Whether its haystack is made of essays.
    pub fn needs_essays(self) -> bool {
        matches!(
            self,
            Subtask::Single2
                | Subtask::Single3
                | Subtask::MultiKey1
                | Subtask::MultiValue
                | Subtask::MultiQuery
        )
    }

    /// Whether any of the expected strings is enough, or a share of them counts.
    pub fn any_is_enough(self) -> bool {
        matches!(self, Subtask::Squad | Subtask::Hotpot)
    }
}

/// What surrounds a haystack: what the values are called, the keys that are asked for, and whether there is one answer.
pub(super) fn needle_template(values: &str, query: &str, single: bool) -> Template {
    if single {
        let value = values.strip_suffix('s').unwrap_or(values);
        return Template {
            before: format!(
                "A special magic {value} is hidden within the following text. Make sure to memorize it. I will \
                 quiz you about the {value} afterwards.\n"
            ),
            after: format!(
                "\nWhat is the special magic {value} for {query} mentioned in the provided text? The special magic \
                 {value} for {query} mentioned in the provided text is"
            ),
        };
    }
    Template {
        before: format!(
            "Some special magic {values} are hidden within the following text. Make sure to memorize it. I will \
             quiz you about the {values} afterwards.\n"
        ),
        after: format!(
            "\nWhat are all the special magic {values} for {query} mentioned in the provided text? The special \
             magic {values} for {query} mentioned in the provided text are"
        ),
    }
}

/// What surrounds the assignments of variables; "assgined" is RULER's.
pub(super) fn variables_template(value: &str, variables: usize) -> Template {
    Template {
        before: "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n".into(),
        after: format!(
            "\nQuestion: Find all variables that are assigned the value {value} in the text above. Answer: \
             According to the chain(s) of variable assignment in the text above, {variables} variables are \
             assgined the value {value}, they are: "
        ),
    }
}

/// What surrounds the list of common words.
pub(super) fn common_words_template() -> Template {
    Template {
        before: "Below is a numbered list of words. In these words, some appear more often than others. Memorize \
                 the ones that appear most often.\n"
            .into(),
        after: "\nQuestion: What are the 10 most common words in the above list? Answer: The top 10 words that \
                appear most often in the list are:"
            .into(),
    }
}

/// What surrounds the coded words.
pub(super) fn frequent_words_template() -> Template {
    Template {
        before: "Read the following coded text and track the frequency of each coded word. Find the three most \
                 frequently appeared coded words. "
            .into(),
        after: "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most \
                frequently appeared words in the above coded text? Answer: According to the coded text above, \
                the three most frequently appeared words are:"
            .into(),
    }
}

/// What surrounds the documents of a question.
pub(super) fn question_template(question: &str) -> Template {
    let only = "Answer the question based on the given documents. Only give me the answer and do not output any \
                other words.";
    Template {
        before: format!("{only}\n\nThe following are given documents.\n\n"),
        after: format!("\n\n{only}\n\nQuestion: {question} Answer:"),
    }
}
