use super::*;
use crate::data::Shard;

fn about(vocabulary: usize) -> About {
    About {
        made_of: "these".into(),
        tokenizer: "0123456789abcdef0123".into(),
        vocabulary,
        bos: None,
        eos: None,
    }
}

/// The documents of the golden files.
fn documents(vocabulary: u32) -> Vec<Vec<u32>> {
    let mut numbers = 0u32..;
    let mut document = |n: usize| -> Vec<u32> {
        let squares = numbers.by_ref().take(n).map(|i| i * i * 9973 % vocabulary);
        squares.collect()
    };
    [3, 0, 1, 5, 2].map(&mut document).to_vec()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/megatron")
        .join(name)
}

fn write(prefix: &Path, vocabulary: usize, documents: &[Vec<u32>]) {
    let mut writer = Writer::open(prefix, about(vocabulary)).unwrap();
    for document in documents {
        writer.push(document).unwrap();
    }
    writer.finish().unwrap();
}

fn read(shard: &Shard) -> Vec<Vec<u32>> {
    (0..shard.len()).map(|i| shard.document(i)).collect()
}

#[test]
fn files_are_those_of_an_independent_writer() {
    let folder = tempfile::tempdir().unwrap();
    for (name, vocabulary) in [("u16", 65_499), ("i32", 65_500)] {
        let prefix = folder.path().join(format!("a.b.{name}"));
        let documents = documents(vocabulary as u32);
        write(&prefix, vocabulary, &documents);
        for extension in [".idx", ".bin"] {
            let ours = fs::read(beside(&prefix, extension)).unwrap();
            let theirs = fs::read(beside(&golden(name), extension)).unwrap();
            assert_eq!(ours, theirs, "{name}{extension}");
        }
        assert_eq!(read(&Shard::open(&prefix).unwrap()), documents);
        assert!(!beside(&prefix, ".part").exists());
    }
}

#[test]
fn a_corpus_made_elsewhere_is_read() {
    let shard = Shard::open(&golden("sentences")).unwrap();
    assert_eq!(read(&shard), [vec![1, 2, 3, 4], vec![], vec![5, 6]]);
    assert_eq!((shard.len(), shard.tokens(), shard.length(0)), (3, 6, 4));
    let mut middle = Vec::new();
    shard.read(0, 1..4, &mut middle);
    assert_eq!(middle, [2, 3, 4]);
    assert!(shard.about().is_none());
    shard.check_tokenizer("any", 7).unwrap();
    let error = shard.check_tokenizer("any", 6).unwrap_err().to_string();
    assert!(
        error.contains("document 2 has the id 6, and the base's tokenizer has 6"),
        "{error}"
    );
}

#[test]
fn a_killed_writer_goes_on_and_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let documents: Vec<Vec<u32>> = (0..40)
        .map(|i| (0..i * 7 % 31).map(|j| i + j).collect())
        .collect();
    write(&whole, 100, &documents);
    let mut writer = Writer::open(&killed, about(100)).unwrap();
    let mut began = Vec::new();
    for (i, document) in documents.iter().enumerate() {
        writer.push(document).unwrap();
        if i % 13 == 5 {
            writer.checkpoint().unwrap();
        }
        if i % 13 == 9 {
            // Killed: what is written after the checkpoint reaches the file or does not.
            writer.tokens.flush().unwrap();
            drop(writer);
            writer = Writer::open(&killed, about(100)).unwrap();
            began.push(writer.documents());
            for document in &documents[writer.documents() as usize..=i] {
                writer.push(document).unwrap();
            }
        }
    }
    assert_eq!(began, [6, 19, 32]);
    assert!(!Shard::exists(&killed), "no index before the end");
    writer.finish().unwrap();
    for extension in [".idx", ".bin", ".json"] {
        let bytes = |prefix| fs::read(beside(prefix, extension)).unwrap();
        assert_eq!(bytes(&whole), bytes(&killed), "{extension}");
    }
    // Other documents do not go on with these.
    let mut writer = Writer::open(&killed, about(100)).unwrap();
    writer.push(&[1]).unwrap();
    writer.checkpoint().unwrap();
    drop(writer);
    let other = About {
        made_of: "others".into(),
        ..about(100)
    };
    assert_eq!(Writer::open(&killed, other).unwrap().documents(), 0);
}

#[test]
fn a_second_writer_waits_for_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("a");
    let mut first = Writer::open(&prefix, about(100)).unwrap();
    let second = std::thread::spawn({
        let prefix = prefix.clone();
        move || {
            let second = Writer::open(&prefix, about(100)).unwrap();
            (Shard::exists(&prefix), second.documents())
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(50));
    first.push(&[1, 2]).unwrap();
    first.finish().unwrap();
    assert_eq!(second.join().unwrap(), (true, 0));
}

#[test]
fn what_no_corpus_can_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&folder.path().join("a"), about(100)).unwrap();
    writer.push(&[99]).unwrap();
    let error = writer.push(&[3, 100]).unwrap_err().to_string();
    assert!(
        error.contains("document 1: id 100 is none of a vocabulary of 100"),
        "{error}"
    );
}

#[test]
fn damaged_and_foreign_files_get_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("a");
    let (idx, bin) = (beside(&prefix, ".idx"), beside(&prefix, ".bin"));
    let good_idx = fs::read(golden("sentences.idx")).unwrap();
    let good_bin = fs::read(golden("sentences.bin")).unwrap();
    let changed = |at: usize, to: &[u8]| {
        let mut bytes = good_idx.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    let modes = [&good_idx[..], &[0; 3]].concat();
    let cases: [(&[u8], &[u8], &str, &str); 12] = [
        (b"", &good_bin, "a.idx", "does not begin with MMIDIDX"),
        (
            b"PK\x03\x04 something else altogether, long enough",
            &good_bin,
            "a.idx",
            "does not begin with MMIDIDX",
        ),
        (
            &good_idx[..20],
            &good_bin,
            "a.idx",
            "does not begin with MMIDIDX",
        ),
        (
            &good_idx[..good_idx.len() - 1],
            &good_bin,
            "a.idx",
            "it was cut",
        ),
        (&modes, &good_bin, "a.idx", "multimodal"),
        (&changed(9, &[2]), &good_bin, "a.idx", "version 2"),
        (&changed(17, &[6]), &good_bin, "a.idx", "have type 6"),
        (&changed(18, &[0xff; 8]), &good_bin, "a.idx", "it was cut"),
        (
            &changed(34, &[0xff; 4]),
            &good_bin,
            "a.idx",
            "sequence 0 has -2 bytes",
        ),
        (
            &changed(34 + 12 + 8, &[9]),
            &good_bin,
            "a.idx",
            "sequence 1 begins at byte 9 where the one before it ends at 6",
        ),
        (
            &changed(34 + 36 + 8, &[9]),
            &good_bin,
            "a.idx",
            "document 1 begins at sequence 9 of 3",
        ),
        (
            &good_idx,
            &good_bin[..11],
            "a.bin",
            "has 11 bytes where its index says 12",
        ),
    ];
    for (index, tokens, file, word) in cases {
        fs::write(&idx, index).unwrap();
        fs::write(&bin, tokens).unwrap();
        let error = Shard::open(&prefix).unwrap_err().to_string();
        assert!(
            error.contains(file) && error.contains(word),
            "{word}: {error}"
        );
        assert!(!error.contains('\n'));
    }
    fs::remove_file(&bin).unwrap();
    let error = Shard::open(&prefix).unwrap_err().to_string();
    assert!(error.contains("a.bin: cannot be read"), "{error}");
}

#[test]
fn the_hash_finds_what_lengths_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("a");
    write(&prefix, 100, &[vec![1, 2, 3], vec![4]]);
    let bin = beside(&prefix, ".bin");
    let mut bytes = fs::read(&bin).unwrap();
    bytes[4] ^= 1;
    fs::write(&bin, bytes).unwrap();
    let error = Shard::open(&prefix).unwrap_err().to_string();
    assert!(
        error.contains("a.bin: is not what it was when it was written"),
        "{error}"
    );
    write(&prefix, 100, &[vec![1, 2, 3], vec![4]]);
    let shard = Shard::open(&prefix).unwrap();
    let error = shard
        .check_tokenizer("another", 100)
        .unwrap_err()
        .to_string();
    assert!(error.contains("made with another tokenizer"), "{error}");
    shard.check_tokenizer(&about(100).tokenizer, 100).unwrap();
}

/// `python tests/golden/megatron.py read` on what the writer makes; needs numpy.
#[test]
#[ignore = "needs python with numpy"]
fn a_reader_made_from_the_description_agrees() {
    use sha2::{Digest, Sha256};
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/megatron.py");
    for (vocabulary, name) in [(65_499, "uint16"), (70_000, "int32")] {
        let prefix = folder.path().join(name);
        let lengths = (0..1000u32).map(|i| i * i % 997);
        let documents: Vec<Vec<u32>> = lengths
            .map(|n| (0..n).map(|i| (i * 7919 + n) % vocabulary).collect())
            .collect();
        write(&prefix, vocabulary as usize, &documents);
        let mut command = std::process::Command::new("python3");
        let out = command
            .arg(&script)
            .arg("read")
            .arg(&prefix)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let flat: Vec<u8> = documents
            .iter()
            .flatten()
            .flat_map(|id| id.to_le_bytes())
            .collect();
        let hash: String = Sha256::digest(&flat)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(said["sha256"], hash);
        assert_eq!(
            (&said["documents"], &said["type"]),
            (&1000.into(), &name.into())
        );
    }
}
