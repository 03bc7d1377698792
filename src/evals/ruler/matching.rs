//! RULER's scoring: whether the expected strings are in the output, in any case (`string_match_all` and
//! `string_match_part` of its `eval/synthetic/constants.py`, `postprocess_pred` of its `evaluate.py`).

/// The output as RULER reads it: control characters are line breaks, the ends are trimmed, letters are small.
fn normalised(output: &str) -> String {
    let printable: String = output
        .chars()
        .map(|c| if c < ' ' { '\n' } else { c })
        .collect();
    printable.trim().to_lowercase()
}

/// The score of an output from 0 to 1: the share of the expected strings that it contains, or, where any is enough,
/// whether it contains one.
pub(super) fn string_match(output: &str, expected: &[String], any_is_enough: bool) -> f64 {
    let output = normalised(output);
    let found = expected
        .iter()
        .filter(|text| output.contains(&text.to_lowercase()))
        .count();
    match any_is_enough {
        true => f64::from(found > 0),
        false => found as f64 / expected.len() as f64,
    }
}
