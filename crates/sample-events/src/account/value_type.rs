//! The detected type of a property's value (contract: definitions).
//!
//! One rule depends on the clock: a number counts as a time from half a year ago on. Here every number of at least
//! twelve digits counts and none below a billion does; the samples have none in between.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `property_definitions.value_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is the stored text")]
pub enum ValueType {
    String,
    Numeric,
    Boolean,
    DateTime,
}

const ALWAYS_TEXT: [&str; 4] = ["utm_", "$initial_utm_", "$feature/", "$survey_response"];
const OF_TIME: [&str; 7] = [
    "time",
    "timestamp",
    "date",
    "_at",
    "-at",
    "createdat",
    "updatedat",
];
/// Numbers from here on are recent times whatever the clock says: 2001 in milliseconds, the far future in seconds.
const SURELY_RECENT: f64 = 1e12;

impl ValueType {
    /// The stored text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::Numeric => "Numeric",
            Self::Boolean => "Boolean",
            Self::DateTime => "DateTime",
        }
    }

    /// The type of `value` under `key`; `None` for null, objects and arrays.
    pub fn detect(key: &str, value: &Value) -> Option<Self> {
        let key = key.to_lowercase();
        if key == "$feature_flag_response" || ALWAYS_TEXT.iter().any(|start| key.starts_with(start)) {
            return Some(Self::String);
        }
        let of_time = OF_TIME.iter().any(|part| key.contains(part));
        match value {
            Value::Bool(_) => Some(Self::Boolean),
            Value::Number(number) if of_time && number.as_f64().is_some_and(|n| n >= SURELY_RECENT) => {
                Some(Self::DateTime)
            }
            Value::Number(_) => Some(Self::Numeric),
            Value::String(text) => Some(Self::of_text(text)),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn of_text(text: &str) -> Self {
        let trimmed = text.trim();
        if ["true", "false", "TRUE", "FALSE"].contains(&trimmed) {
            Self::Boolean
        } else if is_date_like(text) {
            Self::DateTime
        } else if is_number(trimmed) {
            Self::Numeric
        } else {
            Self::String
        }
    }
}

/// The shape of a text: `0` for a digit, `/` for a date separator, the character itself otherwise.
fn shape(text: &str) -> String {
    let letter = |c: char| match c {
        '0'..='9' => '0',
        '-' | '/' => '/',
        other => other,
    };
    text.chars().map(letter).collect()
}

fn is_date_like(text: &str) -> bool {
    let iso = shape(text).starts_with("0000/00/00")
        && text.get(..10).is_some_and(|date| date.matches('-').count() == 2);
    if iso && text[10..].starts_with(|c: char| c == 'T' || c.is_whitespace()) {
        return true;
    }
    let text = text.trim();
    let shape = shape(text);
    let (first, second) = match shape.get(..10) {
        Some("0000/00/00") => (5, 8),
        Some("00/00/0000") => (0, 3),
        _ => return false,
    };
    let at_most = |at: usize, digit: u8| text.as_bytes().get(at).is_some_and(|d| *d <= digit);
    if !(at_most(first, b'2') && at_most(second, b'3')) {
        return false;
    }
    let has_time = shape[10..].starts_with([' ', 'T']) && shape[11..].starts_with("00:00:00");
    text.len() == 10 || (has_time && at_most(11, b'2') && at_most(14, b'6') && at_most(17, b'6'))
}

/// What the language of the platform's first worker reads as a number, but for `Infinity`.
fn is_number(trimmed: &str) -> bool {
    let prefixed = |prefix: &str, radix: u32| {
        let digits = trimmed
            .to_ascii_lowercase()
            .strip_prefix(prefix)
            .map(str::to_owned);
        digits.is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))
    };
    let decimal =
        trimmed.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c)) && trimmed.parse::<f64>().is_ok();
    decimal || prefixed("0x", 16) || prefixed("0o", 8) || prefixed("0b", 2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn are_detected(table: &[(&str, Vec<Value>, Option<ValueType>)]) {
        for (key, values, expected) in table {
            for value in values {
                assert_eq!(ValueType::detect(key, value), *expected, "{key}: {value}");
            }
        }
    }

    #[test]
    fn values_have_the_types_of_the_contracts_table() {
        use ValueType::{Boolean, Numeric, String};
        let table = [
            (
                "price",
                vec![
                    json!(9.99),
                    json!("9.99"),
                    json!(" 42 "),
                    json!("1e3"),
                    json!("5."),
                    json!(".5"),
                    json!("0xFF"),
                ],
                Some(Numeric),
            ),
            (
                "name",
                vec![
                    json!(""),
                    json!("   "),
                    json!("12abc"),
                    json!("1,000"),
                    json!("Infinity"),
                    json!("NaN"),
                    json!("-0x1"),
                ],
                Some(String),
            ),
            (
                "active",
                vec![json!(true), json!("true"), json!(" FALSE")],
                Some(Boolean),
            ),
            ("active", vec![json!("True")], Some(String)),
            ("utm_campaign", vec![json!(123), json!(null)], Some(String)),
            ("$feature/new", vec![json!(true)], Some(String)),
            ("tags", vec![json!([1, 2]), json!({"a": 1}), json!(null)], None),
        ];
        are_detected(&table);
    }

    #[test]
    fn times_are_told_by_their_shape_or_by_key_and_size() {
        use ValueType::{DateTime, Numeric, String};
        are_detected(&[
            (
                "created_at",
                vec![json!("2026-01-15T10:30:00Z"), json!(1_790_000_000_000_u64)],
                Some(DateTime),
            ),
            ("created_at", vec![json!("yesterday")], Some(String)),
            ("created_at", vec![json!(5)], Some(Numeric)),
            (
                "birthday",
                vec![
                    json!("2026-01-15"),
                    json!("2026/01/15"),
                    json!("25/12/2026"),
                    json!("12-31/2026"),
                ],
                Some(DateTime),
            ),
            (
                "birthday",
                vec![json!("31/12/2026"), json!("2026-41-15"), json!("2026-01-15x")],
                Some(String),
            ),
            (
                "note",
                vec![json!("2026-01-15T10:30:00Z"), json!(" 2026/01/15 10:30:00 or so")],
                Some(DateTime),
            ),
            ("note", vec![json!(1_790_000_000)], Some(Numeric)),
        ]);
    }
}
