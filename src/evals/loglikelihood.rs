//! What lm-eval calls loglikelihood: log-probabilities of given tokens after given tokens, for anybody's items.
use super::{Error, Subject, Tokens};
use crate::model::ModelConfig;
use crate::model::cache::KvCache;
use crate::ops::cross_entropy;
use candle_core::Tensor;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

/// Tokens that one pass runs through the model, about.
const PASS: usize = 2048;

/// Tokens of which the last are scored, each given all before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub token_ids: Vec<u32>,
    /// Index of the first scored token; 1 or more.
    pub scored_from: usize,
}

/// The scores of an item, one of each a scored token.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Natural logarithms.
    pub logprobs: Vec<f32>,
    /// Whether the token is the likeliest.
    pub greedy: Vec<bool>,
}

/// What lm-eval puts before a text that has nothing before it: BOS, or else EOS.
pub fn prefix(config: &ModelConfig) -> Option<u32> {
    config.bos_token_id.or(config.eos_token_id.first().copied())
}

impl Item {
    /// A continuation after its context, as lm-eval's `_encode_pair` has it: both are tokenised as one text,
    /// spaces between them belong to the continuation, and the context begins with the tokenizer's leading
    /// special ids. Where that is nothing at all, `scored_from` is 0 until [`Item::after`] puts a token before it.
    ///
    /// # Errors
    /// In words, when no token is left to score.
    pub fn of_pair(tokens: &Tokens, context: &str, continuation: &str) -> Result<Self, String> {
        let said = |e: Error| e.to_string();
        let before = tokens.document(context.trim_end()).map_err(said)?.len();
        let whole = format!("{context}{continuation}");
        let token_ids = tokens.document(&whole).map_err(said)?;
        if token_ids.len() <= before {
            return Err(format!(
                "continuation {continuation:?} has no token of its own after its context"
            ));
        }
        Ok(Item {
            token_ids,
            scored_from: before,
        })
    }

    /// The item after the checkpoint's [`prefix`] where nothing is before its first scored token; else as it is.
    ///
    /// # Errors
    /// In words, when a prefix is needed and there is none.
    pub fn after(mut self, prefix: Option<u32>) -> Result<Self, String> {
        if self.scored_from == 0 {
            let prefix = prefix.ok_or(
                "context is empty, and the checkpoint has neither a BOS nor an EOS to begin with; give a context",
            )?;
            self.token_ids.insert(0, prefix);
            self.scored_from = 1;
        }
        Ok(self)
    }

    /// Checks that a model of `vocab_size` ids can score the item.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn check(&self, vocab_size: usize) -> Result<(), String> {
        let len = self.token_ids.len();
        if self.scored_from == 0 || self.scored_from >= len {
            return Err(format!(
                "scored_from = {} must be from 1 (the first token has nothing before it) to {} for {len} token_ids",
                self.scored_from,
                len.saturating_sub(1)
            ));
        }
        check_ids(&self.token_ids, vocab_size)
    }

    /// Tokens that the model reads: the last is only predicted.
    fn inputs(&self) -> usize {
        self.token_ids.len() - 1
    }

    /// Positions from `from` to `to` after which a token is scored.
    fn scored(&self, from: usize, to: usize) -> Range<usize> {
        let (first, last) = ((self.scored_from - 1).max(from), self.inputs().min(to));
        first..last.max(first)
    }
}

/// Checks that a model of `vocab_size` ids has all of these.
///
/// # Errors
/// In words, with the first that it has not.
pub fn check_ids(ids: &[u32], vocab_size: usize) -> Result<(), String> {
    match ids.iter().find(|&&id| id as usize >= vocab_size) {
        Some(id) => Err(format!(
            "token id {id} is not in the model's vocabulary of {vocab_size}"
        )),
        None => Ok(()),
    }
}

/// Scores items that were checked, several at a time; a context that several items have is read once. What an item
/// scores does not depend on the others. `name` says what the caller calls the item of an index.
///
/// # Errors
/// When the model fails, or with the item's name when a score is not finite.
pub fn score(
    subject: &Subject,
    items: &[Item],
    name: &dyn Fn(usize) -> String,
) -> Result<Vec<Scored>, Error> {
    let mut scored: Vec<Option<Scored>> = vec![None; items.len()];
    let families = families(items, !subject.model.config.rope.depends_on_length());
    let mut rest = families.as_slice();
    while !rest.is_empty() {
        // A RoPE that depends on the length takes a row at its own length, without padding.
        let together = match subject.model.config.rope.depends_on_length() {
            true => 1,
            false => Family::that_fit(rest),
        };
        let (batch, after) = rest.split_at(together);
        rest = after;
        let rows: Vec<Row> = batch.iter().flat_map(Family::rows).collect();
        for (row, one) in rows.iter().zip(score_batch(subject, &rows)?) {
            if !one.logprobs.iter().all(|x| x.is_finite()) {
                let item = name(row.index);
                return Err(Error::NotFinite { item });
            }
            scored[row.index] = Some(one);
        }
    }
    Ok(scored.into_iter().flatten().collect())
}

/// Items, by their indices, whose first `known` tokens are the same and are read once.
struct Family<'a> {
    known: usize,
    items: Vec<(usize, &'a Item)>,
}

impl<'a> Family<'a> {
    /// Tokens of the longest item behind what is known.
    fn rest(&self) -> usize {
        let rest = self
            .items
            .iter()
            .map(|(_, item)| item.inputs() - self.known);
        rest.max().unwrap_or(0)
    }

    fn rows(&self) -> impl Iterator<Item = Row<'a>> {
        let known = self.known;
        let row = move |(i, &(index, item)): (usize, &(usize, &'a Item))| Row {
            index,
            item,
            known,
            is_first: i == 0,
        };
        self.items.iter().enumerate().map(row)
    }

    /// How many of these, of which the first is the longest, one pass takes; 1 at least.
    fn that_fit(families: &[Family]) -> usize {
        let Some(first) = families.first() else {
            return 0;
        };
        let (mut rows, mut rest) = (0, 0);
        let fits = families.iter().enumerate().take_while(|(i, family)| {
            rows += family.items.len();
            rest = rest.max(family.rest());
            let same = (family.known > 0) == (first.known > 0);
            same && (i + 1) * first.known + rows * rest <= PASS
        });
        fits.count().max(1)
    }
}

/// One item of a batch.
struct Row<'a> {
    index: usize,
    item: &'a Item,
    known: usize,
    /// Whether it is the one of its family that reads what they share.
    is_first: bool,
}

/// Items by the contexts that they share, in an order in which those of like length are neighbours. Where nothing may
/// be shared, each is alone.
fn families(items: &[Item], shares: bool) -> Vec<Family<'_>> {
    let mut by_context: BTreeMap<&[u32], Vec<(usize, &Item)>> = BTreeMap::new();
    let mut families = Vec::new();
    for (i, item) in items.iter().enumerate() {
        // The last token of the context gives the first score, so it is read again.
        match item.scored_from - 1 {
            known if shares && known > 0 => {
                let of_context = by_context.entry(&item.token_ids[..known]);
                of_context.or_default().push((i, item));
            }
            _ => families.push(Family {
                known: 0,
                items: vec![(i, item)],
            }),
        }
    }
    families.extend(by_context.into_iter().map(|(context, items)| Family {
        known: if items.len() > 1 { context.len() } else { 0 },
        items,
    }));
    families.sort_by_key(|f| (Reverse(f.known), Reverse(f.rest()), f.items[0].0));
    families
}

/// Runs the rows' tokens side by side, the shorter ones padded behind their end, where nothing looks.
fn score_batch(subject: &Subject, rows: &[Row]) -> Result<Vec<Scored>, Error> {
    let (env, model) = (subject.env, subject.model);
    let model_error = |e: candle_core::Error| Error::Model(e.into());
    let known = rows.iter().map(|row| row.known).max().unwrap_or(0);
    let rest = rows.iter().map(|row| row.item.inputs() - row.known);
    let longest = rest.max().unwrap_or(0);
    let table = model.rope_table(env, known + longest)?;
    let mut cache = KvCache::new(env, model, rows.len(), known + longest)?;
    let chunk = |rows: usize| match model.config.rope.depends_on_length() {
        true => longest.max(1),
        false => (PASS / rows.max(1)).max(1),
    };
    let heads: Vec<usize> = (0..rows.len()).filter(|&r| rows[r].is_first).collect();
    for from in (0..known).step_by(chunk(heads.len())) {
        let to = (from + chunk(heads.len())).min(known);
        let ids: Vec<u32> = heads
            .iter()
            .flat_map(|&r| padded(rows[r].item, from..to))
            .collect();
        model.hidden(env, &mut cache, &heads, &ids, &table)?;
    }
    let mut head = 0;
    for (r, row) in rows.iter().enumerate().filter(|(_, row)| row.known > 0) {
        if row.is_first {
            head = r;
            cache.truncate(r, row.known);
        } else {
            cache.share(head, r, row.known)?;
        }
    }
    let all: Vec<usize> = (0..rows.len()).collect();
    let mut scored: Vec<Scored> = rows
        .iter()
        .map(|_| Scored {
            logprobs: Vec::new(),
            greedy: Vec::new(),
        })
        .collect();
    for from in (0..longest).step_by(chunk(rows.len())) {
        let to = (from + chunk(rows.len())).min(longest);
        let ids: Vec<u32> = rows
            .iter()
            .flat_map(|row| padded(row.item, row.known + from..row.known + to))
            .collect();
        let hidden = model.hidden(env, &mut cache, &all, &ids, &table)?;
        let (mut states, mut targets, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for (r, row) in rows.iter().enumerate() {
            let begin = row.known + from;
            let places = row.item.scored(begin, row.known + to);
            if places.is_empty() {
                continue;
            }
            let state = hidden
                .narrow(0, r, 1)
                .and_then(|h| h.narrow(1, places.start - begin, places.len()))
                .map_err(model_error)?;
            states.push(state);
            targets.extend_from_slice(&row.item.token_ids[places.start + 1..=places.end]);
            owners.extend(places.map(|_| r));
        }
        if states.is_empty() {
            continue;
        }
        let states = Tensor::cat(&states, 1)
            .and_then(|states| states.contiguous())
            .map_err(model_error)?;
        let results = cross_entropy::log_probs(&states, &model.head().value, &targets)
            .map_err(crate::model::Error::from)?;
        for (r, (logprob, greedy)) in owners.into_iter().zip(results) {
            scored[r].logprobs.push(logprob);
            scored[r].greedy.push(greedy);
        }
    }
    Ok(scored)
}

/// The ids at these places that the model reads; 0 behind their end.
fn padded(item: &Item, places: Range<usize>) -> impl Iterator<Item = u32> {
    places.map(|at| match at < item.inputs() {
        true => item.token_ids[at],
        false => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::tokens;
    use super::*;
    use crate::model::{Decoder, Init, Method, generate};
    use crate::ops::Env;

    fn model(rope: &str) -> Decoder {
        let text = format!(
            r#"{{"model_type": "llama", "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "initializer_range": 0.2{rope}}}"#
        );
        let config = ModelConfig::parse(&text).unwrap();
        let init = Init {
            method: Method::Random,
            seed: 3,
        };
        Decoder::init(&Env::cpu(), &config, init).unwrap()
    }

    fn scored(subject: &Subject, items: &[Item]) -> Vec<Scored> {
        score(subject, items, &|at| format!("item {at}")).unwrap()
    }

    fn items() -> Vec<Item> {
        let item = |(i, (len, scored_from)): (u32, (u32, usize))| Item {
            token_ids: (0..len).map(|j| (j * j * 7 + i * 31) % 400).collect(),
            scored_from,
        };
        let shapes = [(2, 1), (40, 1), (2100, 2090), (17, 16), (40, 20), (3, 1)];
        let mut all: Vec<Item> = (0..).zip(shapes).map(item).collect();
        // Choices of two contexts, between other items.
        for (context, length) in [(900, 7), (70, 3), (900, 40), (70, 9), (70, 1)] {
            let before = (0..context).map(|j| (j * 13 + context) % 400);
            let after = (0..length).map(|j| (j * 5 + length) % 400);
            all.push(Item {
                token_ids: before.chain(after).collect(),
                scored_from: context as usize,
            });
        }
        all
    }

    #[test]
    fn a_context_is_read_once_for_all_that_have_it() {
        let items = items();
        let shared = |shares| {
            let all = families(&items, shares);
            let shared = all.iter().filter(|family| family.known > 0);
            shared.map(|f| (f.known, f.items.len())).collect::<Vec<_>>()
        };
        assert_eq!(shared(true), [(899, 2), (69, 3)]);
        assert!(shared(false).is_empty());
        assert_eq!(
            families(&items, true)
                .iter()
                .map(|f| f.items.len())
                .sum::<usize>(),
            items.len()
        );
    }

    #[test]
    fn an_item_scores_alone_what_it_scores_in_company() {
        let env = Env::cpu();
        for rope in [
            "",
            r#", "rope_scaling": {"type": "dynamic", "factor": 4.0}"#,
        ] {
            let model = model(rope);
            let subject = Subject {
                env: &env,
                model: &model,
            };
            let items = items();
            let together = scored(&subject, &items);
            for (item, one) in items.iter().zip(&together) {
                let alone = scored(&subject, std::slice::from_ref(item));
                assert_eq!(&alone[0], one);
                let all = generate::log_probs(&env, &model, &item.token_ids).unwrap();
                assert_eq!(one.logprobs, all[item.scored_from - 1..]);
                assert_eq!(one.greedy.len(), one.logprobs.len());
            }
        }
    }

    #[test]
    fn the_greedy_continuation_is_greedy_and_another_is_not() {
        let env = Env::cpu();
        let model = model("");
        let subject = Subject {
            env: &env,
            model: &model,
        };
        let prompt = vec![5, 6, 7];
        let best = generate::greedy(&env, &model, std::slice::from_ref(&prompt), 4, &[]).unwrap();
        let mut token_ids = [prompt, best[0].clone()].concat();
        let item = |token_ids: &[u32]| Item {
            token_ids: token_ids.to_vec(),
            scored_from: 3,
        };
        assert_eq!(scored(&subject, &[item(&token_ids)])[0].greedy, [true; 4]);
        token_ids[3] = (token_ids[3] + 1) % 400;
        assert!(!scored(&subject, &[item(&token_ids)])[0].greedy[0]);
    }

    #[test]
    fn a_score_that_is_no_number_says_of_which_item() {
        let env = Env::cpu();
        let mut model = model("");
        model.config.rms_norm_eps = f64::NAN;
        let subject = Subject {
            env: &env,
            model: &model,
        };
        // The longer one is read first.
        let items = [2, 3].map(|len| Item {
            token_ids: vec![1; len],
            scored_from: 1,
        });
        let error = score(&subject, &items, &|at| format!("line {at}")).unwrap_err();
        assert!(matches!(error, Error::NotFinite { item } if item == "line 1"));
    }

    #[test]
    fn a_pair_is_split_where_lm_eval_splits_it() {
        let tokens = tokens();
        let text = "The grass is green. The sky is blue.";
        let ids = tokens.document(text).unwrap();
        // The space between them belongs to the continuation, whichever of the two has it.
        for at in [19, 20] {
            let (context, continuation) = text.split_at(at);
            let item = Item::of_pair(&tokens, context, continuation).unwrap();
            assert_eq!(item.token_ids, ids);
            assert_eq!(item.clone().after(None), Ok(item.clone()));
            let before = tokens.document("The grass is green.").unwrap();
            assert_eq!(item.scored_from, before.len());
        }
        let bare = Item::of_pair(&tokens, "", text).unwrap();
        let item = bare.clone().after(Some(9)).unwrap();
        assert_eq!((item.token_ids[0], item.scored_from), (9, 1));
        assert_eq!(item.token_ids[1..], ids);
        assert!(bare.after(None).unwrap_err().contains("neither a BOS"));
        assert!(
            Item::of_pair(&tokens, text, "")
                .unwrap_err()
                .contains("no token")
        );
    }

    #[test]
    fn impossible_items_are_refused() {
        let item = |scored_from| Item {
            token_ids: vec![1, 2, 3],
            scored_from,
        };
        for (scored_from, vocab, words) in
            [(0, 9, "scored_from = 0"), (3, 9, "to 2"), (1, 3, "id 3")]
        {
            let error = item(scored_from).check(vocab).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(item(2).check(4), Ok(()));
    }
}
