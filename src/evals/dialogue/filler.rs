//! What is talked about between: turns of other people's chats, or lines of other texts.
use crate::data::Document;
use crate::evals::draw::Draw;

/// Who a line may begin with; a template says it again.
const SPEAKERS: [&str; 2] = ["User: ", "Assistant: "];

/// Texts, each the lines that were said.
pub(super) struct Filler {
    chats: Vec<Vec<String>>,
    turn_words: usize,
}

impl Filler {
    /// The lines of each document; those with fewer words than a turn must have are put together.
    pub fn new(documents: &[Document], turn_words: usize) -> Self {
        let lines = |document: &Document| -> Vec<String> {
            let lines = document.text.lines().map(str::trim).map(without_speaker);
            lines
                .filter(|line| !line.is_empty())
                .map(String::from)
                .collect()
        };
        let chats = documents.iter().map(lines);
        Filler {
            chats: chats.filter(|lines| !lines.is_empty()).collect(),
            turn_words,
        }
    }

    /// Turns with `words` words together, the last cut short: whole texts in random order, and again where they have
    /// not enough.
    pub fn turns(&self, draw: &mut Draw, words: usize) -> Vec<String> {
        let mut turns = Vec::new();
        let mut left = words;
        while left > 0 && !self.chats.is_empty() {
            for chat in draw.sample(self.chats.len(), self.chats.len()) {
                left = self.take(chat, left, &mut turns);
                if left == 0 {
                    break;
                }
            }
        }
        turns
    }

    /// Takes turns of a text until `left` words are taken; how many are left then.
    fn take(&self, chat: usize, mut left: usize, turns: &mut Vec<String>) -> usize {
        let mut turn: Vec<String> = Vec::new();
        let mut length = 0;
        for line in &self.chats[chat] {
            let words = line.split_whitespace();
            let taken: Vec<&str> = words.take(left).collect();
            left -= taken.len();
            length += taken.len();
            turn.push(taken.join(" "));
            if length >= self.turn_words || left == 0 {
                turns.push(std::mem::take(&mut turn).join("\n"));
                length = 0;
            }
            if left == 0 {
                return 0;
            }
        }
        if !turn.is_empty() {
            turns.push(turn.join("\n"));
        }
        left
    }
}

fn without_speaker(line: &str) -> &str {
    let named = SPEAKERS
        .iter()
        .find_map(|speaker| line.strip_prefix(speaker));
    named.unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filler(turn_words: usize) -> Filler {
        let document = |text: &str| Document {
            id: text.into(),
            text: text.into(),
        };
        let chats = [
            "User: one two\nAssistant: three\n\nfour five six\n",
            "a b c\nd e",
        ];
        Filler::new(&chats.map(document), turn_words)
    }

    #[test]
    fn turns_are_lines_in_their_order_and_end_with_the_words() {
        for words in 0..25 {
            let turns = filler(1).turns(&mut Draw::new("filler"), words);
            let all: Vec<&str> = turns.iter().flat_map(|turn| turn.split(' ')).collect();
            assert_eq!(all.len(), words);
            // More words go on where fewer ended.
            let more = filler(1).turns(&mut Draw::new("filler"), words + 3);
            let more: Vec<&str> = more.iter().flat_map(|turn| turn.split(' ')).collect();
            assert_eq!(more[..words], all);
        }
        let turns = filler(1).turns(&mut Draw::new("filler"), 11);
        let first = turns.iter().position(|turn| turn == "one two").unwrap();
        assert_eq!(
            turns[first..first + 3],
            ["one two", "three", "four five six"]
        );
    }

    #[test]
    fn long_turns_are_lines_put_together() {
        let turns = filler(3).turns(&mut Draw::new("filler"), 11);
        let mut sorted = turns.clone();
        sorted.sort();
        assert_eq!(sorted, ["a b c", "d e", "four five six", "one two\nthree"]);
    }
}
