//! Time and peak memory of tokenising a folder of JSON lines (benches/peers/dedup_corpus.py makes one) to Megatron's
//! indexed format, as one JSON line:
//!
//!     cargo bench --bench tokenize -- --corpus DIR --checkpoint SmolLM2-135M-Instruct.Q4_1.gguf [--threads 2]
//!
//! `--write tokenizer.json` writes the checkpoint's tokenizer, for benches/peers/datatrove_tokenize.py to do the same.
mod memory;

use clap::Parser;
use harness::{
    checkpoint::BaseSpec,
    data::{
        Document, Encoder, Error as DataError, Shard, encode_all,
        megatron::{About, Writer},
    },
};
use serde_json::json;
use std::{
    error::Error,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    time::Instant,
};

#[derive(Parser)]
struct Args {
    /// A folder of files of JSON lines with the field `text`.
    #[arg(long)]
    corpus: PathBuf,
    #[arg(long)]
    checkpoint: String,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Write the tokenizer here, and time nothing.
    #[arg(long)]
    write: Option<PathBuf>,
    /// What `cargo bench` passes on.
    #[arg(long, hide = true)]
    bench: bool,
}

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(serde::Deserialize)]
struct Line {
    id: String,
    text: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let tokenizer = BaseSpec::of_path(&args.checkpoint).tokenizer()?;
    if let Some(path) = &args.write {
        return tokenizer.save(path, false);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads);
    pool.build_global()?;
    let mut files: Vec<PathBuf> = fs::read_dir(&args.corpus)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    let folder = tempfile::tempdir()?;
    let prefix = folder.path().join("tokens");
    let began = Instant::now();
    // `<|endoftext|>`, as datatrove's script puts it behind each document.
    let about = About::new("the corpus", &tokenizer, (None, Some(0)))?;
    let mut writer = Writer::open(&prefix, about)?;
    let documents = files.iter().flat_map(|file| lines(file));
    encode_all(documents, &Encoder::new(&tokenizer), &mut writer)?;
    writer.finish()?;
    let seconds = began.elapsed().as_secs_f64();
    let shard = Shard::open(&prefix)?;
    let line = json!({
        "peer": "harness",
        "seconds": seconds,
        "documents": shard.len(),
        "tokens": shard.tokens(),
        "peak_mib": memory::peak_mib().map_err(|e| e.to_string())?,
    });
    println!("{line}");
    Ok(())
}

fn lines(
    file: &Path,
) -> impl Iterator<Item = std::result::Result<Document, DataError>> + Send + use<> {
    let wrong = {
        let path = file.display().to_string();
        move |what: String| DataError::File {
            path: path.clone(),
            what,
        }
    };
    let opened = File::open(file);
    let lines = opened.map(|file| BufReader::new(file).lines());
    let (lines, failed) = match lines {
        Ok(lines) => (Some(lines), None),
        Err(e) => (None, Some(Err(wrong(e.to_string())))),
    };
    let documents = lines.into_iter().flatten().map(move |line| {
        let line = line.map_err(|e| wrong(e.to_string()))?;
        let line: Line = serde_json::from_str(&line).map_err(|e| wrong(e.to_string()))?;
        Ok(Document {
            id: line.id,
            text: line.text,
        })
    });
    documents.chain(failed)
}
