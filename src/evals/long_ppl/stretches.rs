//! Key tokens as stretches of text, so that two tokenizers can speak of the same ones.

/// Stretches in ascending order, those that touch put together.
pub(super) fn merged(spans: impl Iterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
    let mut all: Vec<(usize, usize)> = Vec::new();
    for (start, end) in spans {
        match all.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => all.push((start, end)),
        }
    }
    all
}

/// Indices of the spans that lie in one of the stretches whole: LongPPL's `cal_overlap`.
pub(super) fn inside(spans: &[(usize, usize)], stretches: &[(usize, usize)]) -> Vec<usize> {
    let (mut found, mut i, mut j) = (Vec::new(), 0, 0);
    while i < spans.len() && j < stretches.len() {
        let ((start, end), (from, to)) = (spans[i], stretches[j]);
        if start >= from && end <= to {
            found.push(i);
            i += 1;
        } else if start < from {
            i += 1;
        } else {
            j += 1;
        }
    }
    // The first token has nothing before it.
    found.retain(|&i| i > 0);
    found
}
