//! Deduplication keeps to the memory that it is given: in a process of its own, whose largest size is looked at.
use harness::data::dedup::{Dedup, DedupSpec, Fate, Outcome, Source};
use rayon::prelude::*;
use std::{error::Error, path::Path};

const DOCUMENTS: u64 = 200_000;
const MIB: u64 = 1 << 20;

/// Twelve words; document 3 of each ten is document 2 with other punctuation, and document 7 is document 6 in part.
fn text(number: u64) -> String {
    let base = number - u64::from(matches!(number % 10, 3 | 7));
    let hash = blake3::hash(&base.to_le_bytes()).to_hex();
    let word = |i: usize| match (number % 10, i) {
        (7, 11) => "changed",
        _ => &hash[5 * i..5 * i + 5],
    };
    let words: Vec<&str> = (0..12).map(word).collect();
    words.join(if number % 10 == 3 { ", " } else { " " })
}

fn dedup(folder: &Path, memory: u64) -> Result<Outcome, Box<dyn Error>> {
    let spec = DedupSpec {
        memory: bytesize::ByteSize(memory),
        ..DedupSpec::default()
    };
    let source = Source {
        name: "made".into(),
        held_out: false,
    };
    let mut dedup = Dedup::open(folder, &spec, &[source])?;
    let signer = dedup.signer();
    for first in (0..DOCUMENTS).step_by(1000) {
        let numbers = (first..first + 1000).into_par_iter();
        let signatures: Vec<_> = numbers.map(|n| signer.sign(&text(n))).collect();
        for signature in &signatures {
            dedup.push(0, signature)?;
        }
    }
    let written = std::fs::read_dir(folder)?.map(|e| Ok(e?.metadata()?.len()));
    let written: u64 = written.sum::<Result<u64, std::io::Error>>()?;
    assert_eq!(written > 3 * memory, memory < 100 * MIB, "{written} bytes");
    Ok(dedup.finish()?)
}

/// The largest resident size of this process so far, in bytes.
fn peak() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|l| l.trim().strip_suffix(" kB"))
        .ok_or("no VmHWM")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

#[test]
fn memory_is_bounded_and_changes_nothing() -> Result<(), Box<dyn Error>> {
    let before = peak()?;
    let folder = tempfile::tempdir()?;
    let little = dedup(folder.path(), 16 * MIB)?;
    let taken = peak()? - before;
    // 22 bytes a document besides, and what the process itself has: threads, a batch of texts, the allocator's.
    let most = 16 * MIB + 22 * DOCUMENTS + 8 * MIB;
    assert!(taken <= most, "{taken} bytes, at most {most}");

    let folder = tempfile::tempdir()?;
    let much = dedup(folder.path(), 1024 * MIB)?;
    assert_eq!(little, much);
    // The longer of the two.
    assert_eq!(little.fate(12), Fate::Exact { of: 13 });
    assert!(little.report.candidates > DOCUMENTS / 50);
    Ok(())
}
