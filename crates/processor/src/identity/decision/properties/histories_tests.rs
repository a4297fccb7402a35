//! Generated histories: what comes of them in whatever order they are delivered, against plain values that are changed in
//! the order of the versions.

use proptest::prelude::*;
use proptest::sample::Index;
use stream_reply::StreamId;

use super::*;
use crate::config::PropertyOrder;
use crate::event::Source;
use crate::identity::decision::moves;

fn writes(json: &str) -> PropertyWrites {
    PropertyWrites::parse(json)
}

/// Of few keys and values, so that they meet; some clients say one and the same thing again and again.
fn any_write() -> impl Strategy<Value = String> {
    let key = || prop_oneof![3 => Just(0_u8), 1 => 1..3_u8];
    let value = || prop_oneof![1 => Just(0_u8), 1 => 0..4_u8];
    prop_oneof![
        2 => (key(), value()).prop_map(|(k, v)| format!(r#"{{"k{k}":{v}}}"#)),
        1 => key().prop_map(|k| format!(r#"{{"k{k}":null}}"#)),
        3 => key().prop_map(|k| format!(r#"{{"$unset":["k{k}"]}}"#)),
        6 => (key(), value()).prop_map(|(k, v)| format!(r#"{{"$set_once":{{"k{k}":{v}}}}}"#)),
    ]
}

/// An event of one of several ids: it may identify with another one, and writes.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// How long it was offline.
    pub(super) late: u64,
    pub(super) who: usize,
    pub(super) identifies: Option<usize>,
    pub(super) json: String,
}

/// When it was said; `n` is its place in the stream.
fn version_of(n: usize, said: &Said) -> Version {
    let id = StreamId::new(1_000 + n as u64, 0);
    let source = Source {
        stream: (n % 3) as u16,
        id,
        redelivered: false,
    };
    Version::of((id.ms - said.late) as i64, source, PropertyOrder::EventTime)
}

/// Plain values, changed one event after another: nothing that the code under test uses.
pub(super) mod in_order {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::{Said, version_of};

    type Values = BTreeMap<String, Value>;

    fn write(values: &mut Values, json: &str) {
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

    /// Values of each id when everything is taken once, in the order of its time.
    pub(in super::super) fn outcome(ids: usize, said: &[Said]) -> Vec<String> {
        let mut in_time: Vec<_> = said.iter().enumerate().collect();
        in_time.sort_by_key(|(n, said)| version_of(*n, said));
        let mut person: Vec<usize> = (0..ids).collect();
        let mut values: Vec<Values> = vec![Values::new(); ids];
        for (_, said) in in_time {
            if let Some(anonymous) = said.identifies {
                let (from, into) = (person[anonymous], person[said.who]);
                if from != into {
                    for (key, value) in std::mem::take(&mut values[from]) {
                        values[into].entry(key).or_insert(value);
                    }
                    person.iter_mut().filter(|p| **p == from).for_each(|p| *p = into);
                }
            }
            write(&mut values[person[said.who]], &said.json);
        }
        let values = person.iter().map(|person| &values[*person]);
        values
            .map(|values| serde_json::to_string(values).unwrap())
            .collect()
    }
}

/// What the worker makes of events.
pub(super) struct Outcome {
    /// Values of each id.
    pub(super) values: Vec<String>,
    /// `$identify`s that were refused.
    refused: Vec<usize>,
    /// Whether an `$identify` came after a newer one that had merged its anonymous id with another person.
    overtaken: bool,
    /// Both columns after each event.
    pub(super) stored: Vec<(String, String)>,
}

/// Events taken in the order given, each as often as given, as the worker does: an id without a mapping is attached, two
/// that are joined already are not merged again. Everything is stored and read again.
pub(super) fn through_properties(
    ids: usize,
    said: &[Said],
    order: &[usize],
    guarded: bool,
    limits: Limits,
) -> Outcome {
    let mut person: Vec<Option<usize>> = vec![None; ids];
    let mut moved: Vec<Vec<Version>> = vec![Vec::new(); ids];
    let mut states: Vec<Properties> = vec![Properties::default(); ids];
    let mut identified = vec![false; ids];
    let mut refused = Vec::new();
    let mut overtaken = false;
    let mut put_back: Vec<Version> = Vec::new();
    let mut stored = Vec::new();
    for &n in order {
        let (said, at) = (&said[n], version_of(n, &said[n]));
        let into = *person[said.who].get_or_insert(said.who);
        let user = moved[said.who].clone();
        let later = |moves: &[Version]| -> Vec<Version> {
            moves.iter().copied().filter(|moved| *moved > at).collect()
        };
        let steps = moves::steps(at, &user);
        identified[said.who] |= said.identifies.is_some();
        match said.identifies.map(|anonymous| (anonymous, person[anonymous])) {
            None => {}
            Some((anonymous, None)) => {
                person[anonymous] = Some(into);
                moved[anonymous] = steps;
            }
            Some((anonymous, Some(from))) if from == into => {
                let (since, of_user) = (later(&moved[anonymous]), later(&user));
                overtaken |= since != of_user && since.split_first().is_none_or(|(_, rest)| rest != of_user);
                if let Some(joined) = since.first() {
                    put_back.push(*joined);
                    states[into].joined_at(at, &user, &moved[anonymous], limits);
                }
            }
            Some((anonymous, Some(from))) => {
                let gone: Vec<usize> = (0..ids).filter(|id| person[*id] == Some(from)).collect();
                if guarded && gone.iter().any(|id| identified[*id] && *id != said.who) {
                    refused.push(n);
                } else {
                    overtaken |= !later(&moved[anonymous]).is_empty();
                    let merged = std::mem::take(&mut states[from]);
                    states[into].absorb(merged, at, &user, limits);
                    for id in gone {
                        overtaken |= moved[id]
                            .last()
                            .is_some_and(|last| *last > at && put_back.contains(last));
                        person[id] = Some(into);
                        moved[id] = moves::joined(std::mem::take(&mut moved[id]), &steps);
                    }
                }
            }
        }
        states[into].apply(&writes(&said.json), at, &user, limits);
        let (values, versions) = (states[into].to_values(), states[into].to_versions());
        states[into] = Properties::load(&values, Some(&versions)).unwrap();
        stored.push((values, versions));
    }
    let person = person.into_iter().enumerate();
    let values = person.map(|(id, person)| states[person.unwrap_or(id)].to_values());
    Outcome {
        values: values.collect(),
        refused,
        overtaken,
        stored,
    }
}

/// Everything at least once, some of it twice, in an order that has nothing to do with the stream's.
pub(super) fn disorder(length: usize, picks: &[Index]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    let again = (0..length).filter(|at| at % 3 == 0);
    for (at, pick) in (0..length).chain(again).zip(picks.iter().cycle()) {
        order.insert(pick.index(order.len() + 1), at);
    }
    order
}

/// Events of one id.
pub(super) fn alone(most: usize) -> impl Strategy<Value = Vec<Said>> {
    let said = (0..60_u64, any_write()).prop_map(|(late, json)| Said {
        late,
        who: 0,
        identifies: None,
        json,
    });
    prop::collection::vec(said, 1..most)
}

/// A user, 0, and anonymous ids, each of which writes, and the user identifies with them.
pub(super) fn visits(ids: usize, most: usize) -> impl Strategy<Value = Vec<Said>> {
    let late = || prop_oneof![1 => Just(0), 1 => 0..200_u64];
    let writes = || prop_oneof![1 => Just("{}".to_owned()), 3 => any_write()];
    let plain = (late(), 0..ids, writes()).prop_map(|(late, who, json)| Said {
        late,
        who,
        identifies: None,
        json,
    });
    let identify = (late(), 1..ids, writes()).prop_map(|(late, anonymous, json)| Said {
        late,
        who: 0,
        identifies: Some(anonymous),
        json,
    });
    prop::collection::vec(prop_oneof![2 => plain, 1 => identify], 1..most)
}

/// Anonymous ids from 1 on write, the user, 0, identifies with each of them once and writes a little itself.
pub(super) fn crowd(most: usize) -> impl Strategy<Value = Vec<Said>> {
    let once = || (0..3_u8, 0..4_u8).prop_map(|(k, v)| format!(r#"{{"$set_once":{{"k{k}":{v}}}}}"#));
    let writes = || prop_oneof![20 => Just("{}".to_owned()), 20 => once(), 1 => any_write()];
    let anonymous = prop::collection::vec((0..200_u64, any_write(), 0..200_u64, writes()), 1..most);
    let user = prop::collection::vec((0..200_u64, any_write()), 0..8);
    (anonymous, user).prop_map(|(anonymous, user)| {
        let event = |late, who, identifies, json| Said {
            late,
            who,
            identifies,
            json,
        };
        let visits = anonymous.into_iter().enumerate();
        let visits = visits.flat_map(|(n, (late, json, late_too, json_too))| {
            [
                event(late, n + 1, None, json),
                event(late_too, 0, Some(n + 1), json_too),
            ]
        });
        let user = user.into_iter().map(|(late, json)| event(late, 0, None, json));
        visits.chain(user).collect()
    })
}

/// Any id identifies with any other.
pub(super) fn quarrels(ids: usize, most: usize) -> impl Strategy<Value = Vec<Said>> {
    let late = prop_oneof![1 => Just(0), 1 => 0..40_u64];
    let writes = prop_oneof![1 => Just("{}".to_owned()), 3 => any_write()];
    let other = prop_oneof![2 => Just(None), 1 => (1..ids).prop_map(Some)];
    let said = (late, 0..ids, other, writes).prop_map(move |(late, who, other, json)| Said {
        late,
        who,
        identifies: other.map(|other| (who + other) % ids),
        json,
    });
    prop::collection::vec(said, 1..most)
}

pub(super) fn picks() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 120)
}

pub(super) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        ..ProptestConfig::default()
    }
}

/// Whether it ends as it would in time, in the order of the stream and in another one.
fn agree(ids: usize, said: &[Said], picks: &[Index], guarded: bool) -> Result<(), TestCaseError> {
    let in_stream: Vec<usize> = (0..said.len()).collect();
    for order in [in_stream, disorder(said.len(), picks)] {
        let found = through_properties(ids, said, &order, guarded, Limits::NONE);
        if found.overtaken {
            continue;
        }
        let mut accepted = said.to_vec();
        for refused in found.refused {
            accepted[refused].identifies = None;
        }
        let expected = in_order::outcome(ids, &accepted);
        prop_assert_eq!(
            &found.values,
            &expected,
            "guarded: {}, in the order {:?}",
            guarded,
            order
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(2_048))]

    #[test]
    fn any_number_of_set_onces_and_unsets_in_any_order_ends_in_the_same_properties(
        said in alone(48),
        picks in picks(),
    ) {
        agree(1, &said, &picks, true)?;
    }

    #[test]
    fn identifies_in_any_order_end_in_the_same_properties(said in visits(5, 20), picks in picks()) {
        agree(5, &said, &picks, true)?;
    }

    #[test]
    fn anybody_identified_with_anybody_ends_in_the_same_properties_unless_a_merge_is_overtaken(
        said in quarrels(4, 16),
        picks in picks(),
        guarded in any::<bool>(),
    ) {
        agree(4, &said, &picks, guarded)?;
    }
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn more_merges_than_a_person_usually_has_end_in_the_same_properties(
        said in visits(80, 240),
        picks in picks(),
        guarded in any::<bool>(),
    ) {
        agree(80, &said, &picks, guarded)?;
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn merges_that_are_joined_for_good_come_to_the_same_in_any_order_and_so_do_replays(
        said in crowd(60),
        picks in picks(),
    ) {
        const SMALL: Limits = Limits {
            keys: 1_000,
            bytes: 12_000,
        };
        // What the anonymous ids wrote is there before they are merged; all the rest in any order, and all of it again.
        let (early, late): (Vec<usize>, Vec<usize>) = (0..said.len()).partition(|n| said[*n].who != 0);
        let disorder = |of: &[usize]| disorder(of.len(), &picks).into_iter().map(|n| of[n]).collect::<Vec<_>>();
        let all: Vec<usize> = (0..said.len()).collect();
        let order = [disorder(&early), disorder(&late), disorder(&all)].concat();
        let found = through_properties(60, &said, &order, true, SMALL);
        let expected = in_order::outcome(60, &said);
        prop_assert_eq!(&found.values, &expected, "in the order {:?}", order);
    }
}
