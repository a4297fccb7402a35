//! What the parser understands, read off its source: what is new there is missed by name wherever it is left out.

use std::collections::BTreeSet;

use regex_lite::Regex;
use serde_json::Value;

pub(crate) const PARSER: &str = include_str!("../../src/parse/mod.rs");

/// Everything that is understood under each key of a definition that chooses among kinds.
pub(crate) fn understood() -> Vec<(&'static str, BTreeSet<String>)> {
    let keys: [(&str, &[&str], usize); 5] = [
        ("type", &["group", "condition"], 12),
        ("operator", &["property_predicate"], 21),
        ("period_type", &["condition"], 3),
        ("aggregation_type", &["of_events"], 10),
        ("count_operator", &["of_events"], 3),
    ];
    let known = keys.into_iter().map(|(key, functions, at_least)| {
        let known = functions.iter().flat_map(|function| known_to(function));
        let known: BTreeSet<String> = known.filter(|text| belongs(key, text)).collect();
        assert!(known.len() >= at_least, "{key}: {known:?}");
        (key, known)
    });
    known.collect()
}

/// Whether a text that one of the functions compares is one for the key: a function may read several.
fn belongs(key: &str, text: &str) -> bool {
    let is_period = ["day", "week", "month"].contains(&text);
    let is_count_operator = ["gte", "lte", "eq"].contains(&text);
    match key {
        "type" => !is_period,
        "period_type" => is_period,
        "aggregation_type" => !is_count_operator,
        "count_operator" => is_count_operator,
        _ => true,
    }
}

/// Texts that the parser compares with something, in the arms of a `match` or by `==`, from a function on to the end of the
/// item that it stands in.
pub(crate) fn known_to(function: &str) -> BTreeSet<String> {
    let start = PARSER.find(&format!("fn {function}(")).unwrap();
    let body = &PARSER[start..];
    let body = &body[..body.find("\n}\n").unwrap()];
    let compared = Regex::new(r#"(?m)^\s*((?:"[^"]+"(?: \| )?)+) =>|== ("[^"]+")"#).unwrap();
    let literal = Regex::new(r#""([^"]+)""#).unwrap();
    let texts = compared.captures_iter(body).flat_map(|found| {
        let texts = found.get(1).or(found.get(2)).unwrap().as_str();
        let texts = literal.captures_iter(texts).map(|text| text[1].to_owned());
        texts.collect::<Vec<_>>()
    });
    texts.collect()
}

/// What an object and all that is inside it give under a key.
pub(crate) fn collect(value: &Value, key: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(text) = object.get(key).and_then(Value::as_str) {
                found.insert(text.to_owned());
            }
            object.values().for_each(|value| collect(value, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, key, found)),
        _ => {}
    }
}
