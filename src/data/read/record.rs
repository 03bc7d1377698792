//! Records with fields as documents: lines of JSON, and the elements of one JSON list or object.
use super::{
    Error, File, Reading, Result, SourceSpec,
    stream::{Line, Stream},
    template::{Template, at},
};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::{
    cell::Cell,
    fmt,
    io::{self, Read},
};

/// How a record's text is made of its fields.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    Field(String),
    Template(Template),
}

impl Form {
    /// # Errors
    /// What is wrong with the source's template.
    pub fn of(spec: &SourceSpec) -> Result<Self> {
        let Some(template) = &spec.template else {
            return Ok(Form::Field(spec.field.clone()));
        };
        let parsed = Template::parse(template);
        Ok(Form::Template(parsed.map_err(|what| {
            spec.error(format!("template {template:?}: {what}"))
        })?))
    }

    /// The record's text.
    pub fn text(&self, record: &Value) -> std::result::Result<String, String> {
        match self {
            Form::Field(field) => match at(record, field).and_then(Value::as_str) {
                Some(text) => Ok(text.to_string()),
                None => Err(format!(
                    "no text field {field:?}; name one with `field`, or several with `template`"
                )),
            },
            Form::Template(template) => template.render(record),
        }
    }
}

/// The documents of a file with a record in every line; false when no more are wanted.
pub(super) fn lines(file: &File, form: &Form, reading: &mut Reading) -> Result<bool> {
    let mut stream = Stream::open(&file.path, reading.seen)?;
    let limit = reading.spec.max_document_bytes();
    let mut line = Vec::new();
    for number in 1.. {
        let place = format!(":{number}");
        match stream.line(&mut line, limit) {
            Ok(Line::Whole) => {}
            Ok(Line::End) => break,
            Ok(Line::TooLong) => return Err(stream.too_long(&place, "a line", limit)),
            Err(e) => return Err(stream.failed(&place, e)),
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let id = format!("{}:{number}", file.id);
        let Some(text) = reading.text(&id, std::mem::take(&mut line))? else {
            continue;
        };
        let record = serde_json::from_str(&text);
        let record = record.map_err(|e| stream.error(&place, format!("no JSON: {e}")))?;
        line = text.into_bytes();
        let text = form.text(&record);
        let text = text.map_err(|what| stream.error(&place, what))?;
        if !reading.offer(id, text)? {
            return Ok(false);
        }
    }
    stream.finish()?;
    Ok(true)
}

/// The documents of a file that is one JSON list, or one object whose values are records; one at a time.
pub(super) fn elements(file: &File, form: &Form, reading: &mut Reading) -> Result<bool> {
    let mut stream = Stream::open(&file.path, reading.seen)?;
    let limit = reading.spec.max_document_bytes();
    let left = Cell::new(limit as u64);
    let mut stopped = None;
    let bounded = Bounded {
        reader: stream.reader(),
        left: &left,
    };
    let mut each = |name: &str, record: Value| -> Result<bool> {
        left.set(limit as u64);
        let id = format!("{}:{name}", file.id);
        let text = form.text(&record).map_err(|what| Error::File {
            path: format!("{}:{name}", file.path.display()),
            what,
        })?;
        reading.offer(id, text)
    };
    let mut json = serde_json::Deserializer::from_reader(io::BufReader::new(bounded));
    let walked = Elements {
        each: &mut each,
        stopped: &mut stopped,
    }
    .deserialize(&mut json)
    .and_then(|()| json.end());
    match (stopped, walked) {
        (Some(Err(error)), _) => return Err(error),
        (Some(Ok(())), _) => return Ok(false),
        (None, Err(_)) if left.get() == 0 => {
            return Err(stream.too_long("", "has an element", limit));
        }
        (None, Err(e)) => return Err(stream.error("", format!("no JSON list or object: {e}"))),
        (None, Ok(())) => {}
    }
    stream.finish()?;
    Ok(true)
}

/// Ends when an element takes more than is left for it.
struct Bounded<'a, 'r> {
    reader: &'a mut (dyn io::BufRead + 'r),
    left: &'a Cell<u64>,
}

impl Read for Bounded<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.left.get()).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let n = self.reader.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - n as u64);
        Ok(n)
    }
}

type Stopped = Option<Result<()>>;

/// Gives each element of a list or object to a function, and goes on as long as that wants more.
struct Elements<'a> {
    each: &'a mut dyn FnMut(&str, Value) -> Result<bool>,
    stopped: &'a mut Stopped,
}

impl Elements<'_> {
    fn take<E: serde::de::Error>(
        &mut self,
        name: &str,
        record: Value,
    ) -> std::result::Result<(), E> {
        match (self.each)(name, record) {
            Ok(true) => return Ok(()),
            Ok(false) => *self.stopped = Some(Ok(())),
            Err(error) => *self.stopped = Some(Err(error)),
        }
        Err(E::custom("stopped"))
    }
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of records, or an object of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> std::result::Result<(), A::Error> {
        let mut number = 0;
        while let Some(record) = list.next_element::<Value>()? {
            number += 1;
            self.take(&number.to_string(), record)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> std::result::Result<(), A::Error> {
        while let Some((name, record)) = object.next_entry::<String, Value>()? {
            self.take(&name, record)?;
        }
        Ok(())
    }
}
