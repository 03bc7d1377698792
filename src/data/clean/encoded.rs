//! Data that stands in a text as base64 or hexadecimal digits.

/// A run that is shorter may be a name.
const LEAST: usize = 64;

/// Share of the bytes that stand in runs of 64 and more of base64's characters, with a letter and a digit in them.
pub(super) fn share(text: &str) -> f64 {
    let mut encoded = 0;
    let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    for run in text.as_bytes().split(|b| !is_base64(b)) {
        if run.len() >= LEAST
            && run.iter().any(u8::is_ascii_digit)
            && run.iter().any(u8::is_ascii_alphabetic)
        {
            encoded += run.len();
        }
    }
    match text.len() {
        0 => 0.0,
        all => encoded as f64 / all as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_counts_and_headings_do_not() {
        assert_eq!(share(""), 0.0);
        assert_eq!(share(&"=".repeat(100)), 0.0);
        assert_eq!(share(&"name_of_something(x)\n".repeat(50)), 0.0);
        let data = "iVBORw0KGgoAAAANSUhEUgAAAAUA".repeat(10);
        assert_eq!(share(&format!("x = '{data}'")), 280.0 / 286.0);
    }
}
