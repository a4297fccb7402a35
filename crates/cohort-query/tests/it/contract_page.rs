//! docs/contract.md, held against the parser: its examples of cohorts are understood, and leave out nothing that is.

use std::collections::BTreeSet;

use cohort_query::{Definition, Reference, compile};
use regex_lite::Regex;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::understood::{PARSER, collect, known_to, understood};

const PAGE: &str = include_str!("../../../../docs/contract.md");

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

/// What the examples say under a key.
fn shown(key: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for example in examples() {
        collect(&example, key, &mut found);
    }
    found
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
    for (key, known) in understood() {
        assert_eq!(shown(key), known, "{key}");
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
