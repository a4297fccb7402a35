//! What one event writes to its person's properties, made fit to be stored.
//!
//! Wrong inner types are ignored piece by piece; values keep their JSON text, so that large numbers stay exact.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Properties that SDKs send with every event and nobody asks a person for (contract: 18 names, exact).
const NOISY: [&str; 18] = [
    "$browser",
    "$browser_version",
    "$os",
    "$os_version",
    "$device_type",
    "$screen_width",
    "$screen_height",
    "$viewport_width",
    "$viewport_height",
    "$current_url",
    "$referrer",
    "$referring_domain",
    "$pathname",
    "$ip",
    "$geoip_country_code",
    "$geoip_city_name",
    "$timezone",
    "$language",
];

/// Deepest nesting of a stored value; PostgreSQL refuses far deeper ones with the whole statement.
const DEEPEST: usize = 100;
/// Largest power of ten in a number: PostgreSQL's numeric type ends at 131,072 digits.
const LARGEST_EXPONENT: u32 = 1_000;
/// Longest number.
const LONGEST_NUMBER: usize = 2_000;

/// What an event does to one key. Values are JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Overwrite.
    Set(String),
    /// Write if the person has no such key.
    Once(String),
    /// Remove.
    Unset,
}

/// At most one change per key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertyWrites {
    changes: BTreeMap<String, Change>,
}

impl PropertyWrites {
    /// Reads an event's `user_properties`. What is no JSON object writes nothing.
    pub fn parse(text: &str) -> Self {
        let mut writes = Self::default();
        let Ok(Pairs(root)) = serde_json::from_str::<Pairs>(text) else {
            return writes;
        };
        // Later steps win: `$set`, keys at the root, `$set_once` where nothing is set, then removals.
        for (_, set) in root.iter().filter(|(key, _)| key == "$set") {
            writes.each(set, |changes, key, value| {
                changes.insert(key, Change::Set(value));
            });
        }
        for (key, value) in &root {
            if !matches!(key.as_ref(), "$set" | "$set_once" | "$unset") {
                writes.one(key, value.get(), |changes, key, value| {
                    changes.insert(key, Change::Set(value));
                });
            }
        }
        for (_, once) in root.iter().filter(|(key, _)| key == "$set_once") {
            writes.each(once, |changes, key, value| {
                if !matches!(changes.get(&key), Some(Change::Set(_))) {
                    changes.insert(key, Change::Once(value));
                }
            });
        }
        for (_, unset) in root.iter().filter(|(key, _)| key == "$unset") {
            let Ok(names) = serde_json::from_str::<Vec<&RawValue>>(unset.get()) else {
                continue;
            };
            for name in names
                .iter()
                .filter_map(|name| serde_json::from_str::<String>(name.get()).ok())
            {
                writes.changes.insert(without_nul(&name), Change::Unset);
            }
        }
        writes
    }

    /// The changes, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Change)> {
        self.changes.iter().map(|(key, change)| (key.as_str(), change))
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn each(&mut self, object: &RawValue, put: impl Fn(&mut BTreeMap<String, Change>, String, String)) {
        let Ok(Pairs(pairs)) = serde_json::from_str::<Pairs>(object.get()) else {
            return;
        };
        for (key, value) in &pairs {
            self.one(key, value.get(), &put);
        }
    }

    fn one(&mut self, key: &str, value: &str, put: impl Fn(&mut BTreeMap<String, Change>, String, String)) {
        if !NOISY.contains(&key)
            && let Some(value) = storable(value)
        {
            put(&mut self.changes, without_nul(key), value.into_owned());
        }
    }
}

fn without_nul(key: &str) -> String {
    key.replace('\0', "")
}

/// A JSON value as PostgreSQL can store it: escaped NULs are removed, halves of surrogate pairs replaced. `None` when
/// it is nested too deep or holds a number that is too large.
fn storable(json: &str) -> Option<Cow<'_, str>> {
    let mut depth = 0usize;
    let mut rest = json;
    let mut out: Option<String> = None;
    while let Some(at) = rest.find([
        '"', '[', '{', ']', '}', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9',
    ]) {
        let (before, token) = rest.split_at(at);
        push(&mut out, before);
        let length = match token.as_bytes()[0] {
            b'"' => {
                let length = string_length(token);
                match clean_string(&token[..length]) {
                    Cow::Borrowed(text) => push(&mut out, text),
                    Cow::Owned(text) => {
                        out.get_or_insert_with(|| json[..json.len() - token.len()].to_owned())
                            .push_str(&text);
                    }
                }
                rest = &token[length..];
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > DEEPEST {
                    return None;
                }
                1
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                1
            }
            _ => number_length(token)?,
        };
        push(&mut out, &token[..length]);
        rest = &token[length..];
    }
    push(&mut out, rest);
    Some(out.map_or(Cow::Borrowed(json), Cow::Owned))
}

/// Appends once a copy has become necessary.
fn push(out: &mut Option<String>, text: &str) {
    if let Some(out) = out {
        out.push_str(text);
    }
}

/// Length of the string literal that `text` begins with, quotes included.
fn string_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Length of the number that `text` begins with; `None` when it is too large to store.
fn number_length(text: &str) -> Option<usize> {
    let length = text
        .bytes()
        .take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        .count();
    let exponent = text[..length].split(['e', 'E']).nth(1).unwrap_or("0");
    let exponent: u32 = exponent.trim_start_matches(['+', '-']).parse().ok()?;
    (length <= LONGEST_NUMBER && exponent <= LARGEST_EXPONENT).then_some(length)
}

/// A string literal without `\u0000` and without half surrogate pairs.
fn clean_string(literal: &str) -> Cow<'_, str> {
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

/// An object's members in their order, duplicates included.
struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    pairs.push((Cow::Owned(key), map.next_value()?));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(json: &str) -> Vec<(String, Change)> {
        PropertyWrites::parse(json)
            .iter()
            .map(|(k, c)| (k.to_owned(), c.clone()))
            .collect()
    }

    fn set(key: &str, json: &str) -> (String, Change) {
        (key.to_owned(), Change::Set(json.to_owned()))
    }

    #[test]
    fn root_keys_are_implicit_sets_and_win_over_the_same_key_inside_set() {
        assert_eq!(
            parse(r#"{"plan":"pro","$set":{"plan":"free","x":1}}"#),
            [set("plan", "\"pro\""), set("x", "1")]
        );
    }

    #[test]
    fn removal_comes_after_the_same_events_sets() {
        assert_eq!(
            parse(r#"{"a":1,"$set_once":{"b":2},"$unset":["a","b"]}"#),
            [("a".to_owned(), Change::Unset), ("b".to_owned(), Change::Unset),]
        );
    }

    #[test]
    fn wrong_inner_types_are_ignored_piece_by_piece() {
        assert_eq!(
            parse(r#"{"$set":"abc","$set_once":[1],"$unset":{"a":1},"k":null}"#),
            [set("k", "null")]
        );
        assert_eq!(
            parse(r#"{"$unset":["a",1,null,{"b":2}]}"#),
            [("a".to_owned(), Change::Unset)]
        );
        for text in ["null", "[]", "[1,2]", "\"abc\"", "12", "{", ""] {
            assert_eq!(parse(text), [], "{text}");
        }
    }

    #[test]
    fn noisy_properties_are_not_stored_but_may_be_removed() {
        assert_eq!(
            parse(r#"{"$browser":"x","$set":{"$os":"y"},"$set_once":{"$ip":"z"},"$unset":["$language"]}"#),
            [("$language".to_owned(), Change::Unset)]
        );
        assert_eq!(parse(r#"{"$Browser":"x"}"#), [set("$Browser", "\"x\"")]);
    }

    #[test]
    fn values_keep_their_text_unless_they_cannot_be_stored() {
        assert_eq!(
            parse(r#"{"n":12345678901234567890.123}"#),
            [set("n", "12345678901234567890.123")]
        );
        assert_eq!(
            parse(r#"{"s":"a\u0000b\ud800c\ud83d\ude00\\u0000"}"#),
            [set("s", r#""ab\ufffdc\ud83d\ude00\\u0000""#)]
        );
        assert_eq!(parse(r#"{"huge":1e999999,"ok":1e400}"#), [set("ok", "1e400")]);
        let deep = format!(r#"{{"deep":{}1{},"flat":1}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(parse(&deep), [set("flat", "1")]);
        assert_eq!(parse("{\"a\\u0000b\":1}"), [set("ab", "1")]);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_value_is_json(text in any::<String>(), inner in any::<String>()) {
            let quoted = serde_json::to_string(&inner).unwrap();
            for json in [text, format!("{{{quoted}:[{quoted},-1.5e3]}}")] {
                for (_, change) in PropertyWrites::parse(&json).iter() {
                    if let Change::Set(value) | Change::Once(value) = change {
                        prop_assert!(serde_json::from_str::<serde_json::Value>(value).is_ok(), "{}", value);
                    }
                }
            }
        }
    }
}
