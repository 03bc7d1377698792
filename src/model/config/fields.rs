//! Access to `config.json`'s fields with errors that name them.
use crate::model::{Error, Result};
use serde_json::Value;

pub(super) struct Fields<'a>(pub &'a Value);

impl Fields<'_> {
    /// A size; `None` where it is missing or null.
    pub fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        match &self.0[key] {
            Value::Null => Ok(None),
            value => match value.as_u64() {
                Some(n) => Ok(Some(n as usize)),
                None => Err(Error::Config(format!("{key} = {value} is not a size"))),
            },
        }
    }

    pub fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?
            .ok_or_else(|| Error::Config(format!("{key} is missing")))
    }

    /// A size that is `default` where the key is missing, and nothing where it is null.
    pub fn nullable_size(&self, key: &str, default: usize) -> Result<Option<usize>> {
        match self.0.get(key) {
            None => Ok(Some(default)),
            Some(_) => self.optional_size(key),
        }
    }

    pub fn number(&self, key: &str) -> Result<f64> {
        self.0[key]
            .as_f64()
            .ok_or_else(|| Error::Config(format!("{key} is missing or no number")))
    }

    /// A boolean; false where it is missing or null.
    pub fn flag(&self, key: &str) -> Result<bool> {
        match &self.0[key] {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            value => Err(Error::Config(format!("{key} = {value} is not a boolean"))),
        }
    }

    /// A token id or a list of them; empty where it is missing or null.
    pub fn tokens(&self, key: &str) -> Result<Vec<u32>> {
        let value = &self.0[key];
        let ids = match value {
            Value::Null => &[],
            Value::Array(ids) => ids.as_slice(),
            id => std::slice::from_ref(id),
        };
        let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids: Option<Vec<u32>> = ids.iter().map(id).collect();
        ids.ok_or_else(|| Error::Config(format!("{key} = {value} is no token id")))
    }
}
