//! A byte-level BPE tokenizer of a study's own.
use super::{Document, Error, Result};
use tokenizers::{
    AddedToken, Tokenizer, TokenizerBuilder,
    decoders::byte_level::ByteLevel,
    models::bpe::{BPE, BpeTrainerBuilder},
    normalizers::NormalizerWrapper,
    pre_tokenizers::{digits::Digits, sequence::Sequence},
    processors::PostProcessorWrapper,
};

/// The token that ends a document.
const END: &str = "<|endoftext|>";

/// Trains byte-level BPE of `vocab_size` ids on the documents, digits one by one, with id 0 as the end
/// of a document.
///
/// # Errors
/// When the trainer fails.
pub fn train_tokenizer(documents: &[Document], vocab_size: usize) -> Result<Tokenizer> {
    let failed = |e: tokenizers::Error| Error::Tokenizer(e.to_string());
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocab_size)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(END, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let split = Sequence::new(vec![
        Digits::new(true).into(),
        ByteLevel::new(false, true, true).into(),
    ]);
    let mut tokenizer =
        TokenizerBuilder::<BPE, NormalizerWrapper, Sequence, PostProcessorWrapper, ByteLevel>::new(
        )
        .with_model(BPE::default())
        .with_pre_tokenizer(Some(split))
        .with_decoder(Some(ByteLevel::default()))
        .build()
        .map_err(failed)?;
    tokenizer
        .train(&mut trainer, documents.iter().map(|d| d.text.as_str()))
        .map_err(failed)?;
    let text = tokenizer.to_string(false).map_err(failed)?;
    text.parse().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stay_single_and_training_gives_the_same_bytes() {
        let text = "the cat sat on 12345 mats and the cats sat on 12345 more mats ";
        let documents = vec![Document {
            id: "a".into(),
            text: text.repeat(20),
        }];
        let tokenizer = train_tokenizer(&documents, 300).unwrap();
        let again = train_tokenizer(&documents, 300).unwrap();
        assert_eq!(
            tokenizer.to_string(false).unwrap(),
            again.to_string(false).unwrap()
        );
        let encoding = tokenizer.encode("the 12345", false).unwrap();
        let digits = encoding
            .get_tokens()
            .iter()
            .filter(|t| t.len() == 1 && t.as_bytes()[0].is_ascii_digit());
        assert_eq!(digits.count(), 5);
        assert_eq!(
            tokenizer.decode(encoding.get_ids(), false).unwrap(),
            "the 12345"
        );
        assert_eq!(tokenizer.token_to_id(END), Some(0));
    }
}
