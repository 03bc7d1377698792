//! What a study says about cleaning: the name of a rule set, or a table that adjusts one.
use super::rule::RULES;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
    ser::SerializeMap,
};
use std::{collections::BTreeMap, sync::LazyLock};

/// `clean = "prose"`, or `clean = { rules = "code", max_line_length = 2000, min_words = false }`.
///
/// The keys of the table are `rules`, the set that is adjusted; `languages`, with `min_language_confidence`; and the
/// rules' names, each with another threshold or with `false`, which turns the rule off.
#[derive(Debug, Clone, PartialEq)]
pub struct CleanSpec {
    /// The rule set; `none` leaves documents as they are.
    pub rules: String,
    /// Thresholds in the place of the set's.
    pub thresholds: BTreeMap<String, Threshold>,
    /// ISO 639-3 codes of the languages that are kept; all where there are none.
    pub languages: Vec<String>,
    /// How sure the language must be, from 0 to 1.
    pub min_language_confidence: Option<f64>,
}

/// What a study says of one rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    At(f64),
    Off,
}

/// Whether a text is prose or code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Prose,
    Code,
}

/// A rule set of `rules.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Set {
    pub kind: Kind,
    pub window: Option<usize>,
    #[serde(flatten)]
    pub thresholds: BTreeMap<String, f64>,
}

/// The name that asks for nothing.
const NONE: &str = "none";

static SETS: LazyLock<BTreeMap<String, Set>> =
    LazyLock::new(|| toml::from_str(include_str!("rules.toml")).expect("a test reads rules.toml"));

static SET_NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let names = SETS.keys().map(String::as_str);
    std::iter::once(NONE).chain(names).collect()
});

/// The keys of the table: three of its own and the rules.
static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let own = ["rules", "languages", "min_language_confidence"];
    own.into_iter()
        .chain(RULES.iter().map(|r| r.name))
        .collect()
});

impl Default for CleanSpec {
    fn default() -> Self {
        Self::named(NONE)
    }
}

impl CleanSpec {
    fn named(rules: &str) -> Self {
        Self {
            rules: rules.to_string(),
            thresholds: BTreeMap::new(),
            languages: Vec::new(),
            min_language_confidence: None,
        }
    }

    /// Whether documents stay as they are.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The set with what is adjusted in it.
    pub(super) fn resolve(&self) -> Set {
        let none = Set {
            kind: Kind::Prose,
            window: None,
            thresholds: BTreeMap::new(),
        };
        let mut set = SETS.get(&self.rules).cloned().unwrap_or(none);
        for (rule, threshold) in &self.thresholds {
            match threshold {
                Threshold::At(value) => set.thresholds.insert(rule.clone(), *value),
                Threshold::Off => set.thresholds.remove(rule),
            };
        }
        set
    }
}

impl<'de> Deserialize<'de> for CleanSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = CleanSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("the name of a rule set, or a table with `rules` and thresholds")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<CleanSpec, E> {
                match SET_NAMES.contains(&name) {
                    true => Ok(CleanSpec::named(name)),
                    false => Err(E::unknown_variant(name, &SET_NAMES)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CleanSpec, A::Error> {
                let mut rules = None;
                let mut spec = CleanSpec::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "rules" => {
                            let name: String = map.next_value()?;
                            rules = Some(Reader.visit_str::<A::Error>(&name)?.rules);
                        }
                        "languages" => spec.languages = map.next_value()?,
                        "min_language_confidence" => {
                            spec.min_language_confidence = Some(map.next_value()?);
                        }
                        _ if KEYS.contains(&key.as_str()) => {
                            spec.thresholds.insert(key, map.next_value()?);
                        }
                        _ => return Err(A::Error::unknown_field(&key, &KEYS)),
                    }
                }
                spec.rules = rules.ok_or_else(|| A::Error::missing_field("rules"))?;
                match spec.rules == NONE && !spec.is_none() {
                    true => Err(A::Error::custom(
                        "clean: rules = \"none\" does nothing, so nothing can be adjusted in it; say rules = \"repair\"",
                    )),
                    false => Ok(spec),
                }
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl Serialize for CleanSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Self::named(&self.rules) {
            return serializer.serialize_str(&self.rules);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("rules", &self.rules)?;
        if !self.languages.is_empty() {
            map.serialize_entry("languages", &self.languages)?;
        }
        if let Some(confidence) = self.min_language_confidence {
            map.serialize_entry("min_language_confidence", &confidence)?;
        }
        for (rule, threshold) in &self.thresholds {
            map.serialize_entry(rule, threshold)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Threshold;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a threshold (a number of at least 0), or false to turn the rule off")
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<Threshold, E> {
                match on {
                    false => Ok(Threshold::Off),
                    true => Err(E::invalid_value(serde::de::Unexpected::Bool(true), &self)),
                }
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Threshold, E> {
                match value.is_finite() && value >= 0.0 {
                    true => Ok(Threshold::At(value)),
                    false => Err(E::invalid_value(serde::de::Unexpected::Float(value), &self)),
                }
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Threshold, E> {
                self.visit_f64(value as f64)
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Threshold, E> {
                self.visit_f64(value as f64)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Threshold::At(value) => serializer.serialize_f64(*value),
            Threshold::Off => serializer.serialize_bool(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Source {
        clean: CleanSpec,
    }

    fn read(text: &str) -> Result<CleanSpec, String> {
        let source = toml::from_str::<Source>(text);
        source.map(|s| s.clean).map_err(|e| e.message().to_string())
    }

    #[test]
    fn rule_sets_name_rules_alone() {
        for (name, set) in SETS.iter() {
            for rule in set.thresholds.keys() {
                assert!(RULES.iter().any(|r| r.name == rule), "{name}: {rule}");
            }
        }
        for rule in RULES {
            assert!(
                SETS.values().any(|s| s.thresholds.contains_key(rule.name)),
                "{rule:?} is in no set"
            );
        }
        assert_eq!(
            *SET_NAMES,
            [
                "none",
                "code",
                "fineweb",
                "gopher",
                "prose",
                "repair",
                "starcoder"
            ]
        );
    }

    #[test]
    fn a_name_or_a_table() {
        assert!(read("clean = 'none'").unwrap().is_none());
        let spec = read(
            "clean = { rules = 'code', max_line_length = 2000, max_mean_line_length = false }",
        )
        .unwrap();
        let set = spec.resolve();
        assert_eq!(set.kind, Kind::Code);
        assert_eq!(set.thresholds["max_line_length"], 2000.0);
        assert!(!set.thresholds.contains_key("max_mean_line_length"));
        assert_eq!(set.thresholds["min_alphanumeric_share"], 0.25);
        for text in [
            "clean = 'prose'",
            "clean = { rules = 'prose', languages = ['eng'], min_words = 10 }",
        ] {
            let source = Source {
                clean: read(text).unwrap(),
            };
            let again = toml::to_string(&source).unwrap();
            assert_eq!(toml::from_str::<Source>(&again).unwrap(), source);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            (
                "clean = 'prosse'",
                "unknown variant `prosse`, expected one of `none`, `code`",
            ),
            ("clean = { rules = 'cod' }", "unknown variant `cod`"),
            (
                "clean = { rules = 'code', max_lines_length = 3 }",
                "unknown field `max_lines_length`",
            ),
            ("clean = { max_line_length = 3 }", "missing field `rules`"),
            (
                "clean = { rules = 'code', max_line_length = true }",
                "false to turn the rule off",
            ),
            (
                "clean = { rules = 'code', max_line_length = -1 }",
                "at least 0",
            ),
            (
                "clean = { rules = 'none', min_words = 3 }",
                "rules = \"repair\"",
            ),
            ("clean = 3", "the name of a rule set"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
