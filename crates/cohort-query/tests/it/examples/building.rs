//! How the events and conditions of examples are written down.

use serde_json::{Value, json};
use uuid::Uuid;

use super::DAY;
use crate::engine::{Event, NOW, person};

/// An event of a person so many days ago.
pub(super) fn event(who: &str, name: &str, days_ago: f64) -> Event {
    Event {
        id: Uuid::now_v7(),
        distinct_id: who.to_owned(),
        person: person(who),
        name: name.to_owned(),
        time: NOW - (days_ago * DAY as f64) as i64,
        properties: "{}".into(),
        user_properties: "{}".into(),
        country: String::new(),
    }
}

/// `x` one day ago with user properties.
pub(super) fn user(who: &str, properties: Value) -> Event {
    Event {
        user_properties: properties.to_string(),
        ..event(who, "x", 1.0)
    }
}

pub(super) fn with(event: Event, properties: Value) -> Event {
    Event {
        properties: properties.to_string(),
        ..event
    }
}

pub(super) fn all(condition: Value) -> Value {
    json!({"type": "AND", "values": [condition]})
}

pub(super) fn property(name: &str, operator: &str, value: &str) -> Value {
    json!({"type": "person_property", "property": name, "operator": operator, "value": value})
}

pub(super) fn property_of(name: &str, operator: &str, values: Value) -> Value {
    json!({"type": "person_property", "property": name, "operator": operator, "values": values})
}

pub(super) fn count(name: &str, operator: &str, count: f64, days: u32) -> Value {
    json!({"type": "event", "event_name": name, "count_operator": operator, "count": count, "time_window_days": days})
}

pub(super) fn aggregate(function: &str, operator: &str, value: f64) -> Value {
    let mut condition = count("buy", operator, value, 30);
    condition["aggregation_type"] = json!(function);
    condition["aggregation_property"] = json!("amount");
    condition
}

pub(super) fn sequence(kind: &str, names: [&str; 2], days: u32) -> Value {
    let steps = names.map(|name| json!({"event_name": name}));
    json!({"type": kind, "steps": steps, "time_window_days": days})
}

pub(super) fn cohort(id: Uuid, negated: bool) -> Value {
    json!({"type": "cohort", "cohort_id": id, "negated": negated})
}

pub(super) fn any_time(name: &str, days: u32) -> Value {
    json!({"event_name": name, "time_window_days": days})
}

pub(super) fn typed(kind: &str, mut condition: Value) -> Value {
    condition["type"] = json!(kind);
    condition
}

/// `x` one day ago.
pub(super) fn plain(who: &str) -> Event {
    event(who, "x", 1.0)
}
