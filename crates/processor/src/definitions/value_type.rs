//! The type of a property's value, as the platform's filters tell them apart ("Value types" in docs/contract.md).

use crate::event::json;

use super::date_like::is_date_like;
use super::white_space::is_white_space;

/// The values of `property_definitions.value_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is the stored text")]
pub enum ValueType {
    String,
    Numeric,
    Boolean,
    DateTime,
}

/// Age up to which a number counts as a recent Unix time: half a year, in seconds.
const RECENT_S: i64 = 15_768_000;

/// Keys that begin with one of these are `String`, whatever their value looks like.
const TEXT_PREFIXES: [&str; 4] = ["utm_", "$initial_utm_", "$feature/", "$survey_response"];
const TEXT_KEY: &str = "$feature_flag_response";
/// A key that contains one of these may name a time. (`timestamp` contains `time`, `updatedat` contains `date`.)
const OF_TIME: [&str; 5] = ["time", "date", "_at", "-at", "createdat"];

impl ValueType {
    /// The text stored in `value_type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::Numeric => "Numeric",
            Self::Boolean => "Boolean",
            Self::DateTime => "DateTime",
        }
    }

    /// The type of a value, given as JSON text, under `key`. `None` for null, objects and arrays: a later value decides
    /// then. `now_s`: seconds since the epoch. Takes linear time.
    ///
    /// The text `Infinity` is a `String`: it is no JSON number, and nothing can be calculated with it.
    pub fn detect(key: &str, value: &str, now_s: i64) -> Option<Self> {
        if is_text_key(key) {
            return Some(Self::String);
        }
        match value.as_bytes().first()? {
            b't' | b'f' => Some(Self::Boolean),
            b'"' => Some(Self::of_text(&json::text(value))),
            b'-' | b'0'..=b'9' if names_time(key) && is_recent(value, now_s) => Some(Self::DateTime),
            b'-' | b'0'..=b'9' => Some(Self::Numeric),
            _ => None,
        }
    }

    fn of_text(text: &str) -> Self {
        let trimmed = text.trim_matches(is_white_space);
        if matches!(trimmed, "true" | "false" | "TRUE" | "FALSE") {
            Self::Boolean
        } else if is_date_like(text, trimmed) {
            Self::DateTime
        } else if is_number(trimmed) {
            Self::Numeric
        } else {
            Self::String
        }
    }
}

/// Folding ASCII case is enough: no other character has one of these letters as its lower case.
fn is_text_key(key: &str) -> bool {
    let key = key.as_bytes();
    let begins = |prefix: &str| {
        key.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    key.eq_ignore_ascii_case(TEXT_KEY.as_bytes()) || TEXT_PREFIXES.iter().any(|prefix| begins(prefix))
}

fn names_time(key: &str) -> bool {
    let holds = |part: &str| {
        let mut windows = key.as_bytes().windows(part.len());
        windows.any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
    };
    OF_TIME.iter().any(|part| holds(part))
}

/// Whether a number, as seconds or a smaller unit since the epoch, is at most half a year old.
fn is_recent(number: &str, now_s: i64) -> bool {
    let number: f64 = number.parse().unwrap_or(f64::NAN);
    number.is_finite() && number >= 0.0 && number >= (now_s - RECENT_S) as f64
}

/// Whether a trimmed text is wholly a number: `1`, `-2.5`, `.5`, `5.`, `1e3`, `0xff`. As JavaScript reads numbers, but
/// without `Infinity`.
fn is_number(trimmed: &str) -> bool {
    let bytes = trimmed.as_bytes();
    if let [
        b'0',
        radix @ (b'x' | b'X' | b'o' | b'O' | b'b' | b'B'),
        digits @ ..,
    ] = bytes
    {
        let radix = match radix.to_ascii_lowercase() {
            b'x' => 16,
            b'o' => 8,
            _ => 2,
        };
        return !digits.is_empty() && digits.iter().all(|digit| char::from(*digit).is_digit(radix));
    }
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let unsigned = bytes
        .strip_prefix(b"-")
        .or(bytes.strip_prefix(b"+"))
        .unwrap_or(bytes);
    let whole = digits(unsigned);
    let mut rest = &unsigned[whole..];
    let mut fraction = 0;
    if let Some(after_point) = rest.strip_prefix(b".") {
        fraction = digits(after_point);
        rest = &after_point[fraction..];
    }
    if whole + fraction == 0 {
        return false;
    }
    let [b'e' | b'E', exponent @ ..] = rest else {
        return rest.is_empty();
    };
    let exponent = exponent
        .strip_prefix(b"-")
        .or(exponent.strip_prefix(b"+"))
        .unwrap_or(exponent);
    !exponent.is_empty() && digits(exponent) == exponent.len()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::time::{ClockId, clock_gettime};
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_795_000_000;

    fn of(key: &str, value: &str) -> Option<ValueType> {
        ValueType::detect(key, value, NOW)
    }

    #[test]
    fn values_have_the_types_that_the_platforms_filters_expect() {
        use ValueType::{Boolean, DateTime, Numeric, String};
        let table: &[(&str, &[&str], Option<ValueType>)] = &[
            (
                "price",
                &["9.99", r#""9.99""#, r#"" 42 ""#, r#""1e3""#],
                Some(Numeric),
            ),
            (
                "name",
                &[r#""""#, r#""   ""#, r#""12abc""#, r#""1,000""#],
                Some(String),
            ),
            ("active", &["true", r#""true""#, r#""FALSE""#], Some(Boolean)),
            ("active", &[r#""True""#], Some(String)),
            ("utm_campaign", &["123"], Some(String)),
            ("$feature/new", &["true"], Some(String)),
            (
                "created_at",
                &[r#""2026-01-15T10:30:00Z""#, "1790000000", "1790000000000"],
                Some(DateTime),
            ),
            ("created_at", &[r#""yesterday""#], Some(String)),
            ("created_at", &["5"], Some(Numeric)),
            ("birthday", &[r#""2026-01-15""#], Some(DateTime)),
            ("note", &[r#""2026-01-15T10:30:00Z""#], Some(DateTime)),
            ("note", &["1790000000"], Some(Numeric)),
            ("tags", &["[1, 2]", r#"{"a": 1}"#, "null"], None),
        ];
        for (key, values, expected) in table {
            for value in *values {
                assert_eq!(of(key, value), *expected, "{key}: {value}");
            }
        }
    }

    #[test]
    fn some_keys_are_text_whatever_their_value() {
        for key in [
            "utm_source",
            "UTM_Source",
            "$initial_utm_x",
            "$feature/",
            "$Feature/a",
            "$survey_response",
            "$survey_response_1",
            "$feature_flag_response",
            "$FEATURE_FLAG_RESPONSE",
        ] {
            for value in ["1", "true", "null", "[]", r#""2026-01-15""#] {
                assert_eq!(of(key, value), Some(ValueType::String), "{key}: {value}");
            }
        }
        for key in [
            "utm",
            "my_utm_x",
            "$feature_flag_response_2",
            "$featur",
            "initial_utm_x",
        ] {
            assert_eq!(of(key, "1"), Some(ValueType::Numeric), "{key}");
        }
    }

    #[test]
    fn a_number_is_a_time_where_the_key_names_one_and_it_is_at_most_half_a_year_old() {
        for key in [
            "time",
            "TimeStamp",
            "my_date",
            "seen_at",
            "seen-at",
            "CreatedAt",
            "updatedAt",
            "format",
        ] {
            let expected = if key == "format" {
                ValueType::Numeric
            } else {
                ValueType::DateTime
            };
            assert_eq!(of(key, "1795000000"), Some(expected), "{key}");
        }
        let oldest = NOW - 15_768_000;
        for (value, recent) in [
            (oldest.to_string(), true),
            ((oldest - 1).to_string(), false),
            (format!("{oldest}.5"), true),
            ("1.8e9".into(), true),
            ("1e300".into(), true),
            ("1e400".into(), false),
            ("-1795000000".into(), false),
            ("0".into(), false),
        ] {
            let expected = if recent {
                ValueType::DateTime
            } else {
                ValueType::Numeric
            };
            assert_eq!(of("at_time", &value), Some(expected), "{value}");
        }
        assert_eq!(
            of("time", r#""1795000000""#),
            Some(ValueType::Numeric),
            "a text is no number here"
        );
    }

    #[test]
    fn what_is_wholly_a_number() {
        for text in [
            "1",
            "-2.5",
            "+2.5",
            ".5",
            "5.",
            "1e3",
            "1E+3",
            "1e-3",
            "-.5e0",
            "0xfF",
            "0o17",
            "0B101",
            "\\n 7\\t",
            "\\ufeff7",
            "00012",
            "9".repeat(400).as_str(),
            "1e400",
        ] {
            assert_eq!(
                of("n", &format!("\"{text}\"")),
                Some(ValueType::Numeric),
                "{text}"
            );
        }
        for text in [
            "",
            ".",
            "-",
            "+",
            "e3",
            "1e",
            "1e+",
            "1 2",
            "1,000",
            "12abc",
            "0x",
            "0xg",
            "-0x1",
            "0o8",
            "0b2",
            "1_000",
            "Infinity",
            "-Infinity",
            "NaN",
            "inf",
            "1.2.3",
            "--1",
            "\\u00857",
            "\u{661}",
        ] {
            assert_eq!(of("n", &format!("\"{text}\"")), Some(ValueType::String), "{text}");
        }
    }

    #[test]
    fn truth_is_told_in_two_spellings() {
        for text in ["true", "false", "TRUE", "FALSE", " true\\n"] {
            assert_eq!(
                of("b", &format!("\"{text}\"")),
                Some(ValueType::Boolean),
                "{text}"
            );
        }
        for text in ["True", "fALSE", "true!", "yes"] {
            assert_eq!(of("b", &format!("\"{text}\"")), Some(ValueType::String), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_has_a_type_and_no_value_panics(key in any::<String>(), text in any::<String>(), raw in any::<String>()) {
            let value = serde_json::to_string(&text).unwrap();
            prop_assert!(of(&key, &value).is_some());
            let _total = of(&key, &raw);
        }

        #[test]
        fn every_number_that_parses_as_one_is_one(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            let quoted = format!("\"{number}\"");
            prop_assert_eq!(of("n", &quoted), Some(ValueType::Numeric));
            prop_assert_eq!(of("n", &format!("\"{number:e}\"")), Some(ValueType::Numeric));
        }
    }

    /// What this thread has worked: whatever else keeps the machine busy does not count.
    fn cpu_time() -> Duration {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
    }

    #[test]
    fn detecting_takes_linear_time() {
        // A text that is so many times as long takes so many times as long, or the square of it if bytes are looked at for
        // each of the others. The limit lies half-way between the two: 8 times from either.
        const LONGER: u32 = 64;
        const LIMIT: u32 = 512;
        for part in ["9", "-", "0-", " ", "2026-01-15 ", "\\u0000", "e"] {
            let least = |length: usize| {
                let value = format!("\"{}\"", part.repeat(length / part.len()));
                let runs = (0..5).map(|_| {
                    let before = cpu_time();
                    std::hint::black_box(of("time", &value));
                    cpu_time().saturating_sub(before)
                });
                runs.min().unwrap()
            };
            let (short, long) = (least(1_000), least(1_000 * LONGER as usize));
            assert!(long < LIMIT * short, "{part}: {short:?}, {long:?}");
        }
    }
}
