//! Which documents stay: duplicates go, then what holds text of an evaluation.
use super::{
    super::{
        Document, Error, Result,
        clean::Kind,
        decontaminate::{Decision, DecontaminateReport, DecontaminateSpec, Decontaminator, Index},
        dedup::{Dedup, DedupReport, DedupSpec, Fate, Outcome, Source},
    },
    HeldOut, Meter, Step, Watch,
    store::{Count, Store},
};
use crate::whole_file;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Changes when the same documents and settings choose others.
const VERSION: u32 = 1;
/// Bytes of text, and documents, that are looked at together.
const BATCH: (usize, usize) = (8 << 20, 1 << 16);

/// A source's documents, and whether they are prose or code.
pub(super) struct Gathered<'a> {
    pub name: &'a str,
    pub store: &'a Store,
    pub kind: Kind,
}

/// What is to be done with all sources' documents together.
pub(super) struct Task<'a> {
    pub sources: &'a [Gathered<'a>],
    /// What the documents are a function of.
    pub identity: &'a str,
    pub dedup: Option<&'a DedupSpec>,
    pub decontaminate: Option<&'a DecontaminateSpec>,
    pub held_out: &'a [HeldOut],
}

/// What came of it, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Summary {
    /// For each source what duplicates left, and what is left in the end.
    pub unique: Vec<Count>,
    pub left: Vec<Count>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<DedupReport>,
    /// The ids of the documents in the report's examples.
    pub examples: BTreeMap<u32, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<DecontaminateReport>,
    /// By the number among the documents that duplicates left, over all sources.
    decisions: BTreeMap<usize, Decision>,
}

/// Which documents stay, and how much of them.
pub(super) struct Chosen {
    pub summary: Summary,
    /// What it is a function of, with the documents.
    pub key: String,
    outcome: Option<Outcome>,
    /// Each source's first document, over all sources, and the first of those that duplicates left.
    firsts: Vec<(u32, usize)>,
}

impl Task<'_> {
    /// Chooses, or takes what is in the cache. A killed one goes on.
    ///
    /// # Errors
    /// When a setting is wrong, or the cache cannot be read or written.
    pub fn run(&self, cache: &Path, watch: &Watch) -> Result<Chosen> {
        let key = self.key();
        let outcome = match self.dedup {
            Some(spec) => Some(self.deduplicate(spec, cache, watch)?),
            None => None,
        };
        let path = cache.join("chosen").join(format!("{key}.json"));
        if let Ok(Ok(summary)) = fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            return Ok(self.chosen(summary, key, outcome));
        }
        let summary = self.select(outcome.as_ref(), watch)?;
        let mut chosen = self.chosen(summary, key, outcome);
        if !chosen.summary.decisions.is_empty() {
            // How much is cut is known when it is.
            for (i, source) in self.sources.iter().enumerate() {
                let mut left = Count::default();
                for document in chosen.documents(i, source.store) {
                    left.add(&document?.0.text);
                }
                chosen.summary.left[i] = left;
            }
        }
        keep(&path, &chosen.summary).map_err(|e| failed(&path, e))?;
        Ok(chosen)
    }

    fn chosen(&self, summary: Summary, key: String, outcome: Option<Outcome>) -> Chosen {
        Chosen {
            firsts: self.firsts(&summary),
            summary,
            key,
            outcome,
        }
    }

    /// What the choice depends on: the documents, the settings and the evaluations' texts.
    fn key(&self) -> String {
        let mut hash = blake3::Hasher::new();
        let dedup = self.dedup.map(DedupSpec::identity);
        let decontaminate = serde_json::to_string(&self.decontaminate).unwrap_or_default();
        hash.update(format!("{VERSION} {} {dedup:?} {decontaminate}", self.identity).as_bytes());
        self.hash_held_out(&mut hash);
        hash.finalize().to_hex()[..24].to_string()
    }

    fn hash_held_out(&self, hash: &mut blake3::Hasher) {
        for HeldOut {
            task,
            documents,
            items,
        } in self.held_out
        {
            for document in documents.iter().chain(items) {
                let texts = [task, &document.id, &document.text];
                for text in texts {
                    hash.update(blake3::hash(text.as_bytes()).as_bytes());
                }
            }
            hash.update(&documents.len().to_le_bytes());
        }
    }

    fn deduplicate(&self, spec: &DedupSpec, cache: &Path, watch: &Watch) -> Result<Outcome> {
        let mut hash = blake3::Hasher::new();
        hash.update(format!("{} {}", self.identity, spec.identity()).as_bytes());
        self.hash_held_out(&mut hash);
        let folder = cache.join("dedup").join(&hash.finalize().to_hex()[..24]);
        fs::create_dir_all(&folder).map_err(|e| failed(&folder, e))?;
        let lock = File::create(folder.join("lock")).map_err(|e| failed(&folder, e))?;
        lock.lock().map_err(|e| failed(&folder, e))?;
        let trained_on = self.sources.iter().map(|s| Source {
            name: s.name.to_string(),
            held_out: false,
        });
        let held_out = self.held_out.iter().map(|h| Source {
            name: format!("evaluation {}", h.task),
            held_out: true,
        });
        let sources: Vec<Source> = trained_on.chain(held_out).collect();
        let mut dedup = Dedup::open(&folder, spec, &sources)?;
        let total: u64 = self
            .sources
            .iter()
            .map(|s| s.store.summary.left.bytes)
            .sum();
        let held_out: usize = self
            .held_out
            .iter()
            .map(|h| h.documents.len() + h.items.len())
            .sum();
        let all: u64 = self
            .sources
            .iter()
            .map(|s| s.store.summary.left.documents)
            .sum();
        if u64::from(dedup.documents()) == all + held_out as u64 {
            return dedup.finish();
        }
        let meter = Meter::start(watch, Step::Deduplicate, "", total);
        let signer = dedup.signer();
        let mut behind = u64::from(dedup.documents());
        for (i, source) in self.sources.iter().enumerate() {
            let documents = source.store.summary.left.documents;
            let mut rest = source.store.documents(behind.min(documents));
            behind -= behind.min(documents);
            loop {
                let batch = batch(&mut rest)?;
                if batch.is_empty() {
                    break;
                }
                let signatures: Vec<_> = batch.par_iter().map(|d| signer.sign(&d.text)).collect();
                for signature in &signatures {
                    dedup.push(i, signature)?;
                }
                meter.add(batch.iter().map(|d| d.text.len() as u64).sum());
            }
        }
        for (i, held_out) in self.held_out.iter().enumerate() {
            let documents = held_out.documents.iter().chain(&held_out.items);
            for document in documents.skip(behind as usize) {
                dedup.push(self.sources.len() + i, &signer.sign(&document.text))?;
            }
            let n = (held_out.documents.len() + held_out.items.len()) as u64;
            behind -= behind.min(n);
        }
        let outcome = dedup.finish()?;
        meter.finish();
        Ok(outcome)
    }

    /// Goes through what duplicates left.
    fn select(&self, outcome: Option<&Outcome>, watch: &Watch) -> Result<Summary> {
        let index = match self.decontaminate {
            Some(spec) => {
                let items = self.held_out.iter().flat_map(|h| h.items.iter().cloned());
                Some(Index::new(spec, items.collect())?)
            }
            None => None,
        };
        let mut decontaminator = index.as_ref().map(Decontaminator::new);
        let total: u64 = self
            .sources
            .iter()
            .map(|s| s.store.summary.left.bytes)
            .sum();
        let meter = Meter::start(watch, Step::Select, "", total);
        let examples = outcome.map(|o| &o.report.examples[..]).unwrap_or_default();
        let wanted: Vec<u32> = examples.iter().flat_map(|e| [e.gone, e.stays]).collect();
        let mut names = BTreeMap::new();
        let mut unique = vec![Count::default(); self.sources.len()];
        let mut number = 0u32;
        for (i, source) in self.sources.iter().enumerate() {
            let mut rest = source.store.documents(0);
            loop {
                let batch = batch(&mut rest)?;
                if batch.is_empty() {
                    break;
                }
                let first = number;
                number += batch.len() as u32;
                let overlaps: Vec<_> = batch
                    .par_iter()
                    .enumerate()
                    .map(|(k, document)| {
                        let stays = outcome.is_none_or(|o| o.fate(first + k as u32) == Fate::Stays);
                        let check = |index: &Index| index.check(&document.text, source.kind);
                        stays.then(|| index.as_ref().map(check).unwrap_or_default())
                    })
                    .collect();
                meter.add(batch.iter().map(|d| d.text.len() as u64).sum());
                for (k, (document, overlaps)) in batch.into_iter().zip(overlaps).enumerate() {
                    let number = first + k as u32;
                    if wanted.contains(&number) {
                        names.insert(number, format!("{}: {}", source.name, document.id));
                    }
                    let Some(overlaps) = overlaps else {
                        continue;
                    };
                    unique[i].add(&document.text);
                    if let Some(decontaminator) = &mut decontaminator {
                        let id = format!("{}: {}", source.name, document.id);
                        decontaminator.add(&id, overlaps);
                    }
                }
            }
        }
        for held_out in self.held_out {
            for document in held_out.documents.iter().chain(&held_out.items) {
                if wanted.contains(&number) {
                    let name = format!("evaluation {}: {}", held_out.task, document.id);
                    names.insert(number, name);
                }
                number += 1;
            }
        }
        meter.finish();
        let decontaminated = decontaminator.map(Decontaminator::finish);
        let (decisions, report) = match decontaminated {
            Some(all) => (all.decisions, Some(all.report)),
            None => (BTreeMap::new(), None),
        };
        Ok(Summary {
            left: unique.clone(),
            unique,
            dedup: outcome.map(|o| o.report.clone()),
            examples: names,
            decontaminate: report,
            decisions,
        })
    }

    /// Each source's first document, over all sources, and the first of those that duplicates left.
    fn firsts(&self, summary: &Summary) -> Vec<(u32, usize)> {
        let mut firsts = Vec::new();
        let (mut first, mut unique) = (0, 0);
        for (source, count) in self.sources.iter().zip(&summary.unique) {
            firsts.push((first, unique));
            first += source.store.summary.left.documents as u32;
            unique += count.documents as usize;
        }
        firsts
    }
}

impl Chosen {
    /// The documents of source `i` that stay, in their order, with what each had before anything was cut.
    pub fn documents<'a>(
        &'a self,
        i: usize,
        store: &Store,
    ) -> impl Iterator<Item = Result<(Document, u64)>> + Send + 'a {
        let (mut number, mut kept) = self.firsts[i];
        store.documents(0).filter_map(move |document| {
            let document = match document {
                Ok(document) => document,
                Err(error) => return Some(Err(error)),
            };
            number += 1;
            let outcome = self.outcome.as_ref();
            if outcome.is_some_and(|o| o.fate(number - 1) != Fate::Stays) {
                return None;
            }
            kept += 1;
            let bytes = document.text.len() as u64;
            let text = match self.summary.decisions.get(&(kept - 1)) {
                Some(decision) => decision.apply(&document.text)?,
                None => document.text,
            };
            Some(Ok((Document { text, ..document }, bytes)))
        })
    }
}

/// The next documents, as many as are looked at together.
fn batch(documents: &mut impl Iterator<Item = Result<Document>>) -> Result<Vec<Document>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for document in documents {
        let document = document?;
        bytes += document.text.len();
        batch.push(document);
        if bytes >= BATCH.0 || batch.len() >= BATCH.1 {
            break;
        }
    }
    Ok(batch)
}

fn keep(path: &Path, summary: &Summary) -> io::Result<()> {
    fs::create_dir_all(whole_file::folder(path))?;
    let text = serde_json::to_vec(summary)?;
    whole_file::replace(path, |file| file.write_all(&text))
}

fn failed(path: &Path, e: io::Error) -> Error {
    Error::File {
        path: path.display().to_string(),
        what: format!("cannot write the cache: {e}"),
    }
}
