use proptest::prelude::*;
use proptest::sample::Index;
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

fn any_write() -> impl Strategy<Value = String> {
    let key = 0..3_u8;
    prop_oneof![
        2 => (key.clone(), 0..9_u8).prop_map(|(k, v)| format!(r#"{{"k{k}":{v}}}"#)),
        1 => key.clone().prop_map(|k| format!(r#"{{"k{k}":null}}"#)),
        1 => key.clone().prop_map(|k| format!(r#"{{"$unset":["k{k}"]}}"#)),
        1 => (key, 0..9_u8).prop_map(|(k, v)| format!(r#"{{"$set_once":{{"k{k}":{v}}}}}"#)),
    ]
}

/// A step of a history about persons 0 to 3: one writes, or one becomes part of another.
#[derive(Debug, Clone)]
enum Step {
    Write(usize, String),
    Merge { from: usize, into: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..4_usize, any_write()).prop_map(|(who, json)| Step::Write(who, json)),
        1 => (0..4_usize, 0..4_usize).prop_map(|(from, into)| Step::Merge { from, into }),
    ];
    let few_onces = |steps: &Vec<Step>| {
        let onces = |key: &str| {
            let writes = steps.iter().filter(|step| {
                matches!(step, Step::Write(_, json) if json.contains("$set_once") && json.contains(key))
            });
            writes.count()
        };
        ["k0", "k1", "k2"]
            .iter()
            .all(|key| onces(key) <= key_state::MOST_ONCES)
    };
    prop::collection::vec(step, 0..14).prop_filter("more set-onces of a key than are kept", few_onces)
}

/// What a history comes to when every step is taken once and in order, each write changing plain values: nothing that
/// the code under test uses.
mod in_order {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::Step;

    type Values = BTreeMap<String, Value>;

    pub(super) fn write(values: &mut Values, json: &str) {
        let Value::Object(root) = serde_json::from_str(json).unwrap() else {
            panic!("{json}")
        };
        for (key, value) in root {
            match (key.as_str(), value) {
                ("$unset", Value::Array(names)) => {
                    for name in names {
                        values.remove(name.as_str().unwrap());
                    }
                }
                ("$set_once", Value::Object(once)) => {
                    for (key, value) in once {
                        values.entry(key).or_insert(value);
                    }
                }
                (_, value) => {
                    values.insert(key, value);
                }
            }
        }
    }

    /// Values of each of the four, those of one person being equal.
    pub(super) fn outcome(steps: &[Step]) -> [Values; 4] {
        let mut person = [0, 1, 2, 3];
        let mut values: [Values; 4] = Default::default();
        for step in steps {
            match step {
                Step::Write(who, json) => write(&mut values[person[*who]], json),
                Step::Merge { from, into } => {
                    let (from, into) = (person[*from], person[*into]);
                    if from != into {
                        for (key, value) in std::mem::take(&mut values[from]) {
                            values[into].entry(key).or_insert(value);
                        }
                        person.iter_mut().filter(|p| **p == from).for_each(|p| *p = into);
                    }
                }
            }
        }
        person.map(|p| values[p].clone())
    }
}

/// The same through [`Properties`], with writes taken in the order given, each as often as given.
fn through_properties(steps: &[Step], order: &[usize]) -> [Properties; 4] {
    let mut person = [0, 1, 2, 3];
    let mut moves: [Vec<Version>; 4] = Default::default();
    let mut states: [Properties; 4] = Default::default();
    for &at in order {
        let id = version(at as u64 + 1);
        match &steps[at] {
            Step::Write(who, json) => {
                states[person[*who]].apply(&writes(json), id, &moves[*who], Limits::NONE);
            }
            Step::Merge { from, into } => {
                let (gone, survivor) = (person[*from], person[*into]);
                if gone == survivor {
                    continue;
                }
                let path = moves[*into].clone();
                let merged = std::mem::take(&mut states[gone]);
                states[survivor].absorb(merged, id, &path, Limits::NONE);
                let later: Vec<Version> = path.into_iter().filter(|moved| *moved > id).collect();
                for who in 0..4 {
                    if person[who] == gone {
                        person[who] = survivor;
                        moves[who].push(id);
                        moves[who].extend(&later);
                    }
                }
            }
        }
    }
    person.map(|p| states[p].clone())
}

/// Merges in their order, writes anywhere and any number of times, but each at least once.
fn disorder(steps: &[Step], picks: &[Index]) -> Vec<usize> {
    let merges = (0..steps.len()).filter(|at| matches!(steps[*at], Step::Merge { .. }));
    let mut order: Vec<usize> = merges.collect();
    let writes: Vec<usize> = (0..steps.len()).filter(|at| !order.contains(at)).collect();
    let mut picks = picks.iter();
    let mut insert = |order: &mut Vec<usize>, at: usize| {
        let place = picks
            .next()
            .map_or(order.len(), |pick| pick.index(order.len() + 1));
        order.insert(place, at);
    };
    for &at in writes.iter().chain(writes.iter().filter(|at| *at % 2 == 0)) {
        insert(&mut order, at);
    }
    order
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn in_order_the_outcome_is_what_plain_values_would_be(steps in steps()) {
        let order: Vec<usize> = (0..steps.len()).collect();
        let expected = in_order::outcome(&steps).map(|values| serde_json::to_string(&values).unwrap());
        let found = through_properties(&steps, &order).map(|state| state.to_values());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn late_and_repeated_writes_end_in_the_same_properties(
        steps in steps(),
        picks in prop::collection::vec(any::<Index>(), 30),
    ) {
        let expected = in_order::outcome(&steps).map(|values| serde_json::to_string(&values).unwrap());
        let order = disorder(&steps, &picks);
        let found = through_properties(&steps, &order).map(|state| state.to_values());
        prop_assert_eq!(found, expected, "in the order {:?}", order);
    }

    #[test]
    fn what_is_stored_is_what_is_loaded(steps in steps()) {
        let order: Vec<usize> = (0..steps.len()).collect();
        for state in through_properties(&steps, &order) {
            let loaded = Properties::load(&state.to_values(), Some(&state.to_versions())).unwrap();
            prop_assert_eq!(loaded.to_values(), state.to_values());
            prop_assert_eq!(loaded.to_versions(), state.to_versions());
        }
    }

    #[test]
    fn identifies_in_any_order_end_in_the_same_properties(
        steps in visits(),
        picks in prop::collection::vec(any::<Index>(), 40),
    ) {
        let in_order: Vec<usize> = (0..steps.len()).collect();
        let plain = plain_visits(&steps);
        prop_assert_eq!(through_identifies(&steps, &in_order), plain.clone(), "in order");
        let mut order: Vec<usize> = Vec::new();
        for (at, pick) in in_order.iter().chain(in_order.iter().filter(|at| *at % 3 == 0)).zip(&picks) {
            order.insert(pick.index(order.len() + 1), *at);
        }
        prop_assert_eq!(through_identifies(&steps, &order), plain, "in the order {:?}", order);
    }
}

/// A user, 0, and three anonymous ids: one of them writes, or the user identifies with one and writes.
#[derive(Debug, Clone)]
struct Visit {
    /// How long it was offline.
    late: u64,
    who: usize,
    identifies: Option<usize>,
    json: String,
}

fn visits() -> impl Strategy<Value = Vec<Visit>> {
    let late = prop_oneof![3 => Just(0), 1 => 0..14_u64];
    let plain = (late.clone(), 0..4_usize, any_write()).prop_map(|(late, who, json)| Visit {
        late,
        who,
        identifies: None,
        json,
    });
    let identifies = prop_oneof![Just("{}".to_owned()), any_write()];
    let identify = (late, 1..4_usize, identifies).prop_map(|(late, anonymous, json)| Visit {
        late,
        who: 0,
        identifies: Some(anonymous),
        json,
    });
    let few_onces = |visits: &Vec<Visit>| {
        let onces = visits.iter().filter(|visit| visit.json.contains("$set_once"));
        onces.count() <= key_state::MOST_ONCES
    };
    prop::collection::vec(prop_oneof![3 => plain, 2 => identify], 1..14)
        .prop_filter("more set-onces than are kept", few_onces)
}

/// When a visit was; `n` is its place in the stream.
fn version_of(n: usize, visit: &Visit) -> Version {
    let entry = entry(20 + n as u64);
    Version::new((entry.ms - visit.late) as i64, entry, PropertyOrder::EventTime)
}

/// The user's values when every visit is taken once, in the order of its time.
fn plain_visits(visits: &[Visit]) -> String {
    let mut visits: Vec<(Version, &Visit)> = visits
        .iter()
        .enumerate()
        .map(|(n, visit)| (version_of(n, visit), visit))
        .collect();
    visits.sort_by_key(|(at, _)| *at);
    let steps = visits.into_iter().flat_map(|(_, visit)| {
        let merge = visit.identifies.map(|from| Step::Merge { from, into: 0 });
        merge
            .into_iter()
            .chain([Step::Write(visit.who, visit.json.clone())])
    });
    let [user, ..] = in_order::outcome(&steps.collect::<Vec<_>>());
    serde_json::to_string(&user).unwrap()
}

/// The user's values when visits are taken in the order given: an anonymous id that nobody has seen is attached, one
/// that is the user's already is not merged again.
fn through_identifies(visits: &[Visit], order: &[usize]) -> String {
    let mut seen = [false; 4];
    let mut moves: [Vec<Version>; 4] = Default::default();
    let mut states: [Properties; 4] = Default::default();
    for &n in order {
        let (visit, at) = (&visits[n], version_of(n, &visits[n]));
        seen[visit.who] = true;
        if let Some(anonymous) = visit.identifies {
            if moves[anonymous].is_empty() {
                if seen[anonymous] {
                    let merged = std::mem::take(&mut states[anonymous]);
                    states[0].absorb(merged, at, &[], Limits::NONE);
                }
                moves[anonymous].push(at);
            } else {
                states[0].joined_at(at, &[], &moves[anonymous]);
            }
        }
        let person = if moves[visit.who].is_empty() { visit.who } else { 0 };
        states[person].apply(&writes(&visit.json), at, &moves[visit.who], Limits::NONE);
        states =
            states.map(|state| Properties::load(&state.to_values(), Some(&state.to_versions())).unwrap());
    }
    states[0].to_values()
}
