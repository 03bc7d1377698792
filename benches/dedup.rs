//! Time and peak memory of finding duplicates among the documents of a folder of JSON lines (benches/peers/dedup_corpus.py
//! makes one), or among made ones, as one JSON line:
//!
//!     cargo bench --bench dedup -- --corpus DIR [--memory '64 MiB'] [--threads 2]
//!     cargo bench --bench dedup -- --made 1000000 --memory '64 MiB'
mod memory;

use bytesize::ByteSize;
use clap::Parser;
use harness::data::dedup::{Dedup, DedupSpec, Signature, Signer, Source};
use rayon::prelude::*;
use serde_json::json;
use std::{
    error::Error,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::PathBuf,
    time::Instant,
};

#[derive(Parser)]
struct Args {
    /// A folder of files of JSON lines with the field `text`.
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// So many documents of sixty made words each, one in five nearly another one.
    #[arg(long)]
    made: Option<u64>,
    #[arg(long, default_value = "1 GiB")]
    memory: ByteSize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// What `cargo bench` passes on.
    #[arg(long, hide = true)]
    bench: bool,
}

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    text: std::borrow::Cow<'a, str>,
}

/// Lines or documents that are signed at once.
const BATCH: usize = 256;

fn main() -> Result<()> {
    let args = Args::parse();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads);
    pool.build_global()?;
    let folder = tempfile::tempdir()?;
    let spec = DedupSpec {
        memory: args.memory,
        ..DedupSpec::default()
    };
    let source = Source {
        name: "corpus".into(),
        held_out: false,
    };
    let began = Instant::now();
    let mut dedup = Dedup::open(folder.path(), &spec, &[source])?;
    let signer = dedup.signer();
    let bytes = match (&args.corpus, args.made) {
        (Some(corpus), None) => corpus_into(corpus, &signer, &mut dedup)?,
        (None, Some(made)) => made_into(made, &signer, &mut dedup)?,
        _ => return Err("give --corpus or --made".into()),
    };
    let signed = began.elapsed().as_secs_f64();
    let outcome = dedup.finish()?;
    let seconds = began.elapsed().as_secs_f64();
    let result = fs::read(folder.path().join("outcome"))?;
    println!(
        "{}",
        json!({
            "peer": "harness",
            "seconds": seconds,
            "signing_s": signed,
            "mb_per_s": bytes as f64 / 1e6 / seconds,
            "documents": outcome.documents(),
            "gone": outcome.report.documents - outcome.report.kept,
            "candidates": outcome.report.candidates,
            "refused": outcome.report.refused,
            "outcome": blake3::hash(&result).to_hex()[..16],
            "peak_mib": memory::peak_mib().map_err(|e| e.to_string())?,
        })
    );
    Ok(())
}

/// Signs the documents of all files; returns the bytes of their texts.
fn corpus_into(corpus: &PathBuf, signer: &Signer, dedup: &mut Dedup) -> Result<u64> {
    let mut paths: Vec<PathBuf> = fs::read_dir(corpus)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    let mut total = 0;
    for path in paths {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
        let mut lines = vec![String::new(); BATCH];
        loop {
            let (mut count, mut size) = (0, 0);
            // Long documents make a batch of their own.
            while count < BATCH && size < 8 << 20 {
                lines[count].clear();
                let read = file.read_line(&mut lines[count])?;
                if read == 0 {
                    break;
                }
                (count, size) = (count + 1, size + read);
            }
            if count == 0 {
                break;
            }
            let sign = |line: &String| -> Result<(u64, Signature)> {
                let Line { text } = serde_json::from_str(line)?;
                Ok((text.len() as u64, signer.sign(&text)))
            };
            let signed: Vec<(u64, Signature)> =
                lines[..count].par_iter().map(sign).collect::<Result<_>>()?;
            for (bytes, signature) in signed {
                total += bytes;
                dedup.push(0, &signature)?;
            }
        }
    }
    Ok(total)
}

fn made_into(count: u64, signer: &Signer, dedup: &mut Dedup) -> Result<u64> {
    let mut total = 0;
    let numbers: Vec<u64> = (0..count).step_by(BATCH).collect();
    for first in numbers {
        let sign = |number: u64| {
            let text = made(number);
            (text.len() as u64, signer.sign(&text))
        };
        let last = count.min(first + BATCH as u64);
        let signed: Vec<_> = (first..last).into_par_iter().map(sign).collect();
        for (bytes, signature) in signed {
            total += bytes;
            dedup.push(0, &signature)?;
        }
    }
    Ok(total)
}

/// Document `number`; one in five is the one before with another last word.
fn made(number: u64) -> String {
    let base = if number % 5 == 4 { number - 1 } else { number };
    let key = blake3::hash(&base.to_le_bytes());
    let mut words = vec![0; 60 * 4];
    blake3::Hasher::new()
        .update(key.as_bytes())
        .finalize_xof()
        .fill(&mut words);
    let words = words
        .as_chunks::<4>()
        .0
        .iter()
        .map(|w| format!("{:x} ", u32::from_le_bytes(*w)));
    words.collect::<String>() + &number.to_string()
}
