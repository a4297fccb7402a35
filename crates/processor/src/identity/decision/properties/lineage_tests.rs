use stream_reply::StreamId;

use super::histories_tests::{Said, in_order, through_properties};
use super::lineage::Lineage;
use super::stored;
use super::version::Version;
use super::weight::Limits;
use crate::config::PropertyOrder;

fn at(n: u64) -> Version {
    Version::new(n as i64, StreamId::new(n, 0), PropertyOrder::EventTime)
}

fn set(lineage: &mut Lineage, n: u64, moves: &[Version], value: &str) {
    if let Some(writes) = lineage.writes_at(at(n), moves) {
        writes.key("k").decide(at(n), Some(value));
    }
}

fn value(lineage: &Lineage) -> Option<String> {
    lineage.values().get("k").map(|value| (*value).to_owned())
}

#[test]
fn a_merged_persons_write_that_comes_late_does_not_touch_the_survivors_value() {
    let mut lineage = Lineage::default();
    set(&mut lineage, 1, &[], "survivor");
    set(&mut lineage, 3, &[at(5)], "merged");
    assert_eq!(value(&lineage).unwrap(), "survivor");
    set(&mut lineage, 6, &[at(5)], "since");
    assert_eq!(value(&lineage).unwrap(), "since");
}

#[test]
fn a_survivors_write_that_comes_late_wins_over_what_was_taken_over() {
    let mut merged = Lineage::default();
    set(&mut merged, 3, &[], "merged");
    let mut lineage = Lineage::default();
    lineage.merge(at(5), &[], merged);
    assert_eq!(value(&lineage).unwrap(), "merged");
    set(&mut lineage, 1, &[], "survivor");
    assert_eq!(value(&lineage).unwrap(), "survivor");
}

#[test]
fn a_merge_that_comes_late_takes_its_place() {
    let mut lineage = Lineage::default();
    set(&mut lineage, 7, &[], "since");
    let mut merged = Lineage::default();
    set(&mut merged, 3, &[], "merged");
    lineage.merge(at(5), &[], merged);
    assert_eq!(value(&lineage).unwrap(), "since");
}

#[test]
fn of_a_chain_each_survivor_wins_over_whom_it_took_in() {
    let mut lineage = Lineage::default();
    let (first, second) = (at(5), at(7));
    set(&mut lineage, 3, &[first, second], "a");
    assert_eq!(value(&lineage).unwrap(), "a");
    set(&mut lineage, 2, &[second], "b");
    assert_eq!(value(&lineage).unwrap(), "b");
    set(&mut lineage, 1, &[], "c");
    assert_eq!(value(&lineage).unwrap(), "c");
    set(&mut lineage, 6, &[first, second], "b through a");
    assert_eq!(value(&lineage).unwrap(), "c");
}

#[test]
fn a_long_chain_of_merges_can_be_stored_and_read_again() {
    let mut lineage = Lineage::default();
    set(&mut lineage, 1, &[], r#""first""#);
    for n in 1..200 {
        let mut survivor = Lineage::default();
        survivor.merge(at(n * 10), &[], lineage);
        survivor.keep_depth();
        lineage = survivor;
    }
    let (values, versions) = (stored::values(&lineage), stored::versions(&lineage));
    let read = stored::load(&values, Some(&versions)).unwrap();
    assert_eq!(read, lineage);
    assert_eq!(value(&read).unwrap(), r#""first""#);
}

#[test]
fn merges_that_are_joined_for_good_bring_the_value_of_the_first_whatever_comes_late() {
    let merged = |n: u64| {
        let mut merged = Lineage::default();
        set(&mut merged, n - 5, &[], &n.to_string());
        merged
    };
    let mut lineage = Lineage::default();
    for n in (1..=30).rev() {
        lineage.merge(at(n * 10), &[], merged(n * 10));
        if let Some((third, _)) = lineage.merged.iter().rev().nth(2) {
            lineage.join_up_to(*third);
        }
        assert_eq!(value(&lineage), Some((n * 10).to_string()));
    }
    assert_eq!(lineage.merged.len(), 2);
    // Late writes of the one that was merged first: what it brought stays. Of its survivor: they are older than the merge.
    set(&mut lineage, 1, &[at(10)], "merged, late");
    assert_eq!(value(&lineage).unwrap(), "10");
    lineage.own.key("k").decide(at(15), None);
    assert_eq!(value(&lineage).unwrap(), "20");
    set(&mut lineage, 2, &[], "late");
    assert_eq!(value(&lineage).unwrap(), "20");
    lineage.own.key("k").decide(at(295), None);
    assert_eq!(value(&lineage).unwrap(), "300");
}

/// Its place in the stream, how late it is, who says it, who is identified, what is written.
type Event = (usize, u64, usize, Option<usize>, &'static str);

#[test]
fn a_merge_that_turns_out_to_be_earlier_is_known_on_every_side_of_a_chain() {
    // In the order of their arrival.
    let (unset, once) = (r#"{"$unset":["k0"]}"#, r#"{"$set_once":{"k0":0}}"#);
    let (null, zero, one) = (r#"{"k0":null}"#, r#"{"k0":0}"#, r#"{"k0":1}"#);
    let histories: [&[Event]; 3] = [
        &[
            (9, 0, 1, None, once),
            (14, 0, 1, Some(2), "{}"),
            (11, 0, 2, Some(3), "{}"),
            (7, 0, 3, None, null),
            (5, 0, 1, Some(2), "{}"),
            (4, 0, 2, Some(3), "{}"),
        ],
        &[
            (6, 0, 2, Some(3), "{}"),
            (0, 0, 0, None, one),
            (14, 0, 0, Some(2), "{}"),
            (11, 11, 2, Some(3), "{}"),
            (1, 0, 0, Some(2), "{}"),
            (5, 0, 3, None, zero),
        ],
        &[
            (9, 0, 2, Some(3), "{}"),
            (6, 4, 2, None, unset),
            (3, 0, 3, Some(0), "{}"),
            (10, 9, 2, Some(3), "{}"),
            (2, 0, 1, None, one),
            (4, 3, 0, Some(1), "{}"),
        ],
    ];
    for events in histories {
        let said = |late, who, identifies, json: &str| Said {
            late,
            who,
            identifies,
            json: json.to_owned(),
        };
        let mut history: Vec<Said> = (0..15).map(|_| said(0, 0, None, "{}")).collect();
        for &(n, late, who, identifies, json) in events {
            history[n] = said(late, who, identifies, json);
        }
        let order: Vec<usize> = events.iter().map(|event| event.0).collect();
        let found = through_properties(4, &history, &order, false, Limits::NONE);
        assert_eq!(found.values, in_order::outcome(4, &history), "{events:?}");
    }
}
