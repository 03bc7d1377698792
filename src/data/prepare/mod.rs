//! From a study's sources to token ids: read and clean, deduplicate, decontaminate, tokenise. Each step is kept in the
//! cache under the hash of what it was made from, goes on after a kill, and leaves the same bytes whatever the number
//! of threads.
mod choose;
mod gather;
mod progress;
mod report;
mod store;

use super::{
    Document, Error, Generator, Result, Shard, SourceSpec,
    clean::Cleaner,
    decontaminate::DecontaminateSpec,
    dedup::DedupSpec,
    encode::{Encoder, encode_all},
    inputs,
    megatron::{About, Writer, tokenizer_hash, vocabulary},
    source::generator_hash,
    synthetic,
};
use choose::{Chosen, Gathered, Task};
pub(super) use progress::Meter;
pub use progress::{Progress, Step, Watch};
pub use report::{Left, PreparationReport, SourceReport};
use std::{fs, path::Path};
pub use store::Count;
use store::Store;
use tokenizers::Tokenizer;

/// Texts of an evaluation, which are not to be trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// The task's name.
    pub task: String,
    /// The documents that its items were taken from.
    pub documents: Vec<Document>,
    /// The items' own texts.
    pub items: Vec<Document>,
}

/// What is to be prepared, and how.
pub struct Preparation<'a> {
    pub sources: &'a [SourceSpec],
    pub dedup: Option<&'a DedupSpec>,
    pub decontaminate: Option<&'a DecontaminateSpec>,
    /// The evaluations' texts, where either of these is said: what is a duplicate of one of them goes.
    pub held_out: &'a [HeldOut],
    pub tokenizer: &'a Tokenizer,
    /// The ids before and behind each document.
    pub ends: (Option<u32>, Option<u32>),
}

/// Token ids of all sources, in their order, and how they came about.
#[derive(Debug)]
pub struct Prepared {
    pub shards: Vec<(String, Shard)>,
    pub report: PreparationReport,
}

/// A source on its way.
enum Material<'a> {
    Ids(Shard),
    Generator(&'a Generator),
    /// Documents that were read and cleaned.
    Store {
        store: Store,
        cleaner: Box<Cleaner>,
        /// What the documents are a function of.
        identity: String,
    },
}

impl Preparation<'_> {
    /// Prepares all sources in the folder `cache`, or finds them there.
    ///
    /// # Errors
    /// One line: what is wrong with a source or a setting, or what cannot be written.
    pub fn run(&self, cache: &Path, watch: &Watch) -> Result<Prepared> {
        fs::create_dir_all(cache).map_err(|e| Error::File {
            path: cache.display().to_string(),
            what: format!("cannot write the cache: {e}"),
        })?;
        let mut sources = Vec::new();
        for spec in self.sources {
            let (content, material) = self.material(spec, cache, watch)?;
            sources.push((spec, content, material));
        }
        let mut gathered = Vec::new();
        let mut identity = String::new();
        for (spec, _, material) in &sources {
            if let Material::Store {
                store,
                cleaner,
                identity: own,
            } = material
            {
                gathered.push(Gathered {
                    name: &spec.name,
                    store,
                    kind: cleaner.kind(),
                });
                identity += &format!("{:?} {own} {:?}\n", spec.name, cleaner.kind());
            }
        }
        let asked = self.dedup.is_some() || self.decontaminate.is_some();
        let task = Task {
            sources: &gathered,
            identity: &identity,
            dedup: self.dedup,
            decontaminate: self.decontaminate,
            held_out: self.held_out,
        };
        let chosen = match asked && !gathered.is_empty() {
            true => Some(task.run(cache, watch)?),
            false => None,
        };
        let encoder = Encoder::new(self.tokenizer);
        let mut prepared = Prepared {
            shards: Vec::new(),
            report: PreparationReport {
                sources: Vec::new(),
                dedup: None,
                dedup_examples: Default::default(),
                decontaminate: None,
                tokenizer: tokenizer_hash(self.tokenizer)?,
            },
        };
        let mut number = 0;
        for (spec, content, material) in sources {
            let mut report = SourceReport {
                name: spec.name.clone(),
                content,
                read: None,
                clean: None,
                steps: Vec::new(),
                documents: 0,
                tokens: 0,
                token_ids: None,
            };
            let shard = match material {
                Material::Ids(shard) => shard,
                Material::Generator(generator) => {
                    self.generate(generator, &report.content, &encoder, cache)?
                }
                Material::Store {
                    store, identity, ..
                } => {
                    let chosen = chosen.as_ref().map(|chosen| (chosen, number));
                    number += 1;
                    self.describe(&store, chosen, spec, &mut report)?;
                    self.tokenise(spec, &store, &identity, chosen, &encoder, cache, watch)?
                }
            };
            report.documents = shard.len() as u64;
            report.tokens = shard.tokens();
            report.token_ids = shard.about().map(|about| about.name().to_string());
            prepared.report.sources.push(report);
            prepared.shards.push((spec.name.clone(), shard));
        }
        if let Some(chosen) = chosen {
            prepared.report.dedup = chosen.summary.dedup;
            prepared.report.dedup_examples = chosen.summary.examples;
            prepared.report.decontaminate = chosen.summary.decontaminate;
        }
        Ok(prepared)
    }

    /// What a source holds, with the hash of it.
    fn material<'s>(
        &self,
        spec: &'s SourceSpec,
        cache: &Path,
        watch: &Watch,
    ) -> Result<(String, Material<'s>)> {
        if let Some(prefix) = spec.token_prefix()? {
            let shard = Shard::open(&prefix)?;
            shard.check_tokenizer(&tokenizer_hash(self.tokenizer)?, vocabulary(self.tokenizer))?;
            return Ok((Shard::content_hash(&prefix)?, Material::Ids(shard)));
        }
        if let Some(generator) = &spec.generator {
            return Ok((generator_hash(generator), Material::Generator(generator)));
        }
        let content = inputs::hash(spec, cache, watch)?;
        let cleaner = spec.cleaner()?;
        // What cleaning leaves as it is has the content's own name: it always had.
        let identity = match spec.clean.is_none() {
            true => content.clone(),
            false => format!("{content} {}", cleaner.identity()),
        };
        let name = blake3::hash(identity.as_bytes()).to_hex();
        let folder = cache.join("documents").join(&name[..24]);
        let store = gather::gather(spec, &content, &cleaner, &folder, watch)?;
        let material = Material::Store {
            store,
            cleaner: Box::new(cleaner),
            identity,
        };
        Ok((content, material))
    }

    /// What the steps left of a source.
    fn describe(
        &self,
        store: &Store,
        chosen: Option<(&Chosen, usize)>,
        spec: &SourceSpec,
        report: &mut SourceReport,
    ) -> Result<()> {
        let store::Summary { read, clean, left } = &store.summary;
        let mut step = |after, count| report.steps.push(Left { after, count });
        let as_read = Count {
            documents: read.documents,
            bytes: read.bytes,
        };
        step("read", as_read);
        if clean.is_some() {
            step("clean", *left);
        }
        let mut count = *left;
        if let Some((chosen, i)) = chosen {
            if self.dedup.is_some() {
                step("deduplicate", chosen.summary.unique[i]);
            }
            if self.decontaminate.is_some() {
                step("decontaminate", chosen.summary.left[i]);
            }
            count = chosen.summary.left[i];
        }
        report.read = Some(read.clone());
        report.clean.clone_from(clean);
        match count.documents {
            0 => spec.wrong(format!(
                "deduplication and decontamination leave none of its {} documents",
                left.documents
            )),
            _ => Ok(()),
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one caller, and each is another thing"
    )]
    fn tokenise(
        &self,
        spec: &SourceSpec,
        store: &Store,
        identity: &str,
        chosen: Option<(&Chosen, usize)>,
        encoder: &Encoder,
        cache: &Path,
        watch: &Watch,
    ) -> Result<Shard> {
        let (made_of, bytes) = match chosen {
            Some((chosen, i)) => (
                format!("{identity} {} {:?}", chosen.key, spec.name),
                chosen.summary.unique[i].bytes,
            ),
            None => (identity.to_string(), store.summary.left.bytes),
        };
        self.shard(&made_of, cache, |writer| {
            let meter = Meter::start(watch, Step::Tokenise, &spec.name, bytes);
            let done = writer.documents() as usize;
            let counted = |document: Result<(Document, u64)>| {
                document.map(|(document, bytes)| {
                    meter.add(bytes);
                    document
                })
            };
            match chosen {
                Some((chosen, i)) => {
                    let documents = chosen.documents(i, store).map(counted);
                    encode_all(documents.skip(done), encoder, writer)?;
                }
                None => {
                    let documents = store.documents(done as u64).map(|document| {
                        document.map(|document| {
                            let bytes = document.text.len() as u64;
                            (document, bytes)
                        })
                    });
                    encode_all(documents.map(counted), encoder, writer)?;
                }
            }
            meter.finish();
            Ok(())
        })
    }

    fn generate(
        &self,
        generator: &Generator,
        content: &str,
        encoder: &Encoder,
        cache: &Path,
    ) -> Result<Shard> {
        self.shard(content, cache, |writer| {
            let done = writer.documents() as usize;
            let documents = synthetic::documents(generator, encoder)?;
            for ids in documents.into_iter().skip(done) {
                writer.push_between(ids)?;
            }
            Ok(())
        })
    }

    /// Token ids of what `made_of` names: from the cache, or written by `fill` behind the documents that are there.
    fn shard(
        &self,
        made_of: &str,
        cache: &Path,
        fill: impl FnOnce(&mut Writer) -> Result<()>,
    ) -> Result<Shard> {
        let about = About::new(made_of, self.tokenizer, self.ends)?;
        let prefix = cache.join(about.name());
        // What is damaged is made again.
        let cached = || {
            let shard = Shard::open(&prefix).ok();
            shard.filter(|shard| shard.about() == Some(&about))
        };
        if let Some(shard) = cached().filter(|_| !Writer::left(&prefix)) {
            return Ok(shard);
        }
        let mut writer = Writer::open(&prefix, about.clone())?;
        if let Some(shard) = cached() {
            writer.discard()?;
            return Ok(shard);
        }
        fill(&mut writer)?;
        writer.finish()?;
        Shard::open(&prefix)
    }
}
