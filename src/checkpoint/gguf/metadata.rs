//! A GGUF file's metadata, with errors that name the key.
use candle_core::quantized::gguf_file::Value;
use std::collections::HashMap;

/// The key-value pairs before the tensors.
#[derive(Debug)]
pub(super) struct Metadata(pub(super) HashMap<String, Value>);

impl Metadata {
    /// What `read` makes of a value, or nothing where the key is not there.
    fn get<'a, T>(
        &'a self,
        key: &str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| format!("metadata {key} is not {kind}")),
        }
    }

    pub(super) fn size(&self, key: &str) -> Result<Option<u64>, String> {
        self.get(key, "a size", |value| match value {
            Value::I8(n) => u64::try_from(*n).ok(),
            Value::I16(n) => u64::try_from(*n).ok(),
            Value::I32(n) => u64::try_from(*n).ok(),
            Value::I64(n) => u64::try_from(*n).ok(),
            Value::Bool(_) => None,
            other => other.to_u64().ok(),
        })
    }

    pub(super) fn need_size(&self, key: &str) -> Result<u64, String> {
        self.size(key)?
            .ok_or_else(|| format!("metadata {key} is missing"))
    }

    /// A number. The f32 that stands for 1e-5 is read as 1e-5, as configurations say it.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, String> {
        self.get(key, "a number", |value| match value {
            Value::F32(x) => x.to_string().parse().ok(),
            Value::F64(x) => Some(*x),
            _ => None,
        })
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.get(key, "true or false", |value| value.to_bool().ok())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, String> {
        self.get(key, "a text", |value| {
            value.to_string().ok().map(String::as_str)
        })
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, String> {
        self.list(key, "a list of texts", |value| {
            value.to_string().ok().map(String::as_str)
        })
    }

    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>, String> {
        self.list(key, "a list of numbers", |value| value.to_f32().ok())
    }

    pub(super) fn kinds(&self, key: &str) -> Result<Option<Vec<i32>>, String> {
        self.list(key, "a list of kinds", |value| match value {
            Value::U32(n) => i32::try_from(*n).ok(),
            other => other.to_i32().ok(),
        })
    }

    fn list<'a, T>(
        &'a self,
        key: &str,
        kind: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, String> {
        self.get(key, kind, |value| {
            value.to_vec().ok()?.iter().map(read).collect()
        })
    }
}
