//! From a document's text to its tokens.
use super::{Document, Error, Result, megatron::Writer};
use rayon::prelude::*;
use tokenizers::{ModelWrapper, Tokenizer};

/// A longer text is encoded in pieces of about this many bytes: the tokenizer's working memory is
/// about a hundred times the text that it is given, and should stay in the processor's cache.
const PIECE: usize = 32 << 10;
/// Bytes on either side of a cut that are looked at to see that it changes nothing.
const WINDOW: usize = 256;
/// Places that are tried for one cut.
const TRIES: usize = 64;

/// Bytes of documents that are encoded together.
const BATCH: usize = 16 << 20;

/// Writes the tokens of all documents, each between the ids that the writer's [`super::megatron::About`] names. A batch of them is
/// encoded in parallel while the next one is read: two batches are in memory, or one document that is longer.
///
/// The documents are those that come after the writer's first [`Writer::documents`].
///
/// # Errors
/// The first error of the iterator, the tokenizer or the writer; what came before it is kept.
pub fn encode_all(
    documents: impl Iterator<Item = Result<Document>> + Send,
    encoder: &Encoder,
    writer: &mut Writer,
) -> Result<()> {
    let mut documents = documents;
    let mut next = batch(&mut documents);
    loop {
        let (texts, failed) = next;
        let last = failed.is_some() || texts.is_empty();
        let encode = || texts.par_iter().map(|d| encoder.encode(&d.text)).collect();
        let read = || match last {
            true => (Vec::new(), None),
            false => batch(&mut documents),
        };
        let (encoded, after): (Result<Vec<_>>, _) = rayon::join(encode, read);
        for ids in encoded? {
            writer.push_between(ids)?;
        }
        match failed {
            Some(error) => return Err(error),
            None if last => return Ok(()),
            None => next = after,
        }
    }
}

/// The next documents, and the error that ended them.
fn batch(documents: &mut impl Iterator<Item = Result<Document>>) -> (Vec<Document>, Option<Error>) {
    let (mut all, mut bytes) = (Vec::new(), 0);
    for document in documents {
        match document {
            Ok(document) => {
                bytes += document.text.len();
                all.push(document);
            }
            Err(error) => return (all, Some(error)),
        }
        if bytes >= BATCH {
            break;
        }
    }
    (all, None)
}

/// Switches off what makes a text other tokens each time: BPE's dropout, which draws without a seed.
pub fn without_dropout(tokenizer: &mut Tokenizer) {
    let mut model = tokenizer.get_model().clone();
    if let ModelWrapper::BPE(bpe) = &mut model
        && bpe.dropout.take().is_some()
    {
        tokenizer.with_model(model);
    }
}

/// Encodes documents as plain text: no template, no truncation, no padding, and what reads like a
/// special token is text.
pub struct Encoder(Tokenizer);

impl Encoder {
    /// An encoder that sets aside what this tokenizer says of templates, length and padding.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let mut tokenizer = tokenizer.clone();
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .expect("no truncation is always valid");
        tokenizer.set_encode_special_tokens(true);
        without_dropout(&mut tokenizer);
        Self(tokenizer)
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let failed = |e: tokenizers::Error| Error::Tokenizer(e.to_string());
        let pieces = self.pieces(text).map_err(failed)?;
        let encoded: Vec<Vec<u32>> = pieces
            .par_iter()
            .map(|piece| self.ids(piece))
            .collect::<tokenizers::Result<_>>()
            .map_err(failed)?;
        Ok(encoded.concat())
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.0
    }

    fn ids(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        Ok(self.0.encode_fast(text, false)?.get_ids().to_vec())
    }

    /// Cuts a long text where that does not change its tokens.
    fn pieces<'a>(&self, text: &'a str) -> tokenizers::Result<Vec<&'a str>> {
        let mut pieces = Vec::new();
        let mut rest = text;
        'long: while rest.len() > PIECE {
            for at in candidates(rest).take(TRIES) {
                let (left, right) = rest.split_at(at);
                let (left, right) = (last(left), first(right));
                let mut apart = self.ids(left)?;
                apart.extend(self.ids(right)?);
                if apart == self.ids(&format!("{left}{right}"))? {
                    let (piece, after) = rest.split_at(at);
                    pieces.push(piece);
                    rest = after;
                    continue 'long;
                }
            }
            // A tokenizer that knows no words: the text stays whole.
            break;
        }
        pieces.push(rest);
        Ok(pieces)
    }
}

/// Places before `PIECE`, from the last on, where words end: behind a line, before a space.
fn candidates(text: &str) -> impl Iterator<Item = usize> + '_ {
    let bytes = text.as_bytes();
    let word = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
    (2..PIECE).rev().filter(move |&at| {
        let line = bytes[at - 1] == b'\n' && word(at) && !bytes[at - 2].is_ascii_whitespace();
        let space = bytes[at] == b' ' && word(at - 1) && word(at + 1);
        line || space
    })
}

fn last(text: &str) -> &str {
    let mut from = text.len().saturating_sub(WINDOW);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

fn first(text: &str) -> &str {
    let mut to = text.len().min(WINDOW);
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    &text[..to]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Document, train_tokenizer};
    use tokenizers::{PaddingParams, PaddingStrategy, TruncationParams, models::bpe::BPE};

    /// Two and a half pieces of lines that differ, with characters of several bytes.
    fn long_text() -> String {
        let mut text = String::new();
        let mut i = 0u64;
        while text.len() < PIECE * 5 / 2 {
            i += 1;
            text.push_str(&format!(
                "Zeile {} – naïve\tcafé  {{\n\n    x += {};\n",
                i * i % 9973,
                i
            ));
        }
        text
    }

    fn trained(text: &str, vocabulary: usize) -> Tokenizer {
        let document = Document {
            id: "d".into(),
            text: text.into(),
        };
        train_tokenizer(&[document], vocabulary).unwrap()
    }

    #[test]
    fn pieces_give_the_tokens_of_the_whole() {
        let text = long_text();
        let encoder = Encoder::new(&trained(&text[..4000], 280));
        let pieces = encoder.pieces(&text).unwrap();
        assert!(pieces.len() >= 3);
        assert!(pieces.iter().all(|p| p.len() <= PIECE));
        assert_eq!(encoder.encode(&text).unwrap(), encoder.ids(&text).unwrap());
    }

    #[test]
    fn a_text_is_all_text_whatever_the_tokenizer_is_set_to() {
        let text = "left <|endoftext|> right ".repeat(20);
        let mut tokenizer = trained(&text, 270);
        let plain = Encoder::new(&tokenizer).encode(&text).unwrap();
        assert!(!plain.contains(&0), "no end of a document inside one");
        assert_eq!(tokenizer.decode(&plain, false).unwrap(), text);
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: 5,
                ..Default::default()
            }))
            .unwrap();
        tokenizer.with_padding(Some(PaddingParams {
            strategy: PaddingStrategy::Fixed(1000),
            ..Default::default()
        }));
        let mut model = tokenizer.get_model().clone();
        if let ModelWrapper::BPE(bpe) = &mut model {
            bpe.dropout = Some(0.5);
        }
        tokenizer.with_model(model);
        assert_eq!(Encoder::new(&tokenizer).encode(&text).unwrap(), plain);
    }

    #[test]
    fn without_a_safe_place_a_text_stays_whole() {
        // Without words, BPE merges across every space that the text has.
        let vocab = [
            ("a", 0),
            (" ", 1),
            ("a ", 2),
            ("a a", 3),
            ("a a ", 4),
            ("a a a a ", 5),
        ];
        let merges = [("a", " "), ("a ", "a"), ("a a", " "), ("a a ", "a a ")];
        let bpe = BPE::builder()
            .vocab_and_merges(
                vocab.map(|(t, id)| (t.to_string(), id)),
                merges.map(|(a, b)| (a.to_string(), b.to_string())).to_vec(),
            )
            .build()
            .unwrap();
        let encoder = Encoder::new(&Tokenizer::new(bpe));
        let text = "a ".repeat(PIECE);
        assert_eq!(encoder.pieces(&text).unwrap(), [text.as_str()]);
    }
}
