//! The n-grams of the evaluations, and where a text has runs of them.
use super::{DecontaminateSpec, units};
use crate::data::{Document, Error, Result, clean::Kind};
use rustc_hash::FxHashSet;
use std::ops::Range;

/// Words of a run that is evidence, however long the evaluation text is (Lee et al. 2021, 2107.06499, find duplicate
/// training text by as many).
pub(super) const LONGEST_RUN: usize = 50;
/// Of a text's words one in so many must be in the run, up to that.
const SHARE: usize = 10;
/// Characters of a run's text that are kept for the report.
const EXCERPT: usize = 300;
/// Factor of the rolling hash: odd, so that it has an inverse.
const BASE: u64 = 0xd1b5_4a32_d192_ed03;

/// The evaluations' n-grams of prose and of code.
#[derive(Debug)]
pub struct Index {
    pub(super) spec: DecontaminateSpec,
    pub(super) items: Vec<Document>,
    prose: Grams,
    code: Grams,
}

/// A run of an evaluation's words in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// Number of the evaluation text.
    pub item: usize,
    /// Where the run stands in the training document.
    pub bytes: Range<usize>,
    /// How many words it has.
    pub words: usize,
    /// How many words a run of this evaluation text must have.
    pub required: usize,
    /// The document's text there, cut off after 300 characters.
    pub text: String,
    /// The run's n-grams, by number.
    pub(super) grams: Vec<u32>,
    pub(super) kind: Kind,
}

impl Index {
    /// Reads the evaluation texts. Each is looked for in prose as words and in code as code's.
    ///
    /// # Errors
    /// When the table is wrong.
    pub fn new(spec: &DecontaminateSpec, items: Vec<Document>) -> Result<Self> {
        spec.check()?;
        if u32::try_from(items.iter().map(|item| item.text.len()).sum::<usize>()).is_err() {
            return Err(Error::Decontaminate(
                "the evaluation texts are 4 GiB or more, which no index is made for".into(),
            ));
        }
        Ok(Self {
            prose: Grams::new(&items, Kind::Prose, spec.words, spec.common_items),
            code: Grams::new(&items, Kind::Code, spec.tokens, spec.common_items),
            spec: spec.clone(),
            items,
        })
    }

    /// The runs of evaluation texts in a training document, by their beginning and then by item.
    pub fn check(&self, text: &str, kind: Kind) -> Vec<Overlap> {
        self.grams(kind).check(&self.items, text)
    }

    pub(super) fn grams(&self, kind: Kind) -> &Grams {
        match kind {
            Kind::Prose => &self.prose,
            Kind::Code => &self.code,
        }
    }
}

/// Distinct n-grams of one kind, by hash.
#[derive(Debug)]
pub(super) struct Grams {
    kind: Kind,
    n: usize,
    /// Of each item, its words' bytes.
    units: Vec<Vec<Range<u32>>>,
    /// The hash of each n-gram, ascending.
    hashes: Vec<u64>,
    /// Where the places of each begin.
    offsets: Vec<u32>,
    /// Of each n-gram the items that have it, with its first word there.
    places: Vec<(u32, u32)>,
    /// A bit for each of the hashes' first bits: nearly all n-grams of a training document are out by it.
    filter: Vec<u64>,
    filter_bits: u32,
    /// N-grams that are left out because they stand in too many items.
    pub common: usize,
}

impl Grams {
    fn new(items: &[Document], kind: Kind, n: usize, common_items: usize) -> Self {
        let mut units = Vec::with_capacity(items.len());
        let mut found: Vec<(u64, u32, u32)> = Vec::new();
        for (item, document) in (0..).zip(items) {
            let mut ranges = Vec::new();
            let mut hashes = Vec::new();
            units::each(&document.text, kind, |unit| {
                ranges.push(unit.start as u32..unit.end as u32);
                hashes.push(unit.hash);
            });
            let mut distinct = FxHashSet::default();
            for (first, gram) in (0..).zip(hashes.windows(n)) {
                let hash = gram.iter().fold(0, |h, unit| roll(h, *unit));
                let different: FxHashSet<&u64> = gram.iter().collect();
                // Half of the words the same: a table, a line of dots.
                if 2 * different.len() >= n && distinct.insert(hash) {
                    found.push((hash, item, first));
                }
            }
            units.push(ranges);
        }
        found.sort_unstable();
        let mut grams = Self {
            kind,
            n,
            units,
            hashes: Vec::new(),
            offsets: Vec::new(),
            places: Vec::new(),
            filter: Vec::new(),
            filter_bits: (found.len().max(64) * 16).next_power_of_two().ilog2(),
            common: 0,
        };
        grams.filter = vec![0; 1 << (grams.filter_bits - 6)];
        for same in found.chunk_by(|a, b| a.0 == b.0) {
            if same.len() > common_items {
                grams.common += 1;
                continue;
            }
            let (word, bit) = grams.filter_place(same[0].0);
            grams.filter[word] |= bit;
            grams.hashes.push(same[0].0);
            grams.offsets.push(grams.places.len() as u32);
            let places = same.iter().map(|(_, item, first)| (*item, *first));
            grams.places.extend(places);
        }
        grams.offsets.push(grams.places.len() as u32);
        grams
    }

    /// Items that have too few words to be found.
    pub fn too_short(&self) -> impl Iterator<Item = usize> {
        let short = |(_, units): &(usize, &Vec<Range<u32>>)| units.len() < self.n;
        self.units
            .iter()
            .enumerate()
            .filter(short)
            .map(|(item, _)| item)
    }

    /// The first item that has an n-gram, and the n-gram's first word there.
    pub fn place(&self, gram: u32) -> (u32, u32) {
        self.places[self.offsets[gram as usize] as usize]
    }

    /// The words of an n-gram as the first item that has it says them.
    pub fn text<'a>(&self, items: &'a [Document], gram: u32) -> &'a str {
        let (item, first) = self.place(gram);
        let units = &self.units[item as usize];
        let (from, to) = (&units[first as usize], &units[first as usize + self.n - 1]);
        &items[item as usize].text[from.start as usize..to.end as usize]
    }

    /// Words that a run of so many n-grams has.
    pub fn words(&self, grams: usize) -> usize {
        grams + self.n - 1
    }

    fn filter_place(&self, hash: u64) -> (usize, u64) {
        let bit = hash.wrapping_mul(BASE) >> (64 - self.filter_bits);
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn required(&self, item: usize) -> usize {
        (self.units[item].len() / SHARE).clamp(self.n, LONGEST_RUN)
    }

    /// Whether a run says more than an idiom: of code it needs as many different words as an n-gram has. Two nested
    /// loops over ranges have ten words, but not ten different ones.
    fn has_enough_different(&self, run: &str) -> bool {
        let mut different = FxHashSet::default();
        units::each(run, self.kind, |unit| {
            different.insert(unit.hash);
        });
        self.kind == Kind::Prose || different.len() >= self.n
    }

    fn check(&self, items: &[Document], text: &str) -> Vec<Overlap> {
        let mut runs = Runs {
            grams: self,
            items,
            text,
            open: Vec::new(),
            closed: Vec::new(),
        };
        if self.hashes.is_empty() {
            return Vec::new();
        }
        let leaves = (0..self.n).fold(1u64, |power, _| power.wrapping_mul(BASE));
        let mut last = vec![
            units::Unit {
                start: 0,
                end: 0,
                hash: 0
            };
            self.n
        ];
        let (mut seen, mut slot, mut hash) = (0, 0, 0u64);
        units::each(text, self.kind, |unit| {
            let left = std::mem::replace(&mut last[slot], unit);
            slot = (slot + 1) % self.n;
            seen += 1;
            // The ring begins with words of hash 0, which change nothing.
            hash = roll(hash, unit.hash).wrapping_sub(left.hash.wrapping_mul(leaves));
            if seen < self.n {
                return;
            }
            let (word, bit) = self.filter_place(hash);
            let gram = match self.filter[word] & bit {
                0 => None,
                _ => self.hashes.binary_search(&hash).ok(),
            };
            if gram.is_some() || !runs.open.is_empty() {
                let (newer, older) = last.split_at(slot);
                runs.step(gram, older.iter().chain(newer));
            }
        });
        runs.close(|_| true);
        runs.closed
            .sort_by_key(|overlap| (overlap.bytes.start, overlap.item));
        runs.closed
    }
}

fn roll(hash: u64, unit: u64) -> u64 {
    hash.wrapping_mul(BASE).wrapping_add(unit)
}

/// Runs of items' n-grams in one text.
struct Runs<'a> {
    grams: &'a Grams,
    items: &'a [Document],
    text: &'a str,
    open: Vec<Run>,
    closed: Vec<Overlap>,
}

struct Run {
    item: u32,
    bytes: Range<usize>,
    grams: Vec<u32>,
    extended: bool,
}

impl Runs<'_> {
    /// Goes one word on: `gram` is the n-gram that ends with it, if it is an evaluation's, `units` are its words.
    fn step<'u>(
        &mut self,
        gram: Option<usize>,
        units: impl Iterator<Item = &'u units::Unit> + Clone,
    ) {
        if let Some(gram) = gram {
            let places = self.grams.offsets[gram] as usize..self.grams.offsets[gram + 1] as usize;
            for (item, first) in &self.grams.places[places] {
                if self.is_equal(*item, *first, units.clone()) {
                    self.extend(*item, gram as u32, units.clone());
                }
            }
        }
        self.close(|run| !run.extended);
        for run in &mut self.open {
            run.extended = false;
        }
    }

    /// Whether the words are those of the item from `first` on: no claim by a hash alone.
    fn is_equal<'u>(
        &self,
        item: u32,
        first: u32,
        units: impl Iterator<Item = &'u units::Unit>,
    ) -> bool {
        let theirs = &self.grams.units[item as usize][first as usize..];
        let item = &self.items[item as usize].text;
        units.zip(theirs).all(|(ours, theirs)| {
            let theirs = &item[theirs.start as usize..theirs.end as usize];
            units::equal(&self.text[ours.start..ours.end], theirs, self.grams.kind)
        })
    }

    fn extend<'u>(
        &mut self,
        item: u32,
        gram: u32,
        units: impl Iterator<Item = &'u units::Unit> + Clone,
    ) {
        let end = units.clone().last().map_or(0, |unit| unit.end);
        if let Some(run) = self.open.iter_mut().find(|run| run.item == item) {
            run.bytes.end = end;
            run.grams.push(gram);
            run.extended = true;
            return;
        }
        let start = units.clone().next().map_or(0, |unit| unit.start);
        self.open.push(Run {
            item,
            bytes: start..end,
            grams: vec![gram],
            extended: true,
        });
    }

    /// Ends runs; the ones that are long enough are overlaps.
    fn close(&mut self, ends: impl Fn(&Run) -> bool) {
        let ended: Vec<Run> = self.open.extract_if(.., |run| ends(run)).collect();
        for run in ended {
            let item = run.item as usize;
            let words = self.grams.words(run.grams.len());
            let required = self.grams.required(item);
            let text = &self.text[run.bytes.clone()];
            if words >= required && self.grams.has_enough_different(text) {
                self.closed.push(Overlap {
                    item,
                    text: text.chars().take(EXCERPT).collect(),
                    bytes: run.bytes,
                    words,
                    required,
                    grams: run.grams,
                    kind: self.grams.kind,
                });
            }
        }
    }
}
