//! What one event writes to its person's properties, made fit to be stored.
//!
//! Wrong inner types are ignored piece by piece; values keep their JSON text, so that large numbers stay exact.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::event::json;

use super::Limits;
use super::change::Change;
use super::weight::{Weight, printed_length, string_length};

/// Properties that SDKs send with every event and no reader asks a person for ("Property writes" in docs/contract.md: 18
/// names, exact).
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

/// Members of `user_properties` that are no keys: `$set`, `$set_once`, `$unset`.
const STEPS: usize = 3;

/// At most one change per key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertyWrites {
    changes: BTreeMap<String, Change>,
    too_large: usize,
}

impl PropertyWrites {
    /// Reads the members of an event's `user_properties`: key literals and values. A value that is larger than a person
    /// may be is left out, and so is everything when there are more keys than a person may have.
    pub fn of<'a>(members: impl Iterator<Item = (&'a str, &'a str)>, limits: Limits) -> Self {
        let mut writes = Self::default();
        let most = limits.keys.saturating_add(STEPS);
        let mut members = members;
        let root = members.by_ref().take(most);
        let root: Vec<_> = root.map(|(key, value)| (json::text(key), value)).collect();
        let named = |name: &'static str| {
            root.iter()
                .filter(move |(key, _)| key == name)
                .map(|(_, value)| *value)
        };
        // Later steps win: `$set`, keys at the root, `$set_once` where nothing is set, then removals.
        for set in named("$set") {
            writes.each(set, limits, |changes, key, value| {
                changes.insert(key, Change::Set(value));
            });
        }
        for (key, value) in &root {
            if !matches!(key.as_ref(), "$set" | "$set_once" | "$unset") {
                writes.one(key, value, limits, |changes, key, value| {
                    changes.insert(key, Change::Set(value));
                });
            }
        }
        for once in named("$set_once") {
            writes.each(once, limits, |changes, key, value| {
                if !matches!(changes.get(&key), Some(Change::Set(_))) {
                    changes.insert(key, Change::Once(value));
                }
            });
        }
        for unset in named("$unset") {
            let mut removed = 0;
            json::elements(unset, |name| {
                if name.starts_with('"') && removed <= limits.keys {
                    let name = json::text(name).into_owned();
                    removed += usize::from(writes.changes.insert(name, Change::Unset).is_none());
                }
            });
        }
        if members.next().is_some() || writes.changes.len() > limits.keys {
            writes.too_large += writes.changes.len();
            writes.changes.clear();
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

    /// Writes that are left out, whatever the person holds.
    pub fn too_large(&self) -> usize {
        self.too_large
    }

    /// Changes, and those that were left out.
    pub fn count(&self) -> usize {
        self.changes.len() + self.too_large
    }

    /// What it adds to a person that has none of its keys.
    pub(super) fn weight(&self) -> Weight {
        let changes = self.changes.iter();
        let changes = changes.map(|(key, change)| Weight::of_change(key, change));
        changes.fold(Weight::default(), |sum, weight| sum + weight)
    }

    fn each(
        &mut self,
        object: &str,
        limits: Limits,
        put: impl Fn(&mut BTreeMap<String, Change>, String, String),
    ) {
        let mut pairs = Vec::new();
        let is_object = json::members(object, |key, value| {
            if pairs.len() <= limits.keys {
                pairs.push((key, value));
            }
        });
        if is_object {
            for (key, value) in pairs {
                self.one(&json::text(key), value, limits, &put);
            }
        }
    }

    fn one(
        &mut self,
        key: &str,
        value: &str,
        limits: Limits,
        put: impl Fn(&mut BTreeMap<String, Change>, String, String),
    ) {
        if NOISY.contains(&key) {
            return;
        }
        if key.len().saturating_add(value.len()) > limits.bytes {
            self.too_large += 1;
            return;
        }
        match storable(value) {
            Some(value) if printed_length(&value) > limits.bytes => self.too_large += 1,
            Some(value) => put(&mut self.changes, key.to_owned(), value.into_owned()),
            None => {}
        }
    }
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
                match json::storable_string(&token[..length]) {
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

#[cfg(test)]
impl PropertyWrites {
    /// As the worker reads a text.
    pub(super) fn parse(text: &str) -> Self {
        Self::parse_within(text, Limits::NONE)
    }

    pub(super) fn parse_within(text: &str, limits: Limits) -> Self {
        let mut members = Vec::new();
        if !json::members(text, |key, value| members.push((key, value))) {
            members.clear();
        }
        Self::of(members.into_iter(), limits)
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
        assert_eq!(
            parse(r#"{"a\ud800":1,"b":2}"#),
            [set("a\u{fffd}", "1"), set("b", "2")]
        );
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
