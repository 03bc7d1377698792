//! How sequences are cut from a stream of documents.
use super::{
    best_fit::best_fit,
    stream::{Piece, Stream},
};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// How sequences are cut from documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Documents one after the other, cut wherever a sequence ends.
    #[default]
    Concat,
    /// Documents are put together so that those that fit a sequence are not cut: best-fit decreasing among the
    /// documents of about a thousand sequences. Longer ones are cut into whole sequences and a rest that is packed
    /// like a document. What stays free is padding.
    BestFit,
    /// Each sequence is the beginning of one document that is longer than the context; its end is not used.
    Documents,
}

/// Sequences whose documents are packed together.
const WINDOW: u64 = 1024;

/// What of a stream comes next: these pieces, then what lies behind position `at`.
#[derive(Debug, Clone, Default)]
pub(super) struct Due {
    left: Vec<Piece>,
    at: u64,
}

/// A sequence: its pieces, and the one whose first token comes next in the stream.
pub(super) struct Row {
    pub pieces: Vec<Piece>,
    pub ahead: Option<Piece>,
}

impl Row {
    /// Tokens without padding.
    pub fn tokens(&self) -> u64 {
        self.pieces.iter().map(Piece::len).sum()
    }
}

/// How one stage goes through one stream: its sequences by their numbers, and what is due when it ends.
#[derive(Debug)]
pub(super) struct Course {
    packing: Packing,
    context: u64,
    due: Due,
    /// Tokens in `due.left` before each of its pieces, and in all of them.
    begins: Vec<u64>,
    /// Packing by documents: the whole ones among `due.left`, by their indices, and the number in the stream of the
    /// first one behind them.
    whole: Vec<usize>,
    first: u64,
    windows: Vec<Window>,
    packed: Mutex<Vec<(usize, Arc<Packed>)>>,
}

/// A window of packing by best fit.
#[derive(Debug)]
struct Window {
    /// Sequences before it.
    before: u64,
    /// Where its documents begin and end in the stream; the first has what is left as well.
    begin: u64,
    end: u64,
}

/// A window's pieces, none longer than the context, in their order, and its sequences as indices of them.
#[derive(Debug)]
struct Packed {
    pieces: Vec<Piece>,
    bins: Vec<Vec<u32>>,
}

impl Course {
    /// The stream must have tokens, and under packing by documents no document that is not longer than the context.
    pub fn new(stream: &Stream, packing: Packing, context: usize, due: Due) -> Self {
        let mut begins = vec![0];
        for piece in &due.left {
            begins.push(begins[begins.len() - 1] + piece.len());
        }
        let (mut whole, mut first) = (Vec::new(), 0);
        if packing == Packing::Documents {
            let is_whole = |p: &Piece| p.from == 0 && p.to == stream.length(p.document);
            whole = (0..due.left.len())
                .filter(|&i| is_whole(&due.left[i]))
                .collect();
            first = stream.documents_before(due.at);
        }
        Course {
            packing,
            context: context as u64,
            due,
            begins,
            whole,
            first,
            windows: Vec::new(),
            packed: Mutex::default(),
        }
    }

    /// Tokens of sequence `ordinal`, without padding. Sequences are asked for in their order first: those behind are
    /// not packed yet.
    pub fn tokens(&mut self, stream: &Stream, ordinal: u64) -> u64 {
        if self.packing != Packing::BestFit {
            return self.context;
        }
        loop {
            let window = match self.windows.len() {
                0 => None,
                n => Some((n - 1, self.packed(stream, n - 1))),
            };
            let (before, begin) = match &window {
                Some((w, packed)) => {
                    let window = &self.windows[*w];
                    let after = window.before + packed.bins.len() as u64;
                    if ordinal < after {
                        break;
                    }
                    (after, window.end)
                }
                None => (0, self.due.at),
            };
            self.windows.push(Window {
                before,
                begin,
                end: begin,
            });
            let last = self.windows.len() - 1;
            self.windows[last].end = self.documents(stream, last).1;
        }
        self.row(stream, ordinal).tokens()
    }

    pub fn row(&self, stream: &Stream, ordinal: u64) -> Row {
        match self.packing {
            Packing::Concat => self.concat(stream, ordinal * self.context),
            Packing::BestFit => {
                let w = self.window(ordinal);
                let packed = self.packed(stream, w);
                let bin = &packed.bins[(ordinal - self.windows[w].before) as usize];
                Row {
                    pieces: bin.iter().map(|&i| packed.pieces[i as usize]).collect(),
                    ahead: None,
                }
            }
            Packing::Documents => {
                let mut piece = match self.whole.get(ordinal as usize) {
                    Some(&i) => self.due.left[i],
                    None => {
                        let number = self.first + ordinal - self.whole.len() as u64;
                        stream.walk(stream.begin_of(number)).next()
                    }
                };
                piece.to = self.context;
                Row {
                    pieces: vec![piece],
                    ahead: None,
                }
            }
        }
    }

    /// What is due when `sequences` of them were taken.
    pub fn after(&self, stream: &Stream, sequences: u64) -> Due {
        if sequences == 0 {
            return self.due.clone();
        }
        match self.packing {
            Packing::Concat => {
                let taken = sequences * self.context;
                let left = self.begins[self.begins.len() - 1];
                Due {
                    left: self.left_from(taken).collect(),
                    at: self.due.at + taken.saturating_sub(left),
                }
            }
            Packing::BestFit => {
                let w = self.window(sequences - 1);
                let packed = self.packed(stream, w);
                let taken = (sequences - self.windows[w].before) as usize;
                let mut unused: Vec<u32> = packed.bins[taken..].concat();
                unused.sort_unstable();
                let mut left: Vec<Piece> = Vec::new();
                for piece in unused.into_iter().map(|i| packed.pieces[i as usize]) {
                    match left.last_mut() {
                        // What was cut for this context is whole again for another one.
                        Some(last) if last.document == piece.document && last.to == piece.from => {
                            last.to = piece.to;
                        }
                        _ => left.push(piece),
                    }
                }
                Due {
                    left,
                    at: self.windows[w].end,
                }
            }
            Packing::Documents => {
                let taken = self.whole.len().min(sequences as usize);
                let used = &self.whole[..taken];
                let left = self.due.left.iter().enumerate();
                let unused = left.filter(|(i, _)| used.binary_search(i).is_err());
                let mut left: Vec<Piece> = unused.map(|(_, piece)| *piece).collect();
                // The rest of a document that was begun stays due.
                let rest = stream.walk(self.due.at).next();
                if rest.from > 0 {
                    left.push(rest);
                }
                Due {
                    left,
                    at: stream.begin_of(self.first + sequences - taken as u64),
                }
            }
        }
    }

    /// What of `due.left` lies behind its first `taken` tokens.
    fn left_from(&self, taken: u64) -> impl Iterator<Item = Piece> + '_ {
        let first = self.begins.partition_point(|&b| b <= taken) - 1;
        let pieces = self.due.left.iter().enumerate().skip(first);
        pieces.map(move |(i, piece)| Piece {
            from: piece.from + taken.saturating_sub(self.begins[i]),
            ..*piece
        })
    }

    /// The sequence that begins `taken` tokens behind the stage's begin.
    fn concat(&self, stream: &Stream, taken: u64) -> Row {
        let mut pieces = Vec::new();
        let mut room = self.context;
        let mut left = self.left_from(taken);
        let mut walk = None;
        let behind = self.begins[self.begins.len() - 1];
        loop {
            let mut piece = left.next().unwrap_or_else(|| {
                let at = self.due.at + taken.saturating_sub(behind);
                walk.get_or_insert_with(|| stream.walk(at)).next()
            });
            if room == 0 {
                return Row {
                    pieces,
                    ahead: Some(piece),
                };
            }
            let take = piece.len().min(room);
            room -= take;
            let ends_here = take < piece.len();
            piece.to = piece.from + take;
            pieces.push(piece);
            if ends_here {
                return Row {
                    pieces,
                    ahead: None,
                };
            }
        }
    }

    /// The window that sequence `ordinal` is in.
    fn window(&self, ordinal: u64) -> usize {
        self.windows.partition_point(|w| w.before <= ordinal) - 1
    }

    /// A window's documents, and where they end in the stream.
    fn documents(&self, stream: &Stream, window: usize) -> (Vec<Piece>, u64) {
        let mut pieces = match window {
            0 => self.due.left.clone(),
            _ => Vec::new(),
        };
        let mut tokens: u64 = pieces.iter().map(Piece::len).sum();
        let mut walk = stream.walk(self.windows[window].begin);
        // An epoch's end ends the window: nothing of the next one comes before what is left of it.
        while tokens < WINDOW * self.context && (pieces.is_empty() || !walk.between_epochs()) {
            let piece = walk.next();
            tokens += piece.len();
            pieces.push(piece);
        }
        (pieces, walk.at)
    }

    fn packed(&self, stream: &Stream, window: usize) -> Arc<Packed> {
        let mut kept = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, packed)) = kept.iter().find(|(kept, _)| *kept == window) {
            return Arc::clone(packed);
        }
        let mut pieces = Vec::new();
        for piece in self.documents(stream, window).0 {
            let mut from = piece.from;
            while from < piece.to {
                let to = piece.to.min(from + self.context);
                pieces.push(Piece { from, to, ..piece });
                from = to;
            }
        }
        let lengths: Vec<u64> = pieces.iter().map(Piece::len).collect();
        let bins = best_fit(&lengths, self.context);
        let packed = Arc::new(Packed { pieces, bins });
        if kept.len() >= 2 {
            kept.remove(0);
        }
        kept.push((window, Arc::clone(&packed)));
        packed
    }
}
