//! Documents from the rows of Parquet files, through the `parquet` crate: a column of text, or a template of several.
use super::{Error, File, Form, Reading, Reason, Result, stream::Stamp};
use parquet::{
    basic::{Compression, ConvertedType, LogicalType, Repetition, Type},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::ByteArrayType,
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
    record::reader::RowIter,
    schema::types::{ColumnDescriptor, Type as Schema},
};
use std::{fs, sync::Arc};

/// Rows that are read at a time.
const ROWS: usize = 1024;

/// A Parquet file that was opened.
struct Opened<'a> {
    file: &'a File,
    reader: SerializedFileReader<fs::File>,
}

/// The documents of a file's rows; false when no more are wanted. Rows whose text is null are left out.
///
/// # Errors
/// When the file is damaged or compressed in a way that is not read, or has no such columns of text.
pub(super) fn rows(file: &File, form: &Form, reading: &mut Reading) -> Result<bool> {
    let wrong = |what: String| error(file, what);
    let opened = fs::File::open(&file.path).map_err(|e| wrong(e.to_string()))?;
    let kept = opened.try_clone().map_err(|e| wrong(e.to_string()))?;
    let stamp = Stamp::of(&opened).map_err(|e| wrong(e.to_string()))?;
    let reader = SerializedFileReader::new(opened).map_err(|e| damaged(file, e))?;
    let opened = Opened { file, reader };
    let wants_more = match form {
        Form::Field(field) => opened.column(field, reading),
        Form::Template(_) => opened.records(form, reading),
    }?;
    stamp.check(&kept, &file.path)?;
    Ok(wants_more)
}

fn error(file: &File, what: String) -> Error {
    Error::File {
        path: file.path.display().to_string(),
        what,
    }
}

fn damaged(file: &File, e: ParquetError) -> Error {
    error(file, format!("damaged, or no Parquet file: {e}"))
}

impl Opened<'_> {
    fn wrong(&self, what: String) -> Error {
        error(self.file, what)
    }

    fn damaged(&self, e: ParquetError) -> Error {
        damaged(self.file, e)
    }

    /// The names of all columns, for an error.
    fn columns(&self) -> String {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let names = schema.columns().iter().map(|c| c.path().string());
        names.collect::<Vec<String>>().join(", ")
    }

    /// Refuses a compression that is not read, before any page of it.
    fn check_compression(&self, group: usize, column: usize) -> Result<()> {
        let column = self.reader.metadata().row_group(group).column(column);
        let compression = column.compression();
        match compression {
            Compression::BROTLI(_) | Compression::LZO => Err(self.wrong(format!(
                "column {:?} is compressed with {compression}, which is not read; write the file with zstd, snappy, \
                 gzip or lz4",
                column.column_path().string()
            ))),
            _ => Ok(()),
        }
    }

    /// Documents from one column of text.
    fn column(&self, field: &str, reading: &mut Reading) -> Result<bool> {
        let file = self.file;
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let mut columns = schema.columns().iter();
        let is_it = |path: &str| path == field;
        let Some(column) = columns.position(|c| is_it(&c.path().string())) else {
            return Err(self.wrong(format!(
                "no column {field:?}; name one with `field`, or several with `template`: it has {}",
                self.columns()
            )));
        };
        let described = schema.column(column);
        let repeated = described.max_rep_level() > 0;
        if described.physical_type() != Type::BYTE_ARRAY || repeated {
            let list = if repeated { "a list of " } else { "" };
            return Err(self.wrong(format!(
                "column {field:?} is {list}{}, no text; `template` makes a text of lists and of several columns",
                described.physical_type()
            )));
        }
        let mut row = 0;
        let is_optional = described.self_type().get_basic_info().repetition()
            == Repetition::OPTIONAL
            || described.max_def_level() > 0;
        for number in 0..self.reader.num_row_groups() {
            self.check_compression(number, column)?;
            let group = self.reader.get_row_group(number);
            let group = group.map_err(|e| self.damaged(e))?;
            let ColumnReader::ByteArrayColumnReader(mut reader) = group
                .get_column_reader(column)
                .map_err(|e| self.damaged(e))?
            else {
                return Err(self.wrong(format!("column {field:?} is no text")));
            };
            loop {
                let texts = texts(&mut reader, is_optional, described.max_def_level())
                    .map_err(|e| self.damaged(e))?;
                if texts.is_empty() {
                    break;
                }
                for text in texts {
                    row += 1;
                    let id = format!("{}:{row}", file.id);
                    let Some(bytes) = text else {
                        reading.report.note(Reason::NoText, &id, 0);
                        continue;
                    };
                    self.check_length(row, bytes.len(), reading)?;
                    let Some(text) = reading.text(&id, bytes)? else {
                        continue;
                    };
                    if !reading.offer(id, text)? {
                        return Ok(false);
                    }
                }
            }
            let taken = group.metadata().column(column).compressed_size();
            (reading.seen)(u64::try_from(taken).unwrap_or(0));
        }
        Ok(true)
    }

    /// Documents from the columns that a template names, lists and columns inside others among them.
    fn records(&self, form: &Form, reading: &mut Reading) -> Result<bool> {
        let Form::Template(template) = form else {
            return Ok(true);
        };
        let metadata = self.reader.metadata().file_metadata();
        let schema = metadata.schema();
        let mut fields = Vec::new();
        for name in template.fields() {
            let field = schema.get_fields().iter().find(|f| f.name() == name);
            let Some(field) = field else {
                return Err(self.wrong(format!(
                    "no column {name:?}, which `template` names: it has {}",
                    self.columns()
                )));
            };
            fields.push(Arc::clone(field));
        }
        // Columns are read in the file's order, whatever the template's is.
        let at = |name: &str| schema.get_fields().iter().position(|f| f.name() == name);
        fields.sort_by_key(|field| at(field.name()));
        let named = |c: &ColumnDescriptor| fields.iter().any(|f| c.path().parts()[0] == f.name());
        let mut taken = vec![0; self.reader.num_row_groups()];
        for (i, column) in metadata.schema_descr().columns().iter().enumerate() {
            if !named(column) {
                continue;
            }
            if column.physical_type() == Type::BYTE_ARRAY && !is_text(column) {
                return Err(self.wrong(format!(
                    "column {:?} is bytes, no text",
                    column.path().string()
                )));
            }
            for (group, taken) in taken.iter_mut().enumerate() {
                self.check_compression(group, i)?;
                *taken += self
                    .reader
                    .metadata()
                    .row_group(group)
                    .column(i)
                    .compressed_size();
            }
        }
        let projection = Schema::group_type_builder(schema.name())
            .with_fields(fields)
            .build()
            .map_err(|e| self.damaged(e))?;
        let rows = RowIter::from_file(Some(projection), &self.reader);
        let mut row = 0;
        for record in rows.map_err(|e| self.damaged(e))? {
            row += 1;
            let record = record.map_err(|e| self.damaged(e))?.to_json_value();
            let text = form.text(&record);
            let text = text.map_err(|what| self.wrong(format!("row {row}: {what}")))?;
            self.check_length(row, text.len(), reading)?;
            if !reading.offer(format!("{}:{row}", self.file.id), text)? {
                return Ok(false);
            }
        }
        let taken: i64 = taken.iter().sum();
        (reading.seen)(u64::try_from(taken).unwrap_or(0));
        Ok(true)
    }

    fn check_length(&self, row: usize, length: usize, reading: &Reading) -> Result<()> {
        let limit = reading.spec.max_document_bytes();
        match length > limit {
            true => Err(self.wrong(format!(
                "row {row}: a text of more than {limit} bytes; raise the source's `max_document_bytes`, or cut it"
            ))),
            false => Ok(()),
        }
    }
}

/// Whether a column of bytes says that they are text.
fn is_text(column: &ColumnDescriptor) -> bool {
    matches!(
        column.logical_type_ref(),
        Some(LogicalType::String | LogicalType::Json | LogicalType::Enum)
    ) || matches!(
        column.converted_type(),
        ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM
    )
}

/// The next rows' bytes; none at the end of the row group.
fn texts(
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
    use super::super::{Document, ReadReport, SourceSpec};
    use super::*;
    use std::path::Path;

    fn golden(name: &str) -> File {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet");
        File {
            id: name.into(),
            path: folder.join(name),
            in_tree: false,
        }
    }

    /// Gives the file's documents to `take`, read as `said`.
    fn each(said: &str, file: &File, take: &mut dyn FnMut(Document) -> bool) -> Result<bool> {
        let spec: SourceSpec = toml::from_str(&format!("name = 'x'\n{said}")).unwrap();
        let mut reading = Reading {
            spec: &spec,
            seen: &|_| (),
            take: &mut |document| Ok(take(document)),
            report: ReadReport::default(),
        };
        rows(file, &Form::of(&spec).unwrap(), &mut reading)
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
            each("field = 'body'", &file, &mut |document| {
                found.push((document.id, document.text));
                true
            })
            .unwrap();
            // Where nothing may be null there are empty texts instead, which are left out, too.
            let all = (0..50).filter_map(|i| Some((i, text(i)?)));
            let all: Vec<(String, String)> = all
                .map(|(i, text)| (format!("{name}.parquet:{}", i + 1), text))
                .collect();
            assert_eq!(found, all, "{name}");
        }
    }

    #[test]
    fn stops_when_nothing_more_is_wanted() {
        let mut n = 0;
        each("field = 'body'", &golden("snappy.parquet"), &mut |_| {
            n += 1;
            n < 5
        })
        .unwrap();
        assert_eq!(n, 5);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |field: &str, file: &File| {
            let error = each(&format!("field = '{field}'"), file, &mut |_| true).unwrap_err();
            error.to_string()
        };
        let file = golden("snappy.parquet");
        let found = error("text", &file);
        assert!(
            found.ends_with(
                "no column \"text\"; name one with `field`, or several with `template`: it has id, body, tags.list.element"
            ),
            "{found}"
        );
        assert!(error("id", &file).contains("column \"id\" is INT64, no text"));
        let found = error("tags.list.element", &file);
        assert!(
            found.contains("is a list of BYTE_ARRAY, no text; `template` makes"),
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
            in_tree: false,
        };
        assert!(error("body", &cut).contains("damaged, or no Parquet file"));
    }
}
