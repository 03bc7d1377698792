//! `harness tokenizer`: a byte-level BPE tokenizer from a study's texts.
use crate::{data, experiment::StudySpec, say, whole_file};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// `harness tokenizer STUDY --vocab-size N --out FILE`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The study whose files and crates it is trained on; generators are left out.
    study: PathBuf,
    /// Number of ids.
    #[arg(long)]
    vocab_size: usize,
    /// The tokenizer.json to write.
    #[arg(long)]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let path = arguments.study.display();
    let text = std::fs::read_to_string(&arguments.study).with_context(|| path.to_string())?;
    let study: StudySpec = toml::from_str(&text).with_context(|| path.to_string())?;
    let mut documents = Vec::new();
    for source in study
        .data
        .iter()
        .filter(|source| source.generator.is_none())
    {
        documents.extend(data::documents(source)?);
    }
    let tokenizer = data::train_tokenizer(&documents, arguments.vocab_size)?;
    let out = &arguments.out;
    whole_file::replace(out, |file| {
        tokenizer
            .save(file.path(), false)
            .map_err(std::io::Error::other)
    })
    .with_context(|| out.display().to_string())?;
    say::out(format_args!(
        "{}: {} ids from {} documents",
        out.display(),
        tokenizer.get_vocab_size(true),
        documents.len()
    ))?;
    Ok(super::OK)
}
