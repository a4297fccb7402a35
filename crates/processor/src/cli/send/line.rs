//! A line of a file of events, as an entry of the stream.
//!
//! A line is an object of fields; text as it is, numbers and booleans as their JSON text, objects and arrays exactly as
//! they stand. Or it is a raw entry, an array of `[field, value]` pairs sent as it is.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::cli::input::MARK;
use crate::event::{Field, timestamp};

/// An entry's fields in their order.
pub(super) type Entry = Vec<(String, String)>;

/// The event of a line, if there is anything in it.
pub(super) fn read(line: &[u8], number: usize, shift: i64) -> Result<Option<Entry>, String> {
    let text = text(line, number).ok_or("not UTF-8")?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    parse(text, shift).map(Some)
}

/// The text of a line, without the mark that may stand before the first one.
pub(super) fn text(line: &[u8], number: usize) -> Option<&str> {
    let marked = if number == 1 {
        line.strip_prefix(MARK)
    } else {
        None
    };
    std::str::from_utf8(marked.unwrap_or(line)).ok()
}

/// Reads one line.
fn parse(line: &str, shift: i64) -> Result<Entry, String> {
    let trimmed = line.trim();
    if trimmed.starts_with('[') {
        let pairs: Vec<(String, String)> = serde_json::from_str(trimmed)
            .map_err(|error| format!("not an array of [field, value] pairs of text ({})", place(&error)))?;
        return if pairs.is_empty() {
            Err("no fields".into())
        } else {
            Ok(pairs)
        };
    }
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(trimmed).map_err(|error| format!("not a JSON object ({})", place(&error)))?;
    if fields.is_empty() {
        return Err("no fields".into());
    }
    let mut entry: BTreeMap<String, String> = fields
        .iter()
        .filter(|(_, value)| value.get() != "null")
        .map(|(name, value)| (name.clone(), text_of(value)))
        .collect();
    if shift != 0
        && let Some(text) = entry.get_mut("timestamp")
        && let Some(at) = timestamp::parse(text)
        && let Ok(at) = jiff::Timestamp::from_millisecond(at + shift)
    {
        *text = format!("{at:.3}");
    }
    complete(&mut entry);
    Ok(entry.into_iter().collect())
}

/// What the parser says, which counts the lines of its own text: there is only one.
fn place(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// Fields that the ingest service writes even where the event does not say them.
const ALWAYS_WRITTEN: [Field; 6] = [
    Field::AnonymousId,
    Field::UserId,
    Field::ScreenWidth,
    Field::ScreenHeight,
    Field::Properties,
    Field::UserProperties,
];

/// Adds what the ingest service always writes.
fn complete(entry: &mut BTreeMap<String, String>) {
    let name = entry.get(Field::EventName.name()).cloned().unwrap_or_default();
    let mut missing = |field: Field, value: &dyn Fn() -> String| {
        entry.entry(field.name().to_owned()).or_insert_with(value);
    };
    missing(Field::EventId, &|| Uuid::now_v7().to_string());
    missing(Field::Timestamp, &|| format!("{:.3}", jiff::Timestamp::now()));
    missing(Field::EventType, &|| event_type(&name).to_owned());
    for field in ALWAYS_WRITTEN {
        missing(field, &|| field.fallback().to_owned());
    }
}

fn event_type(name: &str) -> &'static str {
    match name {
        "$identify" => "identify",
        "$pageview" => "pageview",
        "$pageleave" => "pageleave",
        "$set" | "$set_once" => "set",
        "$screen" => "screen",
        _ => Field::EventType.fallback(),
    }
}

/// Text as it is, everything else as its JSON text.
pub(super) fn text_of(value: &RawValue) -> String {
    serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(entry: &'a Entry, name: &str) -> &'a str {
        entry
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, value)| value)
    }

    #[test]
    fn values_travel_as_they_stand() {
        let line =
            r#"{"event_name":"x","screen_width":10,"properties":{"n": 12345678901234567890.50 },"ip":null}"#;
        let entry = parse(line, 0).unwrap();
        assert_eq!(field(&entry, "properties"), r#"{"n": 12345678901234567890.50 }"#);
        assert_eq!(field(&entry, "screen_width"), "10");
        assert_eq!(field(&entry, "event_type"), "track");
        assert!(entry.iter().all(|(name, _)| name != "ip"));
        assert!(Uuid::parse_str(field(&entry, "event_id")).is_ok());
    }

    #[test]
    fn raw_entries_are_sent_as_they_are() {
        let entry = parse(r#"[["a","1"],["a","2"]]"#, 0).unwrap();
        assert_eq!(
            entry,
            [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())]
        );
    }

    #[test]
    fn what_is_no_event_says_why() {
        for (line, reason) in [
            ("{", "not a JSON object"),
            ("{}", "no fields"),
            ("[]", "no fields"),
            ("1", "not a JSON"),
            ("{\"a\":x}", "at column 6"),
        ] {
            assert!(parse(line, 0).unwrap_err().contains(reason), "{line}");
        }
    }

    #[test]
    fn a_mark_before_the_first_line_is_no_part_of_it() {
        let line = b"\xef\xbb\xbf{}";
        assert_eq!(text(line, 1), Some("{}"));
        assert_eq!(text(line, 2), Some("\u{feff}{}"));
        assert_eq!(text(b"\xff{}", 1), None);
    }

    #[test]
    fn shifting_keeps_milliseconds() {
        let entry = parse(r#"{"timestamp":"2026-01-15T10:30:00.123Z"}"#, 1_000).unwrap();
        assert_eq!(field(&entry, "timestamp"), "2026-01-15T10:30:01.123Z");
    }
}
