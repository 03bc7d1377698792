//! Text to token ids and back, as the evaluations need it.
use super::Error;
use super::chat::{Chat, Turn};
use crate::checkpoint::ChatTemplate;
use tokenizers::{DecoderWrapper, Tokenizer};

/// A tokenizer that neither truncates nor pads, with what the tasks ask about its vocabulary.
pub struct Tokens {
    tokenizer: Tokenizer,
    /// Special ids that the tokenizer puts before a text (BOS), from its post-processor.
    leading: Vec<u32>,
    /// For each id the bytes of text that it stands for.
    bytes: Vec<u32>,
    /// Ids whose text has a newline in it.
    newline: Vec<u32>,
    /// How it writes conversations.
    chat: Chat,
}

/// Ids of a text, without special tokens, and the byte range of the text that each stands for.
pub struct Spans {
    pub ids: Vec<u32>,
    pub spans: Vec<(usize, usize)>,
}

impl Tokens {
    /// Takes the tokenizer without its truncation, padding and dropout.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, Error> {
        let mut tokenizer = tokenizer.clone();
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|e| Error::Tokenizer(e.to_string()))?;
        crate::data::without_dropout(&mut tokenizer);
        let special = tokenizer
            .encode("a", true)
            .map_err(|e| Error::Tokenizer(e.to_string()))?;
        // What comes after the text (an EOS) is left out: it would end the text to be continued.
        let leading = special
            .get_ids()
            .iter()
            .zip(special.get_special_tokens_mask())
            .take_while(|&(_, &mask)| mask == 1)
            .map(|(&id, _)| id)
            .collect();
        let mut tokens = Tokens {
            leading,
            bytes: Vec::new(),
            newline: Vec::new(),
            chat: Chat::Plain,
            tokenizer,
        };
        tokens.read_vocabulary()?;
        Ok(tokens)
    }

    /// The same with the template by which the model's conversations are written.
    ///
    /// # Errors
    /// When it is no template.
    pub fn with_chat(mut self, template: Option<ChatTemplate>) -> Result<Self, Error> {
        self.chat = Chat::new(template)?;
        Ok(self)
    }

    fn read_vocabulary(&mut self) -> Result<(), Error> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let byte_level = is_byte_level(self.tokenizer.get_decoder());
        let last_added = added.keys().max().map_or(0, |&id| id as usize + 1);
        let ids = self.tokenizer.get_vocab_size(true).max(last_added);
        for id in 0..ids as u32 {
            let bytes = match (added.get(&id), self.tokenizer.id_to_token(id)) {
                (Some(token), _) if token.special => 0,
                (Some(token), _) => token.content.len(),
                (None, Some(token)) => bytes_of(&token, byte_level),
                (None, None) => 0,
            };
            self.bytes.push(bytes as u32);
            if bytes > 0 && self.decode(&[id])?.contains('\n') {
                self.newline.push(id);
            }
        }
        Ok(())
    }

    /// Ids of `text` as a document begins: after the tokenizer's leading special ids.
    pub fn document(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut ids = self.leading.clone();
        ids.extend(self.spans(text)?.ids);
        Ok(ids)
    }

    /// How conversations are written.
    pub(super) fn chat(&self) -> &Chat {
        &self.chat
    }

    /// Ids of a conversation up to the assistant's next turn, which has begun with `begun`. A template writes the
    /// special ids itself.
    pub(super) fn conversation(&self, turns: &[Turn], begun: &str) -> Result<Vec<u32>, Error> {
        let text = self.chat.text(turns, begun)?;
        match self.chat {
            Chat::Template { .. } => Ok(self.spans(&text)?.ids),
            Chat::Plain => self.document(&text),
        }
    }

    /// Ids of `text` with their byte ranges, without special ids.
    pub fn spans(&self, text: &str) -> Result<Spans, Error> {
        let encoding = self
            .tokenizer
            .encode(text, false)
            .map_err(|e| Error::Tokenizer(e.to_string()))?;
        Ok(Spans {
            ids: encoding.get_ids().to_vec(),
            spans: encoding.get_offsets().to_vec(),
        })
    }

    /// The text of `ids`, without special tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.tokenizer
            .decode(ids, true)
            .map_err(|e| Error::Tokenizer(e.to_string()))
    }

    /// Special ids that begin a text.
    pub fn leading(&self) -> &[u32] {
        &self.leading
    }

    /// Ids at which a line ends: those whose text has a newline in it.
    pub fn newline(&self) -> &[u32] {
        &self.newline
    }

    /// Bytes of text that `ids` stand for. Exact where a character is split over tokens, too: a token of
    /// a byte-level vocabulary has one character a byte, a byte-fallback token is one byte.
    pub fn bytes(&self, ids: &[u32]) -> usize {
        ids.iter()
            .map(|&id| self.bytes.get(id as usize).map_or(0, |&n| n as usize))
            .sum()
    }
}

fn is_byte_level(decoder: Option<&DecoderWrapper>) -> bool {
    match decoder {
        Some(DecoderWrapper::ByteLevel(_)) => true,
        Some(DecoderWrapper::Sequence(all)) => all
            .get_decoders()
            .iter()
            .any(|decoder| is_byte_level(Some(decoder))),
        _ => false,
    }
}

/// Bytes of text that a vocabulary entry stands for.
fn bytes_of(token: &str, byte_level: bool) -> usize {
    if byte_level {
        return token.chars().count();
    }
    let is_byte = token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
    // SentencePiece writes a space as U+2581.
    if is_byte {
        1
    } else {
        token.replace('\u{2581}', " ").len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::tokens;
    use super::*;

    #[test]
    fn bytes_of_a_text_are_exact_though_characters_are_split() {
        let tokens = tokens();
        let text = "naïve 🦀 crates\n\tdon’t panic — 12345";
        let ids = tokens.document(text).unwrap();
        assert_eq!(tokens.bytes(&ids), text.len());
        // The crab is four bytes and not in the vocabulary: its parts add up as well.
        let crab = tokens.document("🦀").unwrap();
        assert!(crab.len() > 1);
        assert_eq!(tokens.bytes(&crab), 4);
        assert!(tokens.bytes(&crab[..1]) < 4);
    }

    #[test]
    fn sentencepiece_entries() {
        assert_eq!(bytes_of("\u{2581}the", false), 4);
        assert_eq!(bytes_of("<0x0A>", false), 1);
        assert_eq!(bytes_of("<0x0A>", true), 6);
    }

    #[test]
    fn newline_ids_are_those_that_decode_to_one() {
        let tokens = tokens();
        let line = tokens.document("Here we go.\n").unwrap();
        assert!(tokens.newline().contains(line.last().unwrap()));
        assert!(
            !line[..line.len() - 1]
                .iter()
                .any(|id| tokens.newline().contains(id))
        );
    }

    #[test]
    fn a_text_begins_with_bos_once_and_does_not_end_with_eos() {
        use tokenizers::processors::template::TemplateProcessing;
        let mut tokenizer = super::super::testing::tokenizer();
        let special = |text: &str| tokenizers::AddedToken::from(text, true);
        tokenizer
            .add_special_tokens([special("<s>"), special("</s>")])
            .unwrap();
        let (bos, eos) = (
            tokenizer.token_to_id("<s>").unwrap(),
            tokenizer.token_to_id("</s>").unwrap(),
        );
        let template = TemplateProcessing::builder()
            .try_single("<s> $A </s>")
            .unwrap()
            .special_tokens(vec![("<s>", bos), ("</s>", eos)])
            .build()
            .unwrap();
        tokenizer.with_post_processor(Some(template));
        let tokens = Tokens::new(&tokenizer).unwrap();
        let ids = tokens.document("Here we go.").unwrap();
        assert_eq!(ids[0], bos);
        assert_eq!(ids.iter().filter(|&&id| id == bos || id == eos).count(), 1);
        assert_eq!(tokens.bytes(&ids), "Here we go.".len());
        assert_eq!(tokens.decode(&ids).unwrap(), "Here we go.");
    }
}
