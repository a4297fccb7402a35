//! The text of the queries: readable, and the same from one version to the next.

use cohort_query::{Definition, Reference, compile};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::engine::{NOW, text_of};

fn shown(json: Value) -> String {
    let definition = Definition::parse(&json).unwrap();
    let query = compile(&definition, Uuid::from_u128(1), NOW, &|id| match id.as_u128() {
        2 => Reference::Static,
        3 => Reference::Dynamic { version: 7 },
        _ => Reference::Missing,
    });
    let parameters: Vec<String> = query
        .parameters
        .iter()
        .map(|parameter| format!("{} = {}", parameter.name, text_of(&parameter.value)))
        .collect();
    format!("{}\n\n{}", query.sql, parameters.join("\n"))
}

fn all(conditions: Value) -> Value {
    json!({"type": "AND", "values": conditions})
}

#[test]
fn a_property_and_an_event() {
    let plan = json!({"type": "person_property", "property": "plan", "operator": "eq", "value": "pro"});
    let bought = json!({"type": "event", "event_name": "buy", "count_operator": "gte", "count": 2,
        "time_window_days": 30, "event_filters": [{"property": "properties.total", "operator": "gt", "value": "10"}]});
    insta::assert_snapshot!(shown(all(json!([plan, bought]))));
}

#[test]
fn conditions_on_the_same_event_share_a_pass() {
    let bought = |days: u32, count: u32| {
        json!({"type": "event", "event_name": "buy", "count_operator": "gte",
        "count": count, "time_window_days": days})
    };
    let stopped = json!({"type": "stopped_performing", "event_name": "buy", "recent_window_days": 7,
        "historical_window_days": 30});
    insta::assert_snapshot!(shown(
        json!({"type": "OR", "values": [bought(30, 5), bought(90, 10), stopped]})
    ));
}

#[test]
fn a_sequence_and_its_absence() {
    let steps = json!([{"event_name": "open"}, {"event_name": "buy", "event_filters": [
        {"property": "country", "operator": "in", "values": ["CH", "LI"]}]}]);
    let done = json!({"type": "event_sequence", "steps": steps, "time_window_days": 7});
    let not = json!({"type": "not_performed_event_sequence", "steps": steps, "time_window_days": 1});
    insta::assert_snapshot!(shown(all(json!([done, not]))));
}

#[test]
fn an_aggregate_of_a_dotted_property() {
    let median = json!({"type": "event", "event_name": "buy", "count_operator": "lte", "count": 9.5,
        "time_window_days": 30, "aggregation_type": "median", "aggregation_property": "order.total"});
    insta::assert_snapshot!(shown(all(json!([median]))));
}

#[test]
fn cohorts_of_every_kind() {
    let cohort = |n: u128, negated: bool| json!({"type": "cohort", "cohort_id": Uuid::from_u128(n), "negated": negated});
    let nested = json!({"type": "OR", "values": [cohort(2, false), cohort(3, false), cohort(4, false)]});
    insta::assert_snapshot!(shown(all(json!([nested, cohort(3, true), cohort(4, true)]))));
}
