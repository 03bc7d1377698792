//! When an answer is right.

/// What is expected.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Number(String),
    /// The topic, and all topics of the conversation.
    Topic {
        expected: String,
        all: Vec<String>,
    },
}

impl Answer {
    pub fn expected(&self) -> &str {
        match self {
            Answer::Number(expected) | Answer::Topic { expected, .. } => expected,
        }
    }

    /// Whether the output's first number, or the first topic that it names, is the expected one.
    pub fn is_right(&self, output: &str) -> bool {
        match self {
            Answer::Number(expected) => number(output).is_some_and(|(found, _)| found == expected),
            Answer::Topic { expected, all } => {
                first(all, output).is_some_and(|found| found == expected)
            }
        }
    }

    /// Whether more output cannot change that.
    pub fn is_decided(&self, output: &str) -> bool {
        match self {
            Answer::Number(_) => number(output).is_some_and(|(_, ends)| ends),
            Answer::Topic { all, .. } => first(all, output).is_some(),
        }
    }
}

/// The first run of digits, and whether something else comes after it.
fn number(output: &str) -> Option<(&str, bool)> {
    let from = output.find(|c: char| c.is_ascii_digit())?;
    let rest = &output[from..];
    let end = rest.find(|c: char| !c.is_ascii_digit());
    Some((&rest[..end.unwrap_or(rest.len())], end.is_some()))
}

/// The topic that is named first.
fn first<'a>(topics: &'a [String], output: &str) -> Option<&'a String> {
    let output = output.to_lowercase();
    let named = topics
        .iter()
        .filter_map(|topic| Some((output.find(topic.as_str())?, topic)));
    named.min().map(|(_, topic)| topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_first_run_of_digits() {
        let answer = Answer::Number("48213".into());
        for (output, right, decided) in [
            (" 48213.", true, true),
            (" 48213", true, false),
            ("<48213>", true, true),
            (" 482 13", false, true),
            (" 482134 ", false, true),
            (" not 11111 but 48213", false, true),
            (" four", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                (answer.is_right(output), answer.is_decided(output)),
                (right, decided),
                "{output}"
            );
        }
    }

    #[test]
    fn a_topic_is_the_first_that_is_named() {
        let all = ["history of bread", "future of trains", "history of salt"].map(String::from);
        let answer = Answer::Topic {
            expected: "history of salt".into(),
            all: all.to_vec(),
        };
        for (output, right) in [
            (" the History of Salt.", true),
            (" history of salt, after the history of bread", true),
            (" history of bread, then the history of salt", false),
            (" history of", false),
            ("", false),
        ] {
            assert_eq!(answer.is_right(output), right, "{output}");
        }
        assert!(!answer.is_decided(" the history of"));
        assert!(answer.is_decided(" the history of bread"));
    }
}
