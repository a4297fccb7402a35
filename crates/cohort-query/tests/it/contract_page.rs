//! docs/contract.md, held against the parser: its examples of cohorts are understood, and leave out nothing that is.

use std::collections::BTreeSet;

use cohort_query::{Definition, Reference, compile};
use regex_lite::Regex;
use serde_json::{Value, json};
use uuid::Uuid;

const PAGE: &str = include_str!("../../../../docs/contract.md");
const PARSER: &str = include_str!("../../src/parse/mod.rs");

/// The page's part on cohorts.
fn cohorts() -> &'static str {
    let (_, part) = PAGE.split_once("\n## Cohorts\n").unwrap();
    part.split("\n## ").next().unwrap()
}

/// The JSON blocks of that part.
fn blocks() -> Vec<Value> {
    let blocks = cohorts().split("```json\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let read = |text| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    blocks.map(read).collect()
}

/// The examples: definitions and conditions.
fn examples() -> Vec<Value> {
    let each = |block| match block {
        Value::Array(conditions) => conditions,
        one => vec![one],
    };
    blocks().into_iter().flat_map(each).collect()
}

/// What an object and all that is inside it give under a key.
fn collect(value: &Value, keys: &[&str], found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if let Some(text) = value.as_str().filter(|_| keys.contains(&key.as_str())) {
                    found.insert(text.to_owned());
                }
                collect(value, keys, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, keys, found)),
        _ => {}
    }
}

/// What the examples say under these keys.
fn shown(keys: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for example in examples() {
        collect(&example, keys, &mut found);
    }
    found
}

/// Texts that the parser compares with something, in the arms of a `match` or by `==`, from a function on to the end of the
/// item that it stands in.
fn known_to(function: &str) -> BTreeSet<String> {
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

#[test]
fn every_example_of_the_contract_page_compiles() {
    let examples = examples();
    assert!(examples.len() > 40, "{}", examples.len());
    for example in examples {
        let is_group = example["values"].is_array() && example.get("operator").is_none();
        let definition = match &example {
            group if is_group => group.clone(),
            condition => json!({"type": "AND", "values": [condition]}),
        };
        let definition =
            Definition::parse(&definition).unwrap_or_else(|error| panic!("{error} in {example}"));
        let query = compile(&definition, Uuid::nil(), 0, &|_| Reference::Static);
        assert!(query.sql.contains("person"), "{example}");
    }
}

#[test]
fn every_condition_and_operator_that_is_understood_has_an_example_on_the_contract_page() {
    for (keys, functions, at_least) in [
        (&["type"][..], &["group", "condition"][..], 12),
        (&["operator"], &["property_predicate"], 21),
        (&["period_type"], &["condition"], 3),
        (&["aggregation_type"], &["of_events"], 10),
        (&["count_operator"], &["of_events"], 3),
    ] {
        let known = functions.iter().flat_map(|function| known_to(function));
        let known: BTreeSet<String> = known.filter(|text| belongs(keys[0], text)).collect();
        assert!(known.len() >= at_least, "{keys:?}: {known:?}");
        assert_eq!(shown(keys), known, "{keys:?}");
    }
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

#[test]
fn every_operator_stands_in_the_table_of_the_contract_page_and_every_column_is_named() {
    let rows: Vec<&str> = cohorts().lines().filter(|line| line.starts_with("| `")).collect();
    let first_cells: String = rows.iter().map(|row| row.split(" | ").next().unwrap()).collect();
    let (_, columns) = PARSER.split_once("const COLUMNS").unwrap();
    let columns = columns.split_once("];").unwrap().0;
    let column = Regex::new(r#""([^"]+)""#).unwrap();
    let columns: BTreeSet<String> = column
        .captures_iter(columns)
        .map(|text| text[1].to_owned())
        .collect();
    assert_eq!(columns.len(), 9);
    for name in known_to("property_predicate").union(&columns) {
        assert!(first_cells.contains(&format!("`{name}`")), "{name}");
    }
}
