//! A source's token ids: made once, and kept under the hash of what they were made from.
use super::{
    Result, Shard, SourceSpec,
    encode::{Encoder, encode_all},
    megatron::{About, Writer, tokenizer_hash, vocabulary},
    source::Material,
    synthetic,
};
use std::path::Path;
use tokenizers::Tokenizer;

/// The source's documents, tokenised in parallel, each between `bos` and `eos` where there is one: from
/// the cache folder, where they are kept under the hash of what they were made from. A source that is token
/// ids already is opened where it lies, and checked against the tokenizer.
///
/// # Errors
/// When documents cannot be read, or the cache cannot be written.
pub fn prepare(
    spec: &SourceSpec,
    tokenizer: &Tokenizer,
    (bos, eos): (Option<u32>, Option<u32>),
    cache: &Path,
) -> Result<Shard> {
    if let Some(prefix) = spec.token_prefix()? {
        let shard = Shard::open(&prefix)?;
        shard.check_tokenizer(&tokenizer_hash(tokenizer)?, vocabulary(tokenizer))?;
        return Ok(shard);
    }
    let contents = Material::read(spec)?;
    let about = About::new(&contents.hash(), tokenizer, (bos, eos))?;
    let prefix = cache.join(about.name());
    // What is damaged is made again.
    let cached = || {
        Shard::open(&prefix)
            .ok()
            .filter(|shard| shard.about() == Some(&about))
    };
    if let Some(shard) = cached() {
        return Ok(shard);
    }
    let mut writer = Writer::open(&prefix, about.clone())?;
    if let Some(shard) = cached() {
        writer.discard()?;
        return Ok(shard);
    }
    let encoder = Encoder::new(tokenizer);
    let done = writer.documents() as usize;
    match contents {
        Material::Generator(generator) => {
            let documents = synthetic::documents(generator, &encoder)?;
            for ids in documents.into_iter().skip(done) {
                writer.push_between(ids)?;
            }
        }
        Material::Documents(documents) => {
            let rest = documents.into_iter().skip(done).map(Ok);
            encode_all(rest, &encoder, &mut writer)?;
        }
    }
    writer.finish()?;
    Shard::open(&prefix)
}
