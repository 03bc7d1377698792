//! What a study says about duplicates.
use super::super::{Error, Result};
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// The `[dedup]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DedupSpec {
    /// Words of a gram. Documents with fewer words are compared as a whole alone.
    pub ngram: usize,
    /// Bands of a signature: documents that agree in one of them are candidates.
    pub bands: usize,
    /// Hashes of a band.
    pub rows: usize,
    /// A candidate goes when its estimated Jaccard similarity to the document that stays is at least this; at 0, every
    /// candidate goes.
    pub min_jaccard: f64,
    /// Names of sources, the one to be kept from first. Those that are not named come behind, in the study's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub precedence: Vec<String>,
    /// Chooses the hash functions.
    pub seed: u64,
    /// How much memory signatures may take before they go to disk. No result depends on it.
    pub memory: ByteSize,
}

impl Default for DedupSpec {
    fn default() -> Self {
        DedupSpec {
            ngram: 5,
            bands: 14,
            rows: 8,
            min_jaccard: 0.5,
            precedence: Vec::new(),
            seed: 0,
            memory: ByteSize::gib(1),
        }
    }
}

/// Below this, hundreds of files would be merged at once.
const LEAST_MEMORY: ByteSize = ByteSize::mib(16);

impl DedupSpec {
    /// Checks what the table says; `sources` are the names that `precedence` may have.
    ///
    /// # Errors
    /// One line that names the key and what is wrong.
    pub fn check<'a>(&self, sources: impl Iterator<Item = &'a str>) -> Result<()> {
        let wrong = |what: String| Err(Error::Dedup(what));
        for (key, value, most) in [
            ("ngram", self.ngram, 64),
            ("bands", self.bands, 256),
            ("rows", self.rows, 64),
        ] {
            if value == 0 || value > most {
                return wrong(format!("{key} = {value}: must be between 1 and {most}"));
            }
        }
        let jaccard = self.min_jaccard;
        if !(0.0..=1.0).contains(&jaccard) {
            return wrong(format!(
                "min_jaccard = {jaccard}: a similarity is between 0 and 1"
            ));
        }
        if self.memory < LEAST_MEMORY {
            return wrong(format!(
                "memory = \"{}\": give \"{LEAST_MEMORY}\" or more",
                self.memory
            ));
        }
        let sources: Vec<&str> = sources.collect();
        for (i, name) in self.precedence.iter().enumerate() {
            if !sources.contains(&name.as_str()) {
                let known = sources.join(", ");
                return wrong(format!(
                    "precedence: {name:?} is no data source of texts; there are {known}"
                ));
            }
            if self.precedence[..i].contains(name) {
                return wrong(format!("precedence: {name:?} is there twice"));
            }
        }
        Ok(())
    }

    /// All that the result depends on beside the documents: everything but `memory`, and the version of the method.
    pub fn identity(&self) -> String {
        let DedupSpec {
            ngram,
            bands,
            rows,
            min_jaccard,
            precedence,
            seed,
            memory: _,
        } = self;
        format!("dedup/{VERSION} {ngram} {bands}x{rows} {min_jaccard:?} {precedence:?} {seed}")
    }
}

/// Changes when the same documents get other verdicts, or spill files another format.
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(toml: &str) -> std::result::Result<DedupSpec, String> {
        let spec: DedupSpec = toml::from_str(toml).map_err(|e| e.to_string())?;
        let names = ["general", "domain"];
        spec.check(names.into_iter()).map_err(|e| e.to_string())?;
        Ok(spec)
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (toml, word) in [
            ("ngrams = 5", "ngrams"),
            ("ngram = 0", "ngram = 0"),
            ("bands = 257", "between 1 and 256"),
            ("min_jaccard = 1.5", "min_jaccard = 1.5"),
            ("min_jaccard = nan", "between 0 and 1"),
            ("memory = '1 MiB'", "16.0 MiB"),
            ("memory = 'much'", "memory"),
            ("precedence = ['domian']", "there are general, domain"),
            ("precedence = ['domain', 'domain']", "twice"),
        ] {
            let error = said(toml).unwrap_err();
            assert!(error.contains(word), "{toml}: {error}");
        }
    }

    #[test]
    fn only_memory_is_outside_the_identity() {
        let plain = said("").unwrap();
        assert_eq!(plain, DedupSpec::default());
        assert_eq!(
            said("memory = '64 MiB'").unwrap().identity(),
            plain.identity()
        );
        for toml in [
            "ngram = 4",
            "bands = 8",
            "rows = 14",
            "min_jaccard = 0.7",
            "precedence = ['domain']",
            "seed = 1",
        ] {
            assert_ne!(said(toml).unwrap().identity(), plain.identity(), "{toml}");
        }
    }

    #[test]
    fn a_spec_survives_toml() {
        let spec = said("memory = '64 MiB'\nprecedence = ['domain']").unwrap();
        assert_eq!(spec.memory.as_u64(), 64 << 20);
        assert_eq!(said(&toml::to_string(&spec).unwrap()).unwrap(), spec);
    }
}
