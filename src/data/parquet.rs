//! Documents from a text column of Parquet files, through the `parquet` crate.
use super::{Document, Error, Result, SourceSpec, read::File};
use parquet::{
    basic::{Compression, Repetition, Type},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::ByteArrayType,
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
};
use std::fs;

/// Rows that are read at a time.
const ROWS: usize = 1024;

/// Reads the text column row by row, until `take` wants no more. Rows whose text is null are left out, and a line
/// says how many.
///
/// # Errors
/// When the file is damaged or compressed in a way that is not read, or has no such column of text.
pub(super) fn each(
    spec: &SourceSpec,
    file: &File,
    take: &mut dyn FnMut(Document) -> bool,
) -> Result<()> {
    let wrong = |what: String| Error::File {
        path: file.path.display().to_string(),
        what,
    };
    let damaged = |e: ParquetError| wrong(format!("damaged, or no Parquet file: {e}"));
    let opened = fs::File::open(&file.path).map_err(|e| wrong(e.to_string()))?;
    let reader = SerializedFileReader::new(opened).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let mut columns = schema.columns().iter();
    let is_it = |path: &str| path == spec.field;
    let Some(column) = columns.position(|c| is_it(&c.path().string())) else {
        let names = schema.columns().iter().map(|c| c.path().string());
        let names: Vec<String> = names.collect();
        return Err(wrong(format!(
            "no column {:?}; name one with `field`: it has {}",
            spec.field,
            names.join(", ")
        )));
    };
    let described = schema.column(column);
    let repeated = described.max_rep_level() > 0;
    if described.physical_type() != Type::BYTE_ARRAY || repeated {
        let list = if repeated { "a list of " } else { "" };
        return Err(wrong(format!(
            "column {:?} is {list}{}, no text",
            spec.field,
            described.physical_type()
        )));
    }
    let (mut row, mut nulls) = (0, 0);
    let is_optional = described.self_type().get_basic_info().repetition() == Repetition::OPTIONAL
        || described.max_def_level() > 0;
    'groups: for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(damaged)?;
        let compression = group.metadata().column(column).compression();
        if matches!(compression, Compression::BROTLI(_) | Compression::LZO) {
            return Err(wrong(format!(
                "column {:?} is compressed with {compression}, which is not read; write the file with zstd, snappy, \
                 gzip or lz4",
                spec.field
            )));
        }
        let ColumnReader::ByteArrayColumnReader(mut reader) =
            group.get_column_reader(column).map_err(damaged)?
        else {
            return Err(wrong(format!("column {:?} is no text", spec.field)));
        };
        loop {
            let texts =
                rows(&mut reader, is_optional, described.max_def_level()).map_err(damaged)?;
            if texts.is_empty() {
                break;
            }
            for text in texts {
                row += 1;
                let Some(bytes) = text else {
                    nulls += 1;
                    continue;
                };
                let text = String::from_utf8(bytes);
                let text = text.map_err(|_| wrong(format!("row {row}: the text is not UTF-8")))?;
                let id = format!("{}:{row}", file.id);
                if !take(Document { id, text }) {
                    break 'groups;
                }
            }
        }
    }
    if nulls > 0 {
        let (name, path) = (&spec.name, file.path.display());
        log::warn!("data source {name:?}: {path}: left out {nulls} rows without a text");
    }
    Ok(())
}

/// The next rows' bytes; none at the end of the row group.
fn rows(
    reader: &mut ColumnReaderImpl<ByteArrayType>,
    is_optional: bool,
    present: i16,
) -> std::result::Result<Vec<Option<Vec<u8>>>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (records, _, _) = reader.read_records(ROWS, Some(&mut levels), None, &mut values)?;
    let mut values = values.into_iter().map(|value| value.data().to_vec());
    if !is_optional {
        return Ok(values.map(Some).collect());
    }
    let next = |level: &i16| match *level == present {
        true => values.next(),
        false => None,
    };
    Ok(levels[..records].iter().map(next).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn golden(name: &str) -> File {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet");
        File {
            id: name.into(),
            path: folder.join(name),
        }
    }

    fn spec(field: &str) -> SourceSpec {
        toml::from_str(&format!("name = 'x'\nfield = '{field}'")).unwrap()
    }

    /// What `tests/golden/parquet.py` wrote into row `i`; nothing is null.
    fn text(i: usize) -> Option<String> {
        (i % 7 != 3).then(|| format!("row {i}: café {}", "word ".repeat(i % 5)))
    }

    #[test]
    fn reads_what_pyarrow_writes() {
        for name in ["none", "snappy", "gzip", "zstd", "lz4", "zstd_v2_required"] {
            let mut found = Vec::new();
            let file = golden(&format!("{name}.parquet"));
            each(&spec("body"), &file, &mut |document| {
                found.push((document.id, document.text));
                true
            })
            .unwrap();
            let all = (0..50).filter_map(|i| match name.ends_with("required") {
                true => Some((i, text(i).unwrap_or_default())),
                false => Some((i, text(i)?)),
            });
            let all: Vec<(String, String)> = all
                .map(|(i, text)| (format!("{name}.parquet:{}", i + 1), text))
                .collect();
            assert_eq!(found, all, "{name}");
        }
    }

    #[test]
    fn stops_when_nothing_more_is_wanted() {
        let mut n = 0;
        each(&spec("body"), &golden("snappy.parquet"), &mut |_| {
            n += 1;
            n < 5
        })
        .unwrap();
        assert_eq!(n, 5);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |field: &str, file: &File| {
            let error = each(&spec(field), file, &mut |_| true).unwrap_err();
            error.to_string()
        };
        let file = golden("snappy.parquet");
        let found = error("text", &file);
        assert!(
            found.ends_with(
                "no column \"text\"; name one with `field`: it has id, body, tags.list.element"
            ),
            "{found}"
        );
        assert!(error("id", &file).ends_with("column \"id\" is INT64, no text"));
        let found = error("tags.list.element", &file);
        assert!(
            found.ends_with("is a list of BYTE_ARRAY, no text"),
            "{found}"
        );
        let found = error("body", &golden("brotli.parquet"));
        assert!(found.contains("compressed with BROTLI"), "{found}");
        assert!(
            found.ends_with("write the file with zstd, snappy, gzip or lz4"),
            "{found}"
        );
        // Cut off, and with a byte of its pages turned.
        let whole = fs::read(&file.path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.parquet");
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let cut = File {
            id: "cut".into(),
            path,
        };
        assert!(error("body", &cut).contains("damaged, or no Parquet file"));
    }
}
