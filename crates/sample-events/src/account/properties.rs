//! The properties of a person: all its writes, sorted by event time, applied one after the other.
//!
//! Second deliveries must be left out and no two events may share a time; both hold for generated lines.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::line::Line;

/// Properties that are never stored (contract: exact names).
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

const INSTRUCTIONS: [&str; 3] = ["$set", "$set_once", "$unset"];

/// What is left after the given events, in whatever order they come.
pub(crate) fn after(events: &[&Line]) -> BTreeMap<String, Value> {
    let mut in_order = events.to_vec();
    // Stable: events of one time stay in stream order.
    in_order.sort_by_key(|event| event.text("timestamp"));
    let mut properties = BTreeMap::new();
    for writes in in_order
        .into_iter()
        .filter_map(|event| event.object("user_properties"))
    {
        apply(&mut properties, writes);
    }
    properties
}

fn apply(properties: &mut BTreeMap<String, Value>, writes: &Map<String, Value>) {
    for (key, value) in sets(writes).chain(roots(writes)) {
        properties.insert(key.clone(), value.clone());
    }
    for (key, value) in once(writes) {
        properties.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for key in unsets(writes) {
        properties.remove(key);
    }
}

/// Every key that a line writes or removes.
pub(crate) fn keys(line: &Line) -> BTreeSet<String> {
    let Some(writes) = line.object("user_properties") else {
        return BTreeSet::new();
    };
    let written = sets(writes)
        .chain(roots(writes))
        .chain(once(writes))
        .map(|(key, _)| key.as_str());
    written.chain(unsets(writes)).map(str::to_owned).collect()
}

fn sets(writes: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    quiet(writes.get("$set").and_then(Value::as_object))
}

fn once(writes: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    quiet(writes.get("$set_once").and_then(Value::as_object))
}

fn roots(writes: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    quiet(Some(writes)).filter(|(key, _)| !INSTRUCTIONS.contains(&key.as_str()))
}

fn unsets(writes: &Map<String, Value>) -> impl Iterator<Item = &str> {
    writes
        .get("$unset")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn quiet(object: Option<&Map<String, Value>>) -> impl Iterator<Item = (&String, &Value)> {
    object
        .into_iter()
        .flatten()
        .filter(|(key, _)| !NOISY.contains(&key.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn left_after(history: &[(u32, Value)]) -> Value {
        let lines: Vec<Line> = history
            .iter()
            .map(|(at, writes)| {
                let at = format!("2026-06-01T00:00:{at:02}.000Z");
                Line::new()
                    .with("timestamp", at)
                    .with("user_properties", writes.clone())
            })
            .collect();
        json!(after(&lines.iter().collect::<Vec<_>>()))
    }

    #[test]
    fn the_newest_write_wins_whatever_the_order_of_delivery() {
        assert_eq!(
            left_after(&[
                (2, json!({"plan": "pro"})),
                (1, json!({"plan": "free", "tmp": 1}))
            ]),
            json!({
                "plan": "pro", "tmp": 1,
            })
        );
        assert_eq!(
            left_after(&[(2, json!({"$unset": ["tmp"]})), (1, json!({"tmp": 1}))]),
            json!({})
        );
    }

    #[test]
    fn keys_at_the_root_win_over_the_same_key_inside_set() {
        assert_eq!(
            left_after(&[(1, json!({"a": 1, "$set": {"a": 2, "b": null}}))]),
            json!({"a": 1, "b": null})
        );
    }

    #[test]
    fn set_once_needs_an_empty_place() {
        let history = [
            (1, json!({"$set_once": {"a": 1, "b": 1}})),
            (2, json!({"$set_once": {"a": 2}, "b": 2})),
            (3, json!({"$unset": ["a"]})),
            (4, json!({"$set_once": {"a": 4, "b": 4}})),
        ];
        assert_eq!(left_after(&history), json!({"a": 4, "b": 2}));
    }

    #[test]
    fn removal_comes_after_the_sets_of_the_same_event() {
        assert_eq!(
            left_after(&[(1, json!({"a": 1, "$set_once": {"b": 1}, "$unset": ["a", "b", 7]}))]),
            json!({})
        );
    }

    #[test]
    fn noise_and_wrong_types_are_ignored() {
        let noisy = json!({"$browser": 1, "$set": {"$os": 1}, "$set_once": {"$ip": 1}, "$Browser": 1});
        assert_eq!(left_after(&[(1, noisy)]), json!({"$Browser": 1}));
        assert_eq!(
            left_after(&[(1, json!({"$set": "ab", "$set_once": [1], "$unset": "k", "k": 1}))]),
            json!({"k": 1})
        );
        assert_eq!(left_after(&[(1, json!([1, 2]))]), json!({}));
    }
}
