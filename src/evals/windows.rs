//! How a document is cut into windows, protocol by protocol.
use super::record::Place;
use std::ops::Range;

/// A window of a document, and which of its tokens are scored there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub tokens: Range<usize>,
    pub scored: Range<usize>,
}

/// The windows of the protocol "sliding", as Hugging Face's guide to perplexity and YaRN's evaluation have
/// them: the window moves by `stride`, and of each but the first only the tokens that no earlier window
/// reached are scored. So every token but the document's first is scored once, with at least
/// `context - stride` tokens before it in its window unless the document has fewer.
pub(super) fn sliding(tokens: usize, context: usize, stride: usize) -> Vec<Window> {
    let mut all = Vec::new();
    let (mut begin, mut reached) = (0, 1);
    while reached < tokens {
        let end = (begin + context).min(tokens);
        all.push(Window {
            tokens: begin..end,
            scored: reached..end,
        });
        reached = end;
        begin += stride;
    }
    all
}

/// The windows of the protocol "rolling": lm-eval's `loglikelihood_rolling` (its `get_rolling_token_windows`
/// with a context of one token, made disjoint). The model reads `context` tokens at a time and predicts the one
/// after each, so that every token but the first is scored once, and a window's first prediction has the one token
/// before it. The last window reads `context` tokens like the others: where fewer are left to predict, it begins among
/// those that are scored already. The first token must be a BOS or another beginning.
pub(super) fn rolling(tokens: usize, context: usize) -> Vec<Window> {
    let inputs = tokens.saturating_sub(1);
    let window = |begin: usize| {
        let end = (begin + context).min(inputs) + 1;
        Window {
            tokens: (end - 1).saturating_sub(context)..end,
            scored: begin + 1..end,
        }
    };
    (0..inputs).step_by(context).map(window).collect()
}

/// Positions 0-31, 32-63, 64-127 and on in powers of two up to `context`.
pub(super) fn buckets(context: usize) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let (mut from, mut end) = (0, 32);
    while from < context {
        all.push(from..end.min(context));
        (from, end) = (end, 2 * end);
    }
    all
}

/// A bucket as the place of a record.
pub(super) fn place(bucket: &Range<usize>) -> Place {
    Place::Positions {
        from: bucket.start,
        to: bucket.end - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_scored_once_with_its_context() {
        for tokens in [2, 31, 32, 33, 64, 100, 257] {
            for (context, stride) in [(32, 1), (32, 8), (32, 31), (64, 20), (300, 256)] {
                let mut times = vec![0; tokens];
                for window in sliding(tokens, context, stride) {
                    assert!(window.tokens.len() <= context && window.tokens.end <= tokens);
                    assert!(window.tokens.start < window.scored.start);
                    assert_eq!(window.tokens.end, window.scored.end);
                    for t in window.scored {
                        times[t] += 1;
                        let before = t - window.tokens.start;
                        assert!(
                            before >= t.min(context - stride),
                            "token {t} has {before} before it"
                        );
                    }
                }
                assert_eq!(times[0], 0);
                assert!(
                    times[1..].iter().all(|&n| n == 1),
                    "{tokens} {context} {stride}: {times:?}"
                );
            }
        }
    }

    /// lm-eval's two functions, written down literally: pairs of inputs and predictions.
    fn lm_eval(ids: &[usize], prefix: usize, max_seq_len: usize) -> Vec<(Vec<usize>, Vec<usize>)> {
        let mut all = Vec::new();
        let first = max_seq_len.min(ids.len());
        let before = [&[prefix], &ids[..first - 1]].concat();
        all.push((before, ids[..first].to_vec()));
        let mut predicted = first;
        while predicted < ids.len() {
            let n = (ids.len() - predicted).min(max_seq_len);
            let end = predicted + n;
            // Python's slice from a negative index is not met here: `end` is past `max_seq_len`.
            let a = &ids[end - max_seq_len - 1..end - 1];
            let b = &ids[end - n..end];
            all.push((a[..a.len() - (b.len() - 1)].to_vec(), b.to_vec()));
            predicted += n;
        }
        for (a, b) in &mut all[1..] {
            // What the model reads: the context, and all predictions but the last.
            a.extend_from_slice(&b[..b.len() - 1]);
        }
        all
    }

    #[test]
    fn rolling_windows_are_those_of_lm_eval() {
        for n in [1, 2, 7, 8, 9, 16, 17, 40] {
            let ids: Vec<usize> = (100..100 + n).collect();
            for context in [1, 2, 8, 50] {
                let with_prefix = [&[7][..], &ids[..]].concat();
                let ours: Vec<_> = rolling(with_prefix.len(), context)
                    .into_iter()
                    .map(|w| {
                        let read = &with_prefix[w.tokens.start..w.tokens.end - 1];
                        (read.to_vec(), with_prefix[w.scored].to_vec())
                    })
                    .collect();
                assert_eq!(ours, lm_eval(&ids, 7, context), "{n} {context}");
            }
        }
        assert!(rolling(1, 8).is_empty());
    }

    #[test]
    fn buckets_are_powers_of_two_up_to_the_context() {
        let names = |context| {
            buckets(context)
                .iter()
                .map(|b| place(b).to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(256), ["0-31", "32-63", "64-127", "128-255"]);
        assert_eq!(names(100), ["0-31", "32-63", "64-99"]);
        assert_eq!(names(16), ["0-15"]);
    }
}
