//! Numbers in property values. Definitions are read here, values of events by the engine, both by the same pattern.

use std::sync::LazyLock;

use regex_lite::Regex;

/// A text that is wholly a decimal number.
pub(crate) const PATTERN: &str = "^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$";

#[expect(clippy::expect_used, reason = "the pattern is fixed, and tested")]
static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(PATTERN).expect("the pattern is fixed"));

/// Reads a finite number.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let number: f64 = NUMBER.is_match(text).then(|| text.parse().ok())??;
    number.is_finite().then_some(number)
}

/// The text that the engine gives a JSON number, however it was written: `5` for 5.0, `9.5` for 9.50, `100` for 1e2.
pub(crate) fn text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && (1e-6..1e21).contains(&float.abs()) => float.to_string(),
        Some(float) if number.is_f64() && float != 0.0 => format!("{float:e}"),
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_text_however_it_was_written() {
        for (written, text) in [
            ("5", "5"),
            ("5.0", "5"),
            ("9.50", "9.5"),
            ("1e2", "100"),
            ("-0.5", "-0.5"),
            ("1e300", "1e300"),
        ] {
            assert_eq!(super::text(&serde_json::from_str(written).unwrap()), text);
        }
    }

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
