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
        let event = line.text("event_name");
        let keys = |field| line.object(field).map_or(0, serde_json::Map::len);
        if event.chars().count() > LONGEST_NAME || keys("properties") + keys("user_properties") > MOST_KEYS {
            return;
        }
        self.events.insert(event.to_owned());
        for (prefix, key, value) in named_values(line) {
            let detected = ValueType::detect(key, value);
            let name = format!("{prefix}.{key}");
            let known = self.properties.entry(name.clone()).or_default();
            *known = known.or(detected);
            self.event_properties
                .entry(event.to_owned())
                .or_default()
                .insert(name);
        }
    }
}

/// The prefix, the key and the value of everything that counts as a property of this event.
fn named_values(line: &Line) -> Vec<(&'static str, &String, &Value)> {
    let properties = line.object("properties");
    let inner = |key| {
        properties
            .and_then(|object| object.get(key))
            .and_then(Value::as_object)
    };
    let of_event = properties
        .into_iter()
        .flatten()
        .filter(|(key, _)| !SKIPPED.contains(&key.as_str()));
    let of_person = [line.object("user_properties"), inner("$set"), inner("$set_once")];
    let of_person = of_person.into_iter().flatten().flatten();
    let of_event = of_event.map(|(key, value)| ("properties", key, value));
    let of_person = of_person.map(|(key, value)| ("user_properties", key, value));
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
            .with("user_properties", json!({"c": "x", "$set": {"d": 1}}));
        let catalogue = recorded(&[line]);
        assert_eq!(
            catalogue.properties.into_iter().collect::<Vec<_>>(),
            [
                ("properties.a".to_owned(), Some(ValueType::Numeric)),
                ("properties.o".to_owned(), None),
                ("user_properties.$set".to_owned(), None),
                ("user_properties.b".to_owned(), Some(ValueType::Boolean)),
                ("user_properties.c".to_owned(), Some(ValueType::String)),
            ]
        );
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
