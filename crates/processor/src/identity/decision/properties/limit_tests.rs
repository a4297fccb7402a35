use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;
use stream_reply::StreamId;

use super::*;
use crate::config::PropertyOrder;

const SMALL: Limits = Limits {
    keys: 20,
    bytes: 4_000,
};

fn version(n: u64) -> Version {
    Version::new(n as i64, StreamId::new(n, 0), PropertyOrder::EventTime)
}

fn writes(json: &str) -> PropertyWrites {
    PropertyWrites::parse_within(json, SMALL)
}

fn written(versions: impl IntoIterator<Item = (u64, String)>) -> Properties {
    let mut properties = Properties::default();
    for (at, json) in versions {
        properties.apply(&writes(&json), version(at), &[], SMALL);
    }
    properties
}

fn keys(properties: &Properties) -> Vec<String> {
    let values = properties.to_values();
    let values: BTreeMap<String, &RawValue> = serde_json::from_str(&values).unwrap();
    values.into_keys().collect()
}

#[test]
fn a_value_that_alone_is_too_large_is_left_out_and_its_neighbours_are_taken() {
    let writes = writes(&format!(
        r#"{{"a":1,"b":"{}","$set":{{"c":1e900,"d":[{}]}}}}"#,
        "x".repeat(5_000),
        ["1e900"; 5].join(",")
    ));
    assert_eq!(writes.too_large(), 2);
    let mut properties = Properties::default();
    assert_eq!(properties.apply(&writes, version(1), &[], SMALL), 0);
    assert_eq!(keys(&properties), ["a", "c"]);
}

#[test]
fn an_event_that_writes_more_keys_than_a_person_may_have_writes_none() {
    let members: Vec<String> = (0..21).map(|n| format!(r#""k{n}":{n}"#)).collect();
    let unset: Vec<String> = (0..21).map(|n| format!(r#""k{n}""#)).collect();
    for json in [
        format!("{{{}}}", members.join(",")),
        format!(r#"{{"$set":{{{}}}}}"#, members.join(",")),
        format!(r#"{{"$set_once":{{{}}},"x":1}}"#, members.join(",")),
        format!(r#"{{"$unset":[{}]}}"#, unset.join(",")),
    ] {
        let writes = writes(&json);
        assert!(writes.is_empty(), "{json}");
        assert!(writes.too_large() >= 20, "{json}");
    }
    assert_eq!(
        writes(&format!("{{{}}}", members[1..].join(","))).iter().count(),
        20
    );
}

#[test]
fn a_person_that_is_full_takes_what_makes_it_no_larger() {
    let mut properties = written((0..20).map(|n| (n + 1, format!(r#"{{"k{n}":"{n}"}}"#))));
    assert_eq!(keys(&properties).len(), 20);
    assert_eq!(
        properties.apply(&writes(r#"{"new":1,"k3":2}"#), version(50), &[], SMALL),
        1
    );
    assert!(properties.to_values().contains(r#""k3":2"#));
    // An unset leaves a tombstone, so that what is older stays away: its key still counts.
    assert_eq!(
        properties.apply(&writes(r#"{"$unset":["k4"]}"#), version(51), &[], SMALL),
        0
    );
    assert_eq!(
        properties.apply(&writes(r#"{"new":1}"#), version(52), &[], SMALL),
        1
    );
    assert_eq!(keys(&properties).len(), 19);
}

#[test]
fn a_person_that_was_larger_already_keeps_what_it_has() {
    let large = format!(r#"{{"a":"{}","b":1}}"#, "x".repeat(9_000));
    let mut properties = Properties::load(&large, None).unwrap();
    assert_eq!(
        properties.apply(&writes(r#"{"b":22,"c":1}"#), version(1), &[], SMALL),
        2
    );
    assert_eq!(properties.to_values(), large);
    assert_eq!(
        properties.apply(&writes(r#"{"$unset":["a"],"c":1}"#), version(2), &[], SMALL),
        0
    );
    assert_eq!(properties.to_values(), r#"{"b":1,"c":1}"#);
}

#[test]
fn of_a_merged_person_the_first_keys_are_taken_over_as_far_as_they_fit() {
    let value = "x".repeat(200);
    let mut survivor = written((0..6).map(|n| (n + 1, format!(r#"{{"s{n}":"{value}"}}"#))));
    let merged = written((0..12).map(|n| (n + 20, format!(r#"{{"m{n:02}":"{value}","s0":1}}"#))));
    let left_out = survivor.absorb(merged, version(50), &[], SMALL);
    let keys = keys(&survivor);
    assert!(left_out > 0);
    assert_eq!(keys.len(), 6 + 12 - left_out);
    assert_eq!(keys[..2], ["m00", "m01"]);
    assert!(keys.contains(&"s5".to_owned()));
    assert!(SMALL.hold(survivor.weight));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Chains, in which each survivor is merged into the next, at whatever times and with writes of all of them.
    #[test]
    fn whatever_is_merged_can_be_stored_and_read_again_and_stays_within_its_bounds(
        steps in proptest::collection::vec((0u64..1_000, 0u64..1_000, 0usize..80, 0usize..40, 0usize..90), 1..80)
    ) {
        let mut current = Properties::default();
        // When each distinct id moved.
        let mut moves: Vec<Vec<Version>> = vec![Vec::new()];
        for (n, (merged_at, at, who, key, size)) in steps.into_iter().enumerate() {
            let mut survivor = written([(at / 2, format!(r#"{{"own{}":{n}}}"#, key % 7))]);
            survivor.absorb(current, version(merged_at), &[], SMALL);
            for moves in &mut moves {
                moves.push(version(merged_at));
            }
            moves.push(Vec::new());
            let who = who % moves.len();
            let json = format!(r#"{{"$set":{{"k{key}":"{}"}},"$set_once":{{"o{key}":[1e50,{n}]}}}}"#, "v".repeat(size));
            survivor.apply(&writes(&json), version(at), &moves[who], SMALL);
            prop_assert!(SMALL.hold(survivor.weight));
            prop_assert_eq!(survivor.weight, Weight::of_lineage(&survivor.lineage));
            let (values, versions) = (survivor.to_values(), survivor.to_versions());
            prop_assert!(values.len() <= SMALL.bytes, "{}", values.len());
            prop_assert!(versions.len() <= SMALL.bytes + 100, "{}: {}", versions.len(), versions);
            let read = Properties::load(&values, Some(&versions)).unwrap();
            prop_assert_eq!(&read, &survivor);
            current = read;
        }
    }

    #[test]
    fn a_weight_is_what_everything_weighs(
        events in proptest::collection::vec((1u64..50, 0usize..30, 0usize..400, 0usize..4), 1..60)
    ) {
        let mut properties = Properties::default();
        for (at, key, size, kind) in events {
            let value = "v".repeat(size);
            let json = match kind {
                0 => format!(r#"{{"k{key}":"{value}"}}"#),
                1 => format!(r#"{{"$set_once":{{"k{key}":"{value}"}}}}"#),
                2 => format!(r#"{{"$unset":["k{key}"]}}"#),
                _ => format!(r#"{{"k{key}":1e{size}}}"#),
            };
            properties.apply(&writes(&json), version(at), &[], SMALL);
            prop_assert!(SMALL.hold(properties.weight));
            prop_assert_eq!(properties.weight, Weight::of_lineage(&properties.lineage));
        }
    }
}
