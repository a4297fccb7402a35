//! What is seen of events: names, where they stand, and their types.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use stream_reply::{EntryBlock, StreamId};

use crate::event::field::FIELDS;
use crate::event::{Batch, decode};

use super::sightings::Sightings;
use super::{Catalogue, ValueType};

const PROJECT: &str = "11111111-1111-1111-1111-111111111111";
const NOW: i64 = 1_795_000_000;

pub(super) fn batch(events: &[(&str, &str, &str)]) -> Batch {
    let entries = events
        .iter()
        .enumerate()
        .map(|(n, (name, properties, user_properties))| {
            let fields = [
                ("project_id", PROJECT),
                ("distinct_id", "d"),
                ("event_name", *name),
                ("properties", *properties),
                ("user_properties", *user_properties),
            ];
            (StreamId::new(n as u64 + 1, 0), fields)
        });
    let mut batch = Batch::default();
    let block = EntryBlock::of("s", &FIELDS, entries);
    decode::append(&mut batch, block, 0, "s", false, &[]);
    assert_eq!(batch.events.len(), events.len());
    batch
}

/// New names in the catalogue: events, properties with their types, and "event/property".
pub(in super::super) type News = (
    BTreeSet<String>,
    BTreeMap<String, Option<ValueType>>,
    BTreeSet<String>,
);

pub(super) fn news(catalogue: &Catalogue, events: &[(&str, &str, &str)]) -> News {
    catalogue.observe_at(&batch(events), NOW);
    names_in(catalogue.take())
}

pub(super) fn names_in(new: Sightings) -> News {
    let events = new.events.into_values().map(|row| row.name.to_string());
    let properties = new.properties.into_values().map(|row| {
        assert!(row.name.starts_with(row.of.prefix()), "the prefix tells the type");
        (row.name.to_string(), row.value_type)
    });
    let event_properties = new.event_properties.into_values();
    let event_properties = event_properties.map(|row| format!("{}/{}", row.event, row.name));
    (events.collect(), properties.collect(), event_properties.collect())
}

fn names(events: &[(&str, &str, &str)]) -> Vec<String> {
    news(&Catalogue::default(), events).1.into_keys().collect()
}

#[test]
fn names_say_where_a_property_stands() {
    let (events, properties, event_properties) = news(
        &Catalogue::default(),
        &[(
            "e",
            r#"{"a":1,"$set":{"b":true},"$set_once":{"c":null}}"#,
            r#"{"d":"x"}"#,
        )],
    );
    assert_eq!(events, BTreeSet::from(["e".to_owned()]));
    let expected = [
        ("properties.a", Some(ValueType::Numeric)),
        ("user_properties.b", Some(ValueType::Boolean)),
        ("user_properties.c", None),
        ("user_properties.d", Some(ValueType::String)),
    ];
    assert_eq!(
        properties,
        expected.map(|(name, of)| (name.to_owned(), of)).into()
    );
    assert_eq!(
        event_properties,
        properties.keys().map(|name| format!("e/{name}")).collect()
    );
}

#[test]
fn only_in_properties_some_keys_are_no_properties() {
    let all =
        json!({"$set": 1, "$set_once": "x", "$unset": ["y"], "$groups": {}, "$group_0": 1, "$group_1": 1,
                     "$group_2": 1, "$group_3": 1, "$group_4": 1, "$group_5": 1, "$os": "x"})
        .to_string();
    assert_eq!(
        names(&[("e", &all, "{}")]),
        ["properties.$group_5", "properties.$os"]
    );
    // `$set`, `$set_once` and `$unset` are instructions there too; groups are properties like any other.
    assert_eq!(names(&[("e", "{}", &all)]).len(), 8);
}

#[test]
fn set_and_set_once_count_only_as_objects_and_one_level_deep() {
    let wrong = r#"{"$set":[{"a":1}],"$set_once":"{}","$unset":{"b":1}}"#;
    let nested = r#"{"$set":{"a":{"b":1},"$set":{"c":1}},"$set_once":{"d":1},"$unset":["e"]}"#;
    for (properties, user_properties) in [(wrong, ""), ("", wrong), (nested, ""), ("", nested)] {
        let expected: &[&str] = if [properties, user_properties].contains(&nested) {
            &["user_properties.$set", "user_properties.a", "user_properties.d"]
        } else {
            &[]
        };
        assert_eq!(names(&[("e", properties, user_properties)]), expected);
    }
}

#[test]
fn what_is_no_object_has_no_properties_and_its_event_counts_all_the_same() {
    for text in ["[1]", "null", r#"{"a":1"#, r#"{"a":1}x"#, "garbage"] {
        let (events, properties, _) = news(&Catalogue::default(), &[("e", text, text)]);
        assert_eq!((events.len(), properties.len()), (1, 0), "{text}");
    }
}

#[test]
fn two_hundred_characters_are_the_longest_name() {
    for (length, counts) in [(200, 1), (201, 0)] {
        let name = "é".repeat(length);
        let (events, properties, _) = news(&Catalogue::default(), &[(&name, r#"{"a":1}"#, "")]);
        assert_eq!(
            (events.len(), properties.len()),
            (counts, counts),
            "event name of {length}"
        );
        let (events, properties, _) =
            news(&Catalogue::default(), &[("e", &format!(r#"{{"{name}":1}}"#), "")]);
        assert_eq!((events.len(), properties.len()), (1, counts), "key of {length}");
    }
}

#[test]
fn ten_thousand_keys_of_both_objects_together_are_the_most() {
    let object = |count: usize| {
        let members: serde_json::Map<_, _> = (0..count).map(|n| (format!("k{n}"), json!(n))).collect();
        serde_json::Value::Object(members).to_string()
    };
    let most = batch(&[("e", &object(9_999), &object(1))]);
    assert_eq!(most.warnings.len(), 0);
    let catalogue = Catalogue::default();
    catalogue.observe_at(&most, NOW);
    assert_eq!(names_in(catalogue.take()).1.len(), 10_000);

    let too_many = batch(&[("e", &object(9_999), &object(2))]);
    assert_eq!(too_many.warnings[0].kind.as_str(), "too_many_properties");
    let catalogue = Catalogue::default();
    catalogue.observe_at(&too_many, NOW);
    assert_eq!(
        names_in(catalogue.take()),
        News::default(),
        "its own name neither"
    );
}

#[test]
fn names_that_differ_in_nul_alone_are_one_name() {
    let long = format!("{}\0", "n".repeat(200));
    let catalogue = Catalogue::default();
    let events = [
        ("e", r#"{"a":1}"#, ""),
        ("e\0", r#"{"a\u0000":2}"#, ""),
        (&long, "", ""),
    ];
    catalogue.observe_at(&batch(&events), NOW);
    let new = catalogue.take();
    assert_eq!(
        (new.events.len(), new.properties.len(), new.event_properties.len()),
        (2, 1, 1)
    );
    assert_eq!(names_in(new).0, BTreeSet::from(["e".to_owned(), "n".repeat(200)]));
}

#[test]
fn the_first_entry_decides_the_type_unless_it_has_none() {
    let type_of = |values: &[&str]| {
        let texts: Vec<String> = values.iter().map(|value| format!(r#"{{"a":{value}}}"#)).collect();
        let events: Vec<_> = texts.iter().map(|text| ("e", text.as_str(), "")).collect();
        news(&Catalogue::default(), &events).1["properties.a"]
    };
    assert_eq!(type_of(&["1", "\"x\"", "true"]), Some(ValueType::Numeric));
    assert_eq!(type_of(&["null", "[]", "true", "1"]), Some(ValueType::Boolean));
    assert_eq!(type_of(&["null"]), None);
}

#[test]
fn nul_is_taken_out_of_names_and_escapes_are_read() {
    let (events, properties, _) = news(
        &Catalogue::default(),
        &[("e\0f", r#"{"a\u0000b":1,"\u0063\n":1,"\ud800":1}"#, "")],
    );
    assert_eq!(events, BTreeSet::from(["ef".to_owned()]));
    assert_eq!(
        properties.into_keys().collect::<Vec<_>>(),
        ["properties.ab", "properties.c\n", "properties.\u{fffd}"]
    );
}

#[test]
fn projects_are_independent() {
    let other = "22222222-2222-2222-2222-222222222222";
    let entries = [PROJECT, other].map(|project| {
        (
            StreamId::new(1, 0),
            [
                ("project_id", project),
                ("distinct_id", "d"),
                ("event_name", "e"),
                ("properties", "{\"a\":1}"),
            ],
        )
    });
    let mut batch = Batch::default();
    decode::append(
        &mut batch,
        EntryBlock::of("s", &FIELDS, entries),
        0,
        "s",
        false,
        &[],
    );
    let catalogue = Catalogue::default();
    catalogue.observe_at(&batch, NOW);
    let new = catalogue.take();
    assert_eq!(
        (new.events.len(), new.properties.len(), new.event_properties.len()),
        (2, 2, 2)
    );
}
