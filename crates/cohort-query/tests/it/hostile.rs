//! Names and values made to break out of a query.

use std::collections::BTreeSet;

use cohort_query::{Definition, Query, Reference, compile};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::engine::{Engine, Event, NOW, person};

const HOSTILE: [&str; 20] = [
    "'",
    "''",
    "\"",
    "`",
    "\\",
    "\\'",
    "\\\\'",
    "{p1:String}",
    "{text_1:String}",
    "{now",
    "}",
    "--",
    "/* */",
    "; DROP TABLE events",
    "' OR 1=1 --",
    "\0",
    "\n",
    "%_",
    "é😀\u{202e}",
    "$1 ? ?? :x",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        2 => prop::sample::select(&HOSTILE[..]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let text = prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat());
    text.prop_filter("no value", |text| !text.is_empty())
}

/// A definition with a place for a text wherever the contract has one.
pub(crate) fn definition(name: &str, key: &str, value: &str) -> Value {
    let test =
        |operator: &str| json!({"property": key, "operator": operator, "value": value, "values": [value]});
    let person = |operator: &str| {
        let mut condition = test(operator);
        condition["type"] = json!("person_property");
        condition
    };
    let event = |kind: &str| {
        json!({"type": kind, "event_name": name, "time_window_days": 30, "event_filters": [test("eq")],
            "count_operator": "gte", "count": 1, "aggregation_type": "max", "aggregation_property": key,
            "period_type": "day", "total_periods": 3, "min_periods": 1, "recent_window_days": 1, "gap_window_days": 1,
            "historical_window_days": 9, "steps": [{"event_name": name, "event_filters": [test("contains")]}]})
    };
    let persons = [
        "eq",
        "neq",
        "contains",
        "not_contains",
        "contains_multi",
        "not_contains_multi",
        "in",
        "not_in",
        "is_date_before",
    ]
    .map(person);
    let events = [
        "event",
        "first_time_event",
        "not_performed_event",
        "event_sequence",
        "not_performed_event_sequence",
        "performed_regularly",
        "stopped_performing",
        "restarted_performing",
    ]
    .map(event);
    let conditions = [persons.to_vec(), events.to_vec()].concat();
    json!({"type": "OR", "values": conditions})
}

fn compiled(json: &Value) -> Query {
    let definition = Definition::parse(json).unwrap();
    compile(&definition, Uuid::from_u128(1), NOW, &|_| Reference::Missing)
}

proptest! {
    /// Keys without dots take the same path as `k`; all texts differ, as in the definition that they are compared with.
    #[test]
    fn texts_never_change_the_shape_of_a_query(name in text(), key in text(), value in text()) {
        let (name, key, value) = (format!("1{name}"), format!("2{}", key.replace('.', "")), format!("3{value}"));
        let plain = compiled(&definition("1n", "2k", "3v"));
        let hostile = compiled(&definition(&name, &key, &value));
        prop_assert_eq!(&hostile.sql, &plain.sql);
        prop_assert_eq!(hostile.parameters.len(), plain.parameters.len());
    }
}

#[test]
fn texts_of_any_kind_find_exactly_those_who_have_them() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine = runtime.block_on(Engine::start());
    let project = Uuid::from_u128(1);
    let config = ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let strategy = (text(), text(), text());
    let result = runner.run(&strategy, |(name, key, value)| {
        // Dots are a path.
        let key = format!("k{}", key.replace('.', ""));
        runtime.block_on(async {
            engine.run("TRUNCATE TABLE events").await;
            let event = |who: &str, name: &str, key: &str, value: &str| Event {
                id: Uuid::new_v4(),
                distinct_id: who.into(),
                person: person(who),
                name: name.into(),
                time: NOW - 1000,
                properties: json!({ key: value }).to_string(),
                user_properties: json!({ key: value }).to_string(),
                country: String::new(),
            };
            let others = [
                event("a", &name, &key, &value),
                event("b", &name, &key, &format!("{value}.")),
                event("c", &name, &format!("{key}x"), &value),
                event("d", &format!("{name}x"), "k", "v"),
            ];
            engine.add(project, &others).await;
            let test = json!({"property": key, "operator": "eq", "value": value});
            let mut person_property = test.clone();
            person_property["type"] = json!("person_property");
            let event = json!({"type": "event", "event_name": name, "count_operator": "gte", "count": 1,
                "time_window_days": 1, "event_filters": [test]});
            let mut among = person_property.clone();
            among["operator"] = json!("in");
            among["values"] = json!(["other", value, ""]);
            let mut part = person_property.clone();
            part["operator"] = json!("contains_multi");
            part["values"] = json!([format!("{value}.")]);
            for (condition, expected) in [(person_property, "a"), (event, "a"), (among, "a"), (part, "b")] {
                let query = compiled(&json!({"type": "AND", "values": [condition]}));
                let members = engine.members(&query).await.map_err(TestCaseError::fail)?;
                prop_assert_eq!(members, BTreeSet::from([person(expected)]), "{}", condition);
            }
            Ok(())
        })
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[tokio::test]
async fn a_pattern_that_cannot_be_compiled_is_an_error_even_without_anybody() {
    let engine = Engine::start().await;
    for operator in ["regex", "not_regex"] {
        let condition =
            json!({"type": "person_property", "property": "k", "operator": operator, "value": "["});
        let query = compiled(&json!({"type": "AND", "values": [condition]}));
        let error = engine.members(&query).await.unwrap_err();
        assert!(error.contains("missing ]"), "{error}");
    }
}
