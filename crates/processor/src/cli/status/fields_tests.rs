//! That docs/operations.md names every field of `status --json`, and no other.

use std::collections::BTreeSet;

use serde_json::Value;
use uuid::Uuid;

use super::facts::{
    Circuit, CircuitState, ClickHouseFacts, LastRow, Level, PostgresFacts, RedisFacts, Status, Verdict,
};
use super::samples::{everything, store, working};
use crate::cohorts::{Counts, Failing};
use crate::runtime::report::{CohortProgress, Ended};
use crate::runtime::streams::Streams;
use crate::set_aside::Reasons;
use crate::stores::OpenSlot;

const PAGE: &str = include_str!("../../../../../docs/operations.md");

/// Objects whose fields are names of something.
const BY_NAME: [&str; 6] = [
    "instances[].needs_operator",
    "instances[].unanswered_s",
    "instances[].work.shares",
    "dead_letter_reasons.counts",
    "rejected_reasons.counts",
    "locks",
];

/// Every field of a value with how one gets there.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(_) if BY_NAME.contains(&path) => drop(found.insert(format!("{path}{{}}"))),
        Value::Object(object) => {
            for (name, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                fields(value, &format!("{path}{dot}{name}"), found);
            }
        }
        Value::Array(values) => {
            for value in values {
                fields(value, &format!("{path}[]"), found);
            }
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

/// The fields that the page names.
fn documented() -> BTreeSet<String> {
    let (_, table) = PAGE.split_once("### Fields of `status --json`").unwrap();
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let names = rows
        .skip(2)
        .flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

/// As much as one status can say.
fn full() -> Status {
    let mut instance = working("a", "land", 0.5);
    let report = instance.report.as_mut().unwrap();
    report.streams = Some(Streams {
        list: vec!["s".into()],
        shared: true,
        first: Some(vec!["s".into()]),
    });
    report.stores_away = vec!["Redis".into()];
    report.cohorts = Some(CohortProgress {
        total: 2,
        done: 1,
        failed: 0,
        running_for_s: 1,
    });
    report.ended = Some(Ended {
        left_pending: 0,
        failed: false,
    });
    let reasons = || Reasons {
        newest: 1,
        counts: [("why".to_owned(), 1)].into(),
    };
    let redis = RedisFacts {
        rejected_reasons: Some(reasons()),
        dead_letter_reasons: Some(reasons()),
        circuit: Some(Circuit {
            state: CircuitState::Open,
            seconds_left: Some(1),
            failures: 1,
        }),
        open_slots: Some(vec![OpenSlot {
            slot: 1,
            from: "a".into(),
            to: "b".into(),
            said_by: vec!["a".into()],
        }]),
        ..everything(1, 1, vec![instance])
    };
    let failing = Failing {
        id: Uuid::nil(),
        name: "c".into(),
        errors: 1,
        last_error: "e".into(),
    };
    Status {
        at: "2026-11-26T11:16:02.123Z".into(),
        verdict: Verdict {
            level: Level::Fine,
            answer: "keeps up",
            because: "0 unread".into(),
        },
        redis,
        postgres: PostgresFacts {
            cohorts: Some(Counts {
                dynamic: 1,
                stale: 1,
                failing: 1,
            }),
            failing_cohorts: Some(vec![failing]),
            ..PostgresFacts::default()
        },
        clickhouse: ClickHouseFacts {
            last_row: Some(LastRow(None)),
        },
        stores: ["Redis", "PostgreSQL", "ClickHouse"].map(|name| store(name, true)),
        not_read: vec!["s".into()],
        unknown: vec!["locks"],
        errors: vec!["e".into()],
    }
}

#[test]
fn the_page_names_every_field_of_the_json_and_no_other() {
    let mut found = BTreeSet::new();
    fields(&serde_json::to_value(full()).unwrap(), "", &mut found);
    let documented = documented();
    let missing: Vec<&String> = found.difference(&documented).collect();
    let gone: Vec<&String> = documented.difference(&found).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not on the page: {missing:?}; not there: {gone:?}"
    );
    assert!(found.len() > 60, "{found:?}");
}
