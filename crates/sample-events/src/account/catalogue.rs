//! Which definitions a stream leaves behind.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::value_type::ValueType;
use crate::line::Line;

/// Longest name that is recorded, in characters.
const LONGEST_NAME: usize = 200;
/// Most keys an event may have.
const MOST_KEYS: usize = 10_000;
/// Keys of `properties` that are no properties.
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

/// Keys of `user_properties` that say what to do with others.
const INSTRUCTIONS: [&str; 3] = ["$set", "$set_once", "$unset"];

/// The definitions of one project.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) events: BTreeSet<String>,
    pub(crate) properties: BTreeMap<String, Option<ValueType>>,
    pub(crate) event_properties: BTreeMap<String, BTreeSet<String>>,
}

impl Catalogue {
    /// Records a line. The first type that is not null stays.
    pub(crate) fn record(&mut self, line: &Line) {
        let event = without_nul(line.text("event_name"));
        let keys = |field| line.object(field).map_or(0, serde_json::Map::len);
        if event.chars().count() > LONGEST_NAME || keys("properties") + keys("user_properties") > MOST_KEYS {
            return;
        }
        self.events.insert(event.clone());
        for (prefix, key, value) in named_values(line) {
            let detected = ValueType::detect(&key, value);
            let name = format!("{prefix}.{key}");
            let known = self.properties.entry(name.clone()).or_default();
            *known = known.or(detected);
            self.event_properties
                .entry(event.clone())
                .or_default()
                .insert(name);
        }
    }
}

/// What PostgreSQL can hold of a name.
fn without_nul(name: &str) -> String {
    name.replace('\0', "")
}

/// The prefix, the key and the value of everything that counts as a property of this event.
fn named_values(line: &Line) -> Vec<(&'static str, String, &Value)> {
    let (properties, user_properties) = (line.object("properties"), line.object("user_properties"));
    let of_event = properties
        .into_iter()
        .flatten()
        .filter(|(key, _)| !SKIPPED.contains(&key.as_str()));
    let roots = user_properties
        .into_iter()
        .flatten()
        .filter(|(key, _)| !INSTRUCTIONS.contains(&key.as_str()));
    let inner = [properties, user_properties]
        .into_iter()
        .flatten()
        .flat_map(|object| ["$set", "$set_once"].map(|key| object.get(key)?.as_object()));
    let of_person = roots.chain(inner.flatten().flatten());
    let of_event = of_event.map(|(key, value)| ("properties", without_nul(key), value));
    let of_person = of_person.map(|(key, value)| ("user_properties", without_nul(key), value));
    of_event
        .chain(of_person)
        .filter(|(_, key, _)| key.chars().count() <= LONGEST_NAME)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recorded(lines: &[Line]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for line in lines {
            catalogue.record(line);
        }
        catalogue
    }

    #[test]
    fn properties_are_named_by_where_they_stand() {
        let line = Line::new()
            .with("event_name", "e")
            .with(
                "properties",
                json!({"a": 1, "$set": {"b": true}, "$set_once": "x", "$groups": {}, "o": {"i": 1}}),
            )
            .with(
                "user_properties",
                json!({"c": "x", "$set": {"d": 1}, "$set_once": [1], "$unset": ["e"], "$group_0": 1}),
            );
        let catalogue = recorded(&[line]);
        assert_eq!(
            catalogue.properties.into_iter().collect::<Vec<_>>(),
            [
                ("properties.a".to_owned(), Some(ValueType::Numeric)),
                ("properties.o".to_owned(), None),
                ("user_properties.$group_0".to_owned(), Some(ValueType::Numeric)),
                ("user_properties.b".to_owned(), Some(ValueType::Boolean)),
                ("user_properties.c".to_owned(), Some(ValueType::String)),
                ("user_properties.d".to_owned(), Some(ValueType::Numeric)),
            ]
        );
    }

    #[test]
    fn names_are_recorded_without_nul() {
        let line = |event: &str, key: &str| {
            Line::new()
                .with("event_name", event)
                .with("properties", json!({ key: 1 }))
        };
        let catalogue = recorded(&[line("e", "a"), line("e\0", "\0a")]);
        assert_eq!(catalogue.events, BTreeSet::from(["e".to_owned()]));
        assert_eq!(
            catalogue.properties.into_keys().collect::<Vec<_>>(),
            ["properties.a"]
        );
        assert_eq!(catalogue.event_properties["e"].len(), 1);
    }

    #[test]
    fn a_type_fills_a_null_and_then_stays() {
        let line = |value| {
            Line::new()
                .with("event_name", "e")
                .with("properties", json!({"a": value}))
        };
        let catalogue = recorded(&[line(Value::Null), line(json!(1)), line(json!("x"))]);
        assert_eq!(catalogue.properties["properties.a"], Some(ValueType::Numeric));
    }

    #[test]
    fn names_and_numbers_of_keys_have_limits() {
        let named = |length| Line::new().with("event_name", "é".repeat(length));
        assert_eq!(recorded(&[named(200), named(201)]).events.len(), 1);
        let keys = |count: usize| -> Value { (0..count).map(|n| (format!("k{n}"), json!(n))).collect() };
        let line = |count| {
            Line::new()
                .with("event_name", "e")
                .with("properties", keys(count))
        };
        assert_eq!(recorded(&[line(10_000)]).properties.len(), 10_000);
        assert!(recorded(&[line(10_001)]).events.is_empty());
        let long = Line::new()
            .with("event_name", "e")
            .with("properties", json!({"k".repeat(201): 1, "k".repeat(200): 1}));
        assert_eq!(recorded(&[long]).properties.len(), 1);
    }
}
