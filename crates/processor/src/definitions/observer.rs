//! Looks through a batch for names that have to be written: those not yet written in this hour, as far as the process
//! remembers.

use std::borrow::Cow;
use std::sync::Arc;

use uuid::Uuid;

use crate::event::decode::MOST_PROPERTIES;
use crate::event::{Batch, Event, Field, json};

use super::fingerprint::{Fingerprint, Kind, within};
use super::seen::{Known, Seen};
use super::sightings::{EventName, EventProperty, Property, PropertyType, Sightings};
use super::value_type::ValueType;

/// Longest name that is recorded, in Unicode scalar values.
const LONGEST_NAME: usize = 200;
/// Keys of `properties` and `user_properties` whose members are properties of the person, when their value is an object.
const OBJECTS_OF_PROPERTIES: [&str; 2] = ["$set", "$set_once"];
/// Keys of `properties` that are not recorded as properties.
const SKIPPED: [&str; 9] = [
    "$set",
    "$set_once",
    "$unset",
    "$groups",
    "$group_0",
    "$group_1",
    "$group_2",
    "$group_3",
    "$group_4",
];

/// One pass over a batch; collects the names to be written.
pub(super) struct Observer<'a> {
    seen: &'a Seen,
    now_s: i64,
    hour: u32,
    pub(super) new: Sightings,
}

/// The event whose properties are looked at.
struct Scope<'a> {
    project: Uuid,
    name: Cow<'a, str>,
    project_fingerprint: Fingerprint,
    event_fingerprint: Fingerprint,
}

impl<'a> Observer<'a> {
    /// A pass at `now_s` seconds since the epoch, which lies in `hour`.
    pub(super) fn new(seen: &'a Seen, now_s: i64, hour: u32) -> Self {
        Self {
            seen,
            now_s,
            hour,
            new: Sightings::default(),
        }
    }

    /// Looks at one event. `project` is the fingerprint of its project.
    pub(super) fn event(&mut self, batch: &Batch, event: &Event, project: Fingerprint) {
        // Compared as recorded: names that differ only in NUL are one row, and a statement must not hold a row twice.
        let name = without_nul(batch.text(event, Field::EventName));
        if is_too_long(&name) || event.member_count() > MOST_PROPERTIES {
            return;
        }
        let scope = Scope {
            project: event.project,
            event_fingerprint: within(project, Kind::Event, &name),
            name,
            project_fingerprint: project,
        };
        if self.seen.events.get(scope.event_fingerprint, self.hour).is_none() {
            self.new.event(scope.event_fingerprint, || EventName {
                project: scope.project,
                name: scope.name.as_ref().into(),
            });
        }
        for (literal, value) in batch.properties(event) {
            let key = json::text(literal);
            if !key.starts_with('$') || !SKIPPED.contains(&key.as_ref()) {
                self.property(&scope, PropertyType::Event, &key, value);
            } else if OBJECTS_OF_PROPERTIES.contains(&key.as_ref()) {
                self.members(&scope, value);
            }
        }
        for (literal, value) in batch.user_properties(event) {
            let key = json::text(literal);
            if !key.starts_with('$') {
                self.property(&scope, PropertyType::Person, &key, value);
            } else if OBJECTS_OF_PROPERTIES.contains(&key.as_ref()) {
                self.members(&scope, value);
            } else if key != "$unset" {
                self.property(&scope, PropertyType::Person, &key, value);
            }
        }
    }

    /// Records the members of a `$set` or `$set_once` as properties of the person. A value that is no object is ignored.
    fn members(&mut self, scope: &Scope<'_>, value: &str) {
        let mut inner = Vec::new();
        if json::members(value, |literal, value| inner.push((literal, value))) {
            for (literal, value) in inner {
                self.property(scope, PropertyType::Person, &json::text(literal), value);
            }
        }
    }

    fn property(&mut self, scope: &Scope<'_>, of: PropertyType, key: &str, value: &str) {
        let kind = match of {
            PropertyType::Event => Kind::EventProperty,
            PropertyType::Person => Kind::PersonProperty,
        };
        let of_event = within(scope.event_fingerprint, kind, key);
        let known = self.seen.event_properties.get(of_event, self.hour);
        if known == Some(Known::Done) || is_too_long(key) {
            return;
        }
        let own = within(scope.project_fingerprint, kind, key);
        let own_known = self.seen.properties.get(own, self.hour);
        let name = || -> Arc<str> { [of.prefix(), key].concat().into() };
        if own_known != Some(Known::Done) {
            let value_type = ValueType::detect(key, value, self.now_s);
            if own_known.is_none() || value_type.is_some() {
                self.new.property(own, value_type, || Property {
                    project: scope.project,
                    name: name(),
                    of,
                    value_type,
                });
            }
        }
        match known {
            None => self.new.event_property(of_event, || EventProperty {
                project: scope.project,
                event: scope.name.as_ref().into(),
                name: name(),
                of,
                property: own,
            }),
            // Meanwhile another event gave its property a type.
            Some(_) if own_known == Some(Known::Done) => {
                self.seen.event_properties.mark(of_event, self.hour, Known::Done);
            }
            Some(_) => {}
        }
    }
}

fn is_too_long(name: &str) -> bool {
    name.len() > LONGEST_NAME && name.chars().nth(LONGEST_NAME).is_some()
}

fn without_nul(name: &str) -> Cow<'_, str> {
    if name.contains('\0') {
        Cow::Owned(name.replace('\0', ""))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::json;
    use stream_reply::{EntryBlock, StreamId};

    use crate::event::decode;
    use crate::event::field::FIELDS;

    use super::super::Catalogue;
    use super::*;

    const PROJECT: &str = "11111111-1111-1111-1111-111111111111";
    const NOW: i64 = 1_795_000_000;

    pub(in super::super) fn batch(events: &[(&str, &str, &str)]) -> Batch {
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

    pub(in super::super) fn news(catalogue: &Catalogue, events: &[(&str, &str, &str)]) -> News {
        catalogue.observe_at(&batch(events), NOW);
        names_in(catalogue.take())
    }

    pub(in super::super) fn names_in(new: Sightings) -> News {
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
}
