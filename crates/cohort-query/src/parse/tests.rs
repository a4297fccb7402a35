use serde_json::json;
use uuid::Uuid;

use super::*;

fn error(json: impl std::borrow::Borrow<Value>) -> String {
    Definition::parse(json.borrow()).unwrap_err().to_string()
}

fn of(condition: impl Into<Value>) -> Value {
    json!({"type": "AND", "values": [condition.into()]})
}

#[test]
fn an_error_names_its_place() {
    let filter = json!({"property": "a", "operator": "like", "value": "b"});
    let event = json!({"type": "not_performed_event", "event_name": "x", "time_window_days": 3, "event_filters": [filter]});
    let nested = json!({"type": "OR", "values": [{"type": "AND", "values": []}, event]});
    let told = error(of(nested));
    let place =
        r#"values[0].values[1].event_filters[0].operator: unknown operator "like", expected one of eq, "#;
    assert!(told.starts_with(place), "{told}");
    assert_eq!(error(json!([])), "is not an object");
    assert_eq!(error(json!({"values": []})), "type: is missing");
    assert_eq!(error(json!({"type": "AND"})), "values: is missing");
    assert_eq!(
        error(json!({"type": "AND", "values": [7]})),
        "values[0]: is not an object"
    );
    assert_eq!(
        error(json!({"type": "XOR", "values": []})),
        r#"type: unknown group type "XOR", expected one of AND, OR"#
    );
    let told = error(of(json!({"type": "dance"})));
    let place =
        r#"values[0].type: unknown condition type "dance", expected one of AND, OR, person_property, "#;
    assert!(told.starts_with(place), "{told}");
}

#[test]
fn every_required_field_is_missed_by_its_name() {
    let conditions = [
        json!({"type": "person_property", "property": "a", "operator": "eq", "value": "b"}),
        json!({"type": "person_property", "property": "a", "operator": "in", "values": ["b"]}),
        json!({"type": "event", "event_name": "x", "count_operator": "gte", "count": 1, "time_window_days": 3}),
        json!({"type": "cohort", "cohort_id": Uuid::nil(), "negated": false}),
        json!({"type": "first_time_event", "event_name": "x", "time_window_days": 3}),
        json!({"type": "not_performed_event", "event_name": "x", "time_window_days": 3}),
        json!({"type": "event_sequence", "steps": [{"event_name": "x"}], "time_window_days": 3}),
        json!({"type": "not_performed_event_sequence", "steps": [{"event_name": "x"}], "time_window_days": 3}),
        json!({"type": "performed_regularly", "event_name": "x", "period_type": "day", "total_periods": 4,
            "min_periods": 2, "time_window_days": 3}),
        json!({"type": "stopped_performing", "event_name": "x", "recent_window_days": 1, "historical_window_days": 2}),
        json!({"type": "restarted_performing", "event_name": "x", "recent_window_days": 1, "gap_window_days": 1,
            "historical_window_days": 3}),
    ];
    for condition in conditions {
        Definition::parse(&of(condition.clone())).unwrap();
        for field in condition.as_object().unwrap().keys() {
            for absent in [None, Some(Value::Null)] {
                let mut broken = condition.clone();
                match absent {
                    None => drop(broken.as_object_mut().unwrap().remove(field)),
                    Some(null) => broken[field] = null,
                }
                assert_eq!(error(of(broken)), format!("values[0].{field}: is missing"));
            }
            let mut broken = condition.clone();
            broken[field] = json!({});
            assert!(error(of(broken)).starts_with(&format!("values[0].{field}: is n")));
        }
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let property = |operator: &str, value: Value, values: Value| {
        error(of(
            json!({"type": "person_property", "property": "a", "operator": operator, "value": value, "values": values}),
        ))
    };
    assert_eq!(
        property("gt", json!("many"), json!(null)),
        r#"values[0].value: "many" is not a number"#
    );
    assert_eq!(
        property("lte", json!(""), json!(null)),
        r#"values[0].value: "" is not a number"#
    );
    assert_eq!(
        property("gt", json!("1e999"), json!(null)),
        r#"values[0].value: "1e999" is not a number"#
    );
    assert_eq!(
        property("between", json!(null), json!(["1"])),
        "values[0].values: needs two numbers"
    );
    assert_eq!(
        property("not_between", json!(null), json!(["1", "b"])),
        r#"values[0].values[1]: "b" is not a number"#
    );
    assert_eq!(
        property("in", json!(null), json!(["1", []])),
        "values[0].values[1]: is not text"
    );
    assert_eq!(
        error(of(
            json!({"type": "person_property", "property": "properties.", "operator": "is_set"})
        )),
        "values[0].property: names no property"
    );
}

#[test]
fn windows_that_make_no_sense_are_refused() {
    let days = |days: Value| {
        error(of(
            json!({"type": "first_time_event", "event_name": "x", "time_window_days": days}),
        ))
    };
    assert_eq!(
        days(json!(0)),
        "values[0].time_window_days: is not a whole number from 1"
    );
    assert_eq!(
        days(json!(1.5)),
        "values[0].time_window_days: is not a whole number from 1"
    );
    assert_eq!(
        days(json!(40_000)),
        "values[0].time_window_days: is more than 36500 days"
    );
    let stopped = |recent: u32, historical: u32| {
        of(
            json!({"type": "stopped_performing", "event_name": "x", "recent_window_days": recent,
            "historical_window_days": historical}),
        )
    };
    assert_eq!(
        error(stopped(30, 30)),
        "values[0].historical_window_days: must be larger than recent_window_days"
    );
    let restarted = of(
        json!({"type": "restarted_performing", "event_name": "x", "recent_window_days": 1,
        "gap_window_days": 2, "historical_window_days": 3}),
    );
    assert_eq!(
        error(restarted),
        "values[0].historical_window_days: must be larger than recent_window_days and gap_window_days together"
    );
}

#[test]
fn there_are_limits_to_size_and_depth() {
    let leaf = json!({"type": "person_property", "property": "a", "operator": "is_set"});
    let flat = |leaves: usize| json!({"type": "OR", "values": vec![leaf.clone(); leaves]});
    Definition::parse(&flat(50)).unwrap();
    assert_eq!(error(flat(51)), "values[50].type: more than 50 conditions");
    let nested =
        |depth: usize| (1..depth).fold(flat(1), |inner, _| json!({"type": "AND", "values": [inner]}));
    Definition::parse(&nested(4)).unwrap();
    assert_eq!(
        error(nested(5)),
        "values[0].values[0].values[0].values[0].type: groups are nested deeper than 4"
    );
    let steps = json!({"type": "event_sequence", "steps": vec![json!({"event_name": "x"}); 51], "time_window_days": 3});
    assert_eq!(error(of(steps)), "values[0].steps: more than 50 steps");
}

#[test]
fn numbers_and_flags_as_values_mean_their_text_and_unknown_fields_are_ignored() {
    let condition = json!({"type": "person_property", "property": "a", "operator": "in", "values": [1, true, "x"], "x": 1});
    let definition = Definition::parse(&of(condition)).unwrap();
    let Node::Condition(Condition::PersonProperty(condition)) = &definition.root.nodes[0] else {
        panic!("{definition:?}");
    };
    assert_eq!(
        condition.predicate,
        Predicate::In(vec!["1".into(), "true".into(), "x".into()])
    );
    assert_eq!(condition.property, Property::User("a".into()));
}

#[test]
fn references_are_listed_once_in_order() {
    let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let reference = |id: Uuid| json!({"type": "cohort", "cohort_id": id, "negated": true});
    let nested = json!({"type": "OR", "values": [reference(a), reference(b), reference(a)]});
    let definition = Definition::parse(&json!({"type": "AND", "values": [reference(b), nested]})).unwrap();
    assert_eq!(definition.references(), [b, a]);
}
