use stream_reply::StreamId;

use super::*;
use crate::config::PropertyOrder;

fn entry(n: u64) -> StreamId {
    StreamId::new(n, 0)
}

fn version(n: u64) -> Version {
    Version::new(n as i64, entry(n), PropertyOrder::EventTime)
}

fn writes(json: &str) -> PropertyWrites {
    PropertyWrites::parse(json)
}

fn after(history: &[(u64, &str)]) -> Properties {
    let mut properties = Properties::default();
    for (at, json) in history {
        properties.apply(&writes(json), version(*at), &[], Limits::NONE);
    }
    properties
}

fn value_after(history: &[(u64, &str)]) -> String {
    after(history).to_values()
}

#[test]
fn late_writes_never_overwrite_newer_ones() {
    assert_eq!(
        value_after(&[(2, r#"{"plan":"pro"}"#), (1, r#"{"plan":"free"}"#)]),
        r#"{"plan":"pro"}"#
    );
    assert_eq!(
        value_after(&[(2, r#"{"a":1}"#), (1, r#"{"$unset":["a"]}"#)]),
        r#"{"a":1}"#
    );
    assert_eq!(
        value_after(&[(2, r#"{"$unset":["a"]}"#), (1, r#"{"a":1}"#)]),
        "{}"
    );
}

#[test]
fn by_event_time_a_late_event_is_older_and_by_arrival_it_is_newer() {
    let outcome = |order| {
        let mut properties = Properties::default();
        let late = Version::new(5, entry(30), order);
        properties.apply(
            &writes(r#"{"a":"newer"}"#),
            Version::new(20, entry(20), order),
            &[],
            Limits::NONE,
        );
        properties.apply(&writes(r#"{"a":"late"}"#), late, &[], Limits::NONE);
        properties.to_values()
    };
    assert_eq!(outcome(PropertyOrder::EventTime), r#"{"a":"newer"}"#);
    assert_eq!(outcome(PropertyOrder::Arrival), r#"{"a":"late"}"#);
}

#[test]
fn a_clock_that_runs_ahead_pins_no_value_into_the_future() {
    let mut properties = Properties::default();
    let order = PropertyOrder::EventTime;
    properties.apply(
        &writes(r#"{"a":1}"#),
        Version::new(9_999, entry(10), order),
        &[],
        Limits::NONE,
    );
    properties.apply(
        &writes(r#"{"a":2}"#),
        Version::new(11, entry(11), order),
        &[],
        Limits::NONE,
    );
    assert_eq!(properties.to_values(), r#"{"a":2}"#);
}

#[test]
fn set_once_yields_to_any_set_and_the_first_one_stays() {
    assert_eq!(
        value_after(&[(1, r#"{"$set_once":{"a":1}}"#), (2, r#"{"$set_once":{"a":2}}"#)]),
        r#"{"a":1}"#
    );
    assert_eq!(
        value_after(&[(1, r#"{"a":1}"#), (2, r#"{"$set_once":{"a":2}}"#)]),
        r#"{"a":1}"#
    );
    assert_eq!(
        value_after(&[(1, r#"{"$set_once":{"a":1}}"#), (2, r#"{"a":2}"#)]),
        r#"{"a":2}"#
    );
}

#[test]
fn set_once_after_an_unset_applies_also_when_the_unset_comes_late() {
    let history = [
        (1, r#"{"$set_once":{"a":1}}"#),
        (2, r#"{"$unset":["a"]}"#),
        (3, r#"{"$set_once":{"a":3}}"#),
    ];
    assert_eq!(value_after(&history), r#"{"a":3}"#);
    assert_eq!(value_after(&[history[0], history[2], history[1]]), r#"{"a":3}"#);
}

#[test]
fn values_from_before_versions_yield_to_any_write_but_a_set_once() {
    let mut properties = Properties::load(r#"{"a":1,"b":12345678901234567890.5}"#, None).unwrap();
    properties.apply(&writes(r#"{"$set_once":{"a":2}}"#), version(1), &[], Limits::NONE);
    assert_eq!(properties.to_values(), r#"{"a":1,"b":12345678901234567890.5}"#);
    properties.apply(&writes(r#"{"a":3}"#), version(1), &[], Limits::NONE);
    assert_eq!(properties.to_values(), r#"{"a":3,"b":12345678901234567890.5}"#);
}

#[test]
fn what_somebody_else_edits_stands_until_a_newer_write_with_or_without_merges() {
    let plain = after(&[(5, r#"{"a":1,"b":1}"#)]);
    let mut with_merge = plain.clone();
    with_merge.absorb(after(&[(6, r#"{"c":1}"#)]), version(7), &[], Limits::NONE);
    for properties in [plain, with_merge] {
        let edited = r#"{"a":"edited","b":1,"new":true}"#;
        let mut loaded = Properties::load(edited, Some(&properties.to_versions())).unwrap();
        loaded.apply(&writes(r#"{"a":"older"}"#), version(4), &[], Limits::NONE);
        assert!(
            loaded.to_values().contains(r#""a":"edited""#),
            "{}",
            loaded.to_values()
        );
        loaded.apply(
            &writes(r#"{"a":"newer","new":false}"#),
            version(9),
            &[],
            Limits::NONE,
        );
        let values = loaded.to_values();
        assert!(
            values.contains(r#""a":"newer""#) && values.contains(r#""new":false"#),
            "{values}"
        );
    }
}

#[test]
fn the_survivors_value_wins_and_the_rest_is_taken_over() {
    let mut survivor = after(&[(1, r#"{"plan":"pro"}"#)]);
    survivor.absorb(
        after(&[(2, r#"{"plan":"free","ref":"ad"}"#)]),
        version(3),
        &[],
        Limits::NONE,
    );
    assert_eq!(survivor.to_values(), r#"{"plan":"pro","ref":"ad"}"#);
}

#[test]
fn after_a_merge_later_writes_of_either_are_the_survivors() {
    let mut survivor = after(&[(1, r#"{"plan":"pro"}"#)]);
    survivor.absorb(
        after(&[(2, r#"{"plan":"free","ref":"ad"}"#)]),
        version(3),
        &[],
        Limits::NONE,
    );
    survivor.apply(
        &writes(r#"{"plan":"team","$set_once":{"ref":"mail"}}"#),
        version(4),
        &[version(3)],
        Limits::NONE,
    );
    assert_eq!(survivor.to_values(), r#"{"plan":"team","ref":"ad"}"#);
    survivor.apply(&writes(r#"{"$unset":["ref"]}"#), version(5), &[], Limits::NONE);
    assert_eq!(survivor.to_values(), r#"{"plan":"team"}"#);
}
