//! Documents made by seeded generators, as token ids.
use super::{Error, Generator, Result, encode::Encoder, lookup};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Changes when a generator's documents do: part of a source's identity.
pub(super) const VERSION: u32 = 1;

/// The stream of document `index` of a generator.
fn stream(kind: &str, seed: u64, index: usize) -> ChaCha8Rng {
    let key = blake3::hash(format!("documents/{VERSION}/{kind}/{seed}/{index}").as_bytes());
    ChaCha8Rng::from_seed(*key.as_bytes())
}

/// All documents of a generator; each is a function of the seed and its number alone.
pub(super) fn documents(generator: &Generator, encoder: &Encoder) -> Result<Vec<Vec<u32>>> {
    let tokenizer = encoder.tokenizer();
    match generator {
        Generator::Copy {
            documents,
            seed,
            min_tokens,
            max_tokens,
            vocabulary,
            times,
        } => {
            let special: Vec<u32> = tokenizer
                .get_added_tokens_decoder()
                .into_iter()
                .map(|(id, _)| id)
                .collect();
            let ids: Vec<u32> = (0..tokenizer.get_vocab_size(true) as u32)
                .filter(|id| !special.contains(id))
                .take(vocabulary.unwrap_or(usize::MAX))
                .collect();
            if ids.is_empty() {
                return Err(Error::Tokenizer("has no ids to copy".into()));
            }
            Ok((0..*documents)
                .map(|i| {
                    let mut rng = stream("copy", *seed, i);
                    let n = rng.random_range(*min_tokens..=*max_tokens);
                    let segment: Vec<u32> = (0..n)
                        .map(|_| ids[rng.random_range(0..ids.len())])
                        .collect();
                    segment.repeat(*times)
                })
                .collect())
        }
        Generator::Lookup {
            documents,
            seed,
            min_words,
            max_words,
        } => (0..*documents)
            .into_par_iter()
            .map(|i| {
                let mut rng = stream("lookup", *seed, i);
                let words = rng.random_range(*min_words..=*max_words);
                encoder.encode(&lookup::document(&mut rng, words))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Document, train_tokenizer};

    #[test]
    fn documents_are_a_function_of_seed_and_number() {
        let text = "The code is 12345. What is the code? ".repeat(30);
        let tokenizer = train_tokenizer(
            &[Document {
                id: "a".into(),
                text,
            }],
            300,
        )
        .unwrap();
        let encoder = Encoder::new(&tokenizer);
        let lookup = |documents, seed| Generator::Lookup {
            documents,
            seed,
            min_words: 30,
            max_words: 90,
        };
        let few = documents(&lookup(5, 1), &encoder).unwrap();
        let many = documents(&lookup(9, 1), &encoder).unwrap();
        assert_eq!(few[..], many[..5]);
        assert_ne!(few, documents(&lookup(5, 2), &encoder).unwrap());
        let copy = Generator::Copy {
            documents: 20,
            seed: 3,
            min_tokens: 4,
            max_tokens: 9,
            vocabulary: Some(40),
            times: 2,
        };
        for ids in documents(&copy, &encoder).unwrap() {
            let (first, second) = ids.split_at(ids.len() / 2);
            assert_eq!(first, second);
            assert!((4..=9).contains(&first.len()));
            assert!(ids.iter().all(|id| (1..=40).contains(id)));
        }
    }
}
