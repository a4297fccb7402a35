//! What follows what, and what comes back: sequences, regularity, stopping, starting again.

use serde_json::json;

use super::building::{all, event, plain, sequence};
use super::{DAY, Table};
use crate::engine::{Event, NOW};

/// Sequences, and behaviour over several windows.
pub(super) fn examples(table: &mut Table) {
    let ways = [
        event("a", "A", 2.0),
        event("a", "B", 1.0),
        event("b", "B", 2.0),
        event("b", "A", 1.0),
    ];
    table.is(31, &ways, all(sequence("event_sequence", ["A", "B"], 7)), &["a"]);
    let at = |who: &str, name: &str, ms: i64| Event {
        time: NOW - DAY + ms,
        ..event(who, name, 1.0)
    };
    let quick = [
        at("a", "A", 100),
        at("a", "B", 200),
        at("b", "B", 100),
        at("b", "A", 200),
    ];
    table.is(32, &quick, all(sequence("event_sequence", ["A", "B"], 7)), &["a"]);
    let twice = [event("a", "A", 2.0), event("b", "A", 2.0), event("b", "A", 1.0)];
    table.is(33, &twice, all(sequence("event_sequence", ["A", "A"], 7)), &["b"]);
    let old = [event("a", "A", 9.0), event("a", "B", 1.0)];
    table.is(34, &old, all(sequence("event_sequence", ["A", "B"], 7)), &[]);
    let some = [
        event("a", "A", 2.0),
        event("a", "B", 1.0),
        plain("b"),
        event("c", "x", 30.0),
    ];
    table.is(
        35,
        &some,
        all(sequence("not_performed_event_sequence", ["A", "B"], 7)),
        &["b", "c"],
    );
    let mut opens = vec![
        event("a", "open", 1.0),
        event("a", "open", 2.0),
        event("a", "open", 3.0),
    ];
    opens.extend((0..3).map(|_| event("b", "open", 1.0)));
    let regularly = json!({"type": "performed_regularly", "event_name": "open", "period_type": "day",
        "total_periods": 7, "min_periods": 3, "time_window_days": 7});
    table.is(36, &opens, all(regularly), &["a"]);
    let plays = [
        event("a", "play", 50.0),
        event("b", "play", 50.0),
        event("b", "play", 3.0),
        event("c", "play", 200.0),
    ];
    let stopped = json!({"type": "stopped_performing", "event_name": "play", "recent_window_days": 30,
        "historical_window_days": 90});
    table.is(37, &plays, all(stopped), &["a"]);
    let plays = [
        event("a", "play", 60.0),
        event("a", "play", 1.0),
        event("b", "play", 60.0),
        event("b", "play", 20.0),
        event("b", "play", 1.0),
        event("c", "play", 1.0),
    ];
    let restarted = json!({"type": "restarted_performing", "event_name": "play", "recent_window_days": 7,
        "gap_window_days": 30, "historical_window_days": 90});
    table.is(38, &plays, all(restarted), &["a"]);
}
