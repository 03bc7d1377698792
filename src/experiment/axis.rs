//! `[[axis]]`: a key of the study and the values that it takes.
use super::place::{nearest, unknown};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// One `[[axis]]` of the grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxisSpec {
    /// Any key of the study, dotted; elements of arrays by number: `stage.0.rope`, `mix`, `optimizer.lr`.
    pub key: String,
    /// What the key is to be, in turn.
    pub values: Vec<Value>,
    /// What the values are called in trials' names; made from the values where they are not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

impl AxisSpec {
    /// What the values are called.
    ///
    /// # Errors
    /// What is wrong with the names.
    pub(super) fn labels(&self) -> Result<Vec<String>, String> {
        if self.values.is_empty() {
            return Err("`values` is empty; give at least one".into());
        }
        let labels: Vec<String> = if self.names.is_empty() {
            let made = self.values.iter().map(label);
            made.collect::<Option<_>>()
                .ok_or("these values have no short form; name each in `names`")?
        } else {
            self.names.clone()
        };
        if labels.len() != self.values.len() {
            return Err(format!(
                "{} names for {} values; give each value its own",
                labels.len(),
                self.values.len()
            ));
        }
        let plain = |c: char| c.is_alphanumeric() || "-_.:+".contains(c);
        if let Some(bad) = labels
            .iter()
            .find(|l| l.is_empty() || !l.chars().all(plain))
        {
            return Err(format!(
                "\"{bad}\" is no name; use letters, digits and -_.:+ in `names`"
            ));
        }
        let mut seen = BTreeSet::new();
        match labels.iter().find(|label| !seen.insert(label.as_str())) {
            Some(twice) => Err(format!("two values are called \"{twice}\"; use `names`")),
            None => Ok(labels),
        }
    }

    /// The last part of the key that is no number: what the axis is called when no other is called so.
    pub(super) fn short_name(&self) -> &str {
        let parts = self.key.rsplit('.');
        let mut named = parts.filter(|part| !part.bytes().all(|b| b.is_ascii_digit()));
        named.next().unwrap_or(&self.key)
    }

    /// Puts a value in the key's place in a study.
    ///
    /// # Errors
    /// Where the study has no such place.
    pub(super) fn put(&self, study: &mut Table, value: &Value) -> Result<(), String> {
        let parts: Vec<&str> = self.key.split('.').collect();
        let (Some((last, above)), false) = (parts.split_last(), parts.contains(&"")) else {
            return Err("is no key".into());
        };
        let Some((first, rest)) = above.split_first() else {
            study.insert(self.key.clone(), value.clone());
            return Ok(());
        };
        let mut at = study
            .entry(*first)
            .or_insert_with(|| Value::Table(Table::new()));
        let mut path = first.to_string();
        for part in rest {
            at = child(at, &path, part)?;
            path = format!("{path}.{part}");
        }
        match at {
            Value::Table(_) | Value::Array(_) => {
                *child(at, &path, last)? = value.clone();
                Ok(())
            }
            _ => Err(format!("`{path}` is a value and has no `{last}`")),
        }
    }

    /// The key with an unknown part of it put right, from a message of serde; nothing where the message
    /// speaks of something else.
    pub(super) fn corrected(&self, message: &str) -> Option<String> {
        let (found, known) = unknown(message, "unknown field")?;
        let parts: Vec<&str> = self.key.split('.').collect();
        if !parts.contains(&found) {
            return None;
        }
        Some(match nearest(found, &known) {
            Some(name) => {
                let right = parts
                    .iter()
                    .map(|part| if *part == found { name } else { part });
                let right: Vec<&str> = right.collect();
                format!("did you mean `{}`?", right.join("."))
            }
            None => format!("instead of `{found}` known are {}", known.join(", ")),
        })
    }
}

/// The place of `part` in a table (made if it is not there) or array.
fn child<'a>(at: &'a mut Value, path: &str, part: &str) -> Result<&'a mut Value, String> {
    match at {
        Value::Table(table) => Ok(table
            .entry(part)
            .or_insert_with(|| Value::Table(Table::new()))),
        Value::Array(array) => {
            let n = array.len();
            let found = part.parse().ok().and_then(|i: usize| array.get_mut(i));
            found.ok_or_else(|| {
                format!("`{path}` has {n} elements, numbered from 0, and no `{part}`")
            })
        }
        _ => Err(format!("`{path}` is a value and has no `{part}`")),
    }
}

/// A short form of a value: `1e6`, `yarn-4-512`, `base-1e6`, `7:2:1`, `default` for an empty table.
fn label(value: &Value) -> Option<String> {
    match value {
        Value::Table(table) if table.is_empty() => Some("default".into()),
        Value::Table(table) => {
            let parts: Option<Vec<String>> = table.values().map(scalar).collect();
            let parts = parts?;
            let has_text = table.values().any(Value::is_str);
            Some(match table.keys().next() {
                Some(key) if parts.len() == 1 && !has_text => format!("{key}-{}", parts[0]),
                _ if has_text => parts.join("-"),
                _ => parts.join(":"),
            })
        }
        Value::Array(array) => {
            let parts: Option<Vec<String>> = array.iter().map(scalar).collect();
            parts.map(|parts| parts.join("+"))
        }
        scalar_value => scalar(scalar_value),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(n) => Some(n.to_string()),
        Value::Boolean(b) => Some(b.to_string()),
        Value::Float(x) if x.abs() >= 1e5 || (*x != 0.0 && x.abs() < 1e-3) => {
            Some(format!("{x:e}"))
        }
        Value::Float(x) => Some(x.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(text: &str) -> AxisSpec {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn values_are_called_by_what_they_say() {
        let axis = axis(
            "key = 'stage.0.rope'\nvalues = [{}, { base = 1e6 }, { scaling = 'yarn', factor = 4, \
             original_context = 512 }, { general = 7, domain = 2, instruction = 1 }, 2e-5, 'x', true, 3, [1, 2]]",
        );
        assert_eq!(
            axis.labels().unwrap(),
            [
                "default",
                "base-1e6",
                "yarn-4-512",
                "7:2:1",
                "2e-5",
                "x",
                "true",
                "3",
                "1+2"
            ]
        );
        assert_eq!(axis.short_name(), "rope");
    }

    #[test]
    fn bad_names_are_errors() {
        for (text, word) in [
            ("values = []", "`values` is empty"),
            ("values = [1, 1]", "called \"1\""),
            ("values = [1, 2]\nnames = ['a']", "1 names for 2 values"),
            ("values = [1]\nnames = ['a=b']", "is no name"),
            ("values = [[{ context = 1 }]]", "no short form"),
        ] {
            let error = axis(&format!("key = 'a'\n{text}")).labels().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_value_is_put_where_the_key_says() {
        let study: Table =
            toml::from_str("x = 1\n[[stage]]\ncontext = 2\n[[stage]]\ncontext = 3").unwrap();
        let put = |key: &str| {
            let axis = axis(&format!("key = '{key}'\nvalues = [9]"));
            let mut study = study.clone();
            axis.put(&mut study, &axis.values[0])
                .map(|()| study.to_string())
        };
        let text = put("stage.1.context").unwrap();
        assert!(text.contains("context = 2") && text.contains("context = 9"));
        assert!(put("optimizer.lr").unwrap().contains("lr = 9"));
        assert!(put("stage").unwrap().contains("stage = 9"));
        assert!(
            put("stage.2.context")
                .unwrap_err()
                .contains("2 elements, numbered from 0")
        );
        assert!(put("stage.one.context").unwrap_err().contains("no `one`"));
        assert!(put("x.y").unwrap_err().contains("`x` is a value"));
        assert!(put("x..y").unwrap_err().contains("no key"));
    }
}
