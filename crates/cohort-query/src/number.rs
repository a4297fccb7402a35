//! Numbers as property values are written. Definitions are read here, values of events by the engine: both go by the same
//! pattern.

use std::sync::LazyLock;

use regex::Regex;

/// Text that is wholly a decimal number.
pub(crate) const PATTERN: &str = "^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$";

#[expect(clippy::expect_used, reason = "the pattern is fixed, and tested")]
static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(PATTERN).expect("the pattern is fixed"));

/// Reads a number that is finite.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let number: f64 = NUMBER.is_match(text).then(|| text.parse().ok())??;
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_wholly_a_number_is_one() {
        for (text, number) in [
            ("5", 5.0),
            ("-1.50", -1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("+1e3", 1000.0),
            ("1E-2", 0.01),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in [
            "", " 5", "5 ", "5\n", "1,5", "0x10", "inf", "NaN", "1e", "e5", ".", "--1", "1_000", "1e999",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
