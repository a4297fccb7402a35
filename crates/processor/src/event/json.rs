//! Reads JSON objects member by member, without building a tree.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Calls `each` with every member's key literal and value, exactly as in the text, duplicates included. `true` when `text`
/// is one well-formed JSON object; otherwise `each` may have been called for the members before the fault.
///
/// Linear time and no recursion, so depth is not limited.
pub fn members<'a>(text: &'a str, each: impl FnMut(&'a str, &'a str)) -> bool {
    let text = text.trim_ascii();
    if text == "{}" {
        return true;
    }
    if !text.starts_with('{') {
        return false;
    }
    let mut json = serde_json::Deserializer::from_str(text);
    Members(each).deserialize(&mut json).is_ok() && json.end().is_ok()
}

struct Members<F>(F);

impl<'de, F: FnMut(&'de str, &'de str)> DeserializeSeed<'de> for Members<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&'de str, &'de str)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            (self.0)(key.get(), value.get());
        }
        Ok(())
    }
}

/// Calls `each` with every element, exactly as in the text. `true` when `text` is one well-formed JSON array; otherwise
/// `each` may have been called for the elements before the fault.
pub fn elements<'a>(text: &'a str, each: impl FnMut(&'a str)) -> bool {
    let mut json = serde_json::Deserializer::from_str(text);
    Elements(each).deserialize(&mut json).is_ok() && json.end().is_ok()
}

struct Elements<F>(F);

impl<'de, F: FnMut(&'de str)> DeserializeSeed<'de> for Elements<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&'de str)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element::<&RawValue>()? {
            (self.0)(element.get());
        }
        Ok(())
    }
}

/// The text of a string literal as PostgreSQL can store it: NUL removed, half a surrogate pair replaced. Anything else than
/// a string literal is returned unchanged.
pub fn text(literal: &str) -> Cow<'_, str> {
    let Some(inner) = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(literal);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    match serde_json::from_str(&storable_string(literal)) {
        Ok(text) => Cow::Owned(text),
        Err(_) => Cow::Borrowed(inner),
    }
}

/// The string literal as PostgreSQL can store it: `\u0000` removed, half a surrogate pair replaced by U+FFFD.
pub fn storable_string(literal: &str) -> Cow<'_, str> {
    if !literal.contains("\\u") {
        return Cow::Borrowed(literal);
    }
    let unit = |at: usize| -> Option<u16> {
        let hex = literal.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(hex, 16).ok()
    };
    let mut clean = String::with_capacity(literal.len());
    let mut at = 0;
    while at < literal.len() {
        let rest = &literal[at..];
        if !rest.starts_with('\\') {
            let end = rest.find('\\').unwrap_or(rest.len());
            clean.push_str(&rest[..end]);
            at += end;
            continue;
        }
        let Some(first) = unit(at) else {
            // Another escape: two characters.
            let end = rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end);
            clean.push_str(&rest[..end]);
            at += end;
            continue;
        };
        let pair = matches!(first, 0xD800..=0xDBFF) && matches!(unit(at + 6), Some(0xDC00..=0xDFFF));
        match first {
            0 => {}
            0xD800..=0xDFFF if !pair => clean.push_str("\\ufffd"),
            _ => clean.push_str(&rest[..if pair { 12 } else { 6 }]),
        }
        at += if pair { 12 } else { 6 };
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Vec<(&str, &str)>> {
        let mut found = Vec::new();
        members(text, |key, value| found.push((key, value))).then_some(found)
    }

    #[test]
    fn members_come_in_their_order_as_they_stand_in_the_text() {
        let text = r#" {"a" : [1, 1e400, "\ud800"],"b\n":{ "c":null } , "a":"x"} "#;
        let expected = [
            ("\"a\"", r#"[1, 1e400, "\ud800"]"#),
            ("\"b\\n\"", r#"{ "c":null }"#),
            ("\"a\"", "\"x\""),
        ];
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(read("{}"), Some(vec![]));
        assert_eq!(read(" { } "), Some(vec![]));
        assert!(
            read(r#"{"\ud800":1}"#).is_some(),
            "half a pair is no reason to refuse an object"
        );
    }

    #[test]
    fn only_objects_count() {
        for text in [
            "",
            "null",
            "[]",
            "1",
            "\"{}\"",
            "{",
            "{\"a\":}",
            "{} {}",
            "{\"a\":1}x",
            "{a:1}",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn depth_neither_overflows_nor_counts_as_malformed() {
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert_eq!(read(&deep).unwrap().len(), 1);
    }

    #[test]
    fn a_literal_is_read_as_it_can_be_stored() {
        for (literal, read) in [
            (r#""plain""#, "plain"),
            (r#""a\"b\\\u0041""#, "a\"b\\A"),
            (
                r#""a\u0000b\ud800c\ud83d\ude00\\u0000""#,
                "ab\u{fffd}c\u{1f600}\\u0000",
            ),
            ("12", "12"),
            ("\"", "\""),
        ] {
            assert_eq!(text(literal), read, "{literal}");
        }
    }

    proptest! {
        #[test]
        fn whatever_can_be_written_is_read_back(key in any::<String>(), value in any::<String>()) {
            let (key, value) = (key.replace('\0', ""), value.replace('\0', ""));
            let written = serde_json::json!({ &key: &value }).to_string();
            let found = read(&written).unwrap();
            prop_assert_eq!(text(found[0].0), key);
            prop_assert_eq!(text(found[0].1), value);
        }

        #[test]
        fn an_object_is_what_a_parser_takes_for_one(written in r#"[{}\[\]",:0-9ae. \\u]{0,24}"#) {
            let parsed = serde_json::from_str::<serde::de::IgnoredAny>(&written).is_ok();
            prop_assert_eq!(read(&written).is_some(), parsed && written.trim_ascii().starts_with('{'));
        }
    }
}
