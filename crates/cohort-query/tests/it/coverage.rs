//! Whoever adds a condition is told by its name which tests have yet to know it: the generator, the worked examples, the
//! naive reading of them, and the hostile texts.

use std::collections::{BTreeMap, BTreeSet};

use cohort_query::{Definition, unknown_members};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::engine::person;
use crate::examples::{self, examples};
use crate::naive::World;
use crate::understood::{collect, understood};
use crate::{generated, hostile};

/// So many definitions that every kind of thing is among them.
const ENOUGH: usize = 3_000;

/// What is understood under a key and not said there by any of the definitions.
fn missing(key: &str, known: &BTreeSet<String>, definitions: &[Value]) -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    for definition in definitions {
        collect(definition, key, &mut said);
    }
    known - &said
}

/// The conditions that are understood, groups among them.
fn conditions() -> BTreeSet<String> {
    let mut understood = understood().into_iter();
    understood.find(|(key, _)| *key == "type").unwrap().1
}

#[test]
fn the_generator_says_everything_that_is_understood() {
    let mut runner = TestRunner::deterministic();
    let definitions = (0..ENOUGH).map(|_| generated::definition().new_tree(&mut runner).unwrap().current());
    let definitions: Vec<Value> = definitions.collect();
    for (key, known) in understood() {
        assert_eq!(missing(key, &known, &definitions), BTreeSet::new(), "{key}");
    }
}

#[test]
fn every_condition_has_a_worked_example() {
    let definitions: Vec<Value> = examples().into_iter().map(|example| example.definition).collect();
    assert_eq!(missing("type", &conditions(), &definitions), BTreeSet::new());
}

#[test]
fn the_naive_reading_gives_every_worked_example_its_members() {
    for example in examples() {
        let overrides = BTreeMap::from([("merged".to_owned(), person("u"))]);
        let cohorts = BTreeMap::from([
            (examples::DYNAMIC, BTreeSet::from([person("a")])),
            (examples::STATIC, BTreeSet::from([person("b")])),
        ]);
        let world = World::new(&example.events, &overrides, cohorts);
        let expected: BTreeSet<_> = example.members.iter().map(|name| person(name)).collect();
        assert_eq!(
            world.members(&example.definition),
            expected,
            "example {}: {}",
            example.number,
            example.definition
        );
    }
}

#[test]
fn hostile_texts_stand_in_every_condition_that_takes_a_text() {
    let definition = hostile::definition("name", "key", "value");
    let mut with_texts = conditions();
    with_texts.retain(|name| !["AND", "OR", "cohort"].contains(&name.as_str()));
    assert_eq!(missing("type", &with_texts, &[definition]), BTreeSet::new());
}

#[test]
fn an_error_names_every_word_that_is_understood_at_its_place() {
    let event = json!({"type": "event", "event_name": "x", "count_operator": "gte", "count": 1, "time_window_days": 1});
    let regularly = json!({"type": "performed_regularly", "event_name": "x", "total_periods": 1, "min_periods": 1,
        "time_window_days": 1});
    let property = json!({"type": "person_property", "property": "a", "value": "b"});
    for (key, known) in understood() {
        let mut condition = match key {
            "type" | "operator" => property.clone(),
            "period_type" => regularly.clone(),
            _ => event.clone(),
        };
        condition[key] = json!("?");
        let definition = json!({"type": "AND", "values": [condition]});
        let error = Definition::parse(&definition).unwrap_err();
        let (_, told) = error.problem.split_once("expected one of ").unwrap();
        let told: BTreeSet<String> = told.split(", ").map(str::to_owned).collect();
        assert_eq!((error.path, told), (format!("values[0].{key}"), known));
    }
}

#[test]
fn no_member_of_a_right_definition_is_taken_for_unknown() {
    let mut runner = TestRunner::deterministic();
    let generated = (0..ENOUGH).map(|_| generated::definition().new_tree(&mut runner).unwrap().current());
    let worked = examples().into_iter().map(|example| example.definition);
    for definition in generated.chain(worked) {
        assert_eq!(unknown_members(&definition), [], "{definition}");
    }
}
