//! What a status says to people.

use std::time::Duration;

use super::facts::{ClickHouseFacts, PostgresFacts, RedisFacts, Status};
use super::tables::{Settings, all};
use crate::cli::columns;
use crate::cli::status::facts::LastRow;
use crate::cli::status::samples::{consuming, everything, paused_for, store, working};
use crate::cli::table::UNKNOWN;
use crate::runtime::instances::Presence;
use crate::runtime::report::Ended;

fn status(redis: RedisFacts, reachable: [bool; 3]) -> Status {
    let names = ["Redis", "PostgreSQL", "ClickHouse"];
    Status {
        at: "2026-11-26T11:16:02.123Z".into(),
        redis,
        postgres: PostgresFacts::default(),
        clickhouse: ClickHouseFacts::default(),
        stores: [0, 1, 2].map(|index| store(names[index], reachable[index])),
        not_read: Vec::new(),
        unknown: Vec::new(),
        errors: Vec::new(),
    }
}

const SETTINGS: Settings = Settings {
    trims: true,
    claim_idle: Duration::from_mins(1),
};

#[test]
fn what_is_not_known_reads_as_unknown_and_what_is_not_there_as_none() {
    let mut unknown = status(RedisFacts::default(), [false; 3]);
    let text = all(&unknown, SETTINGS, None);
    assert!(
        text.starts_with("as of 2026-11-26 11:16:02 UTC\nnobody knows: "),
        "{text}"
    );
    for line in [
        "newest row",
        "dead letters",
        "rejected events",
        "locks",
        "cohorts",
    ] {
        let of_line = text.lines().find(|shown| shown.starts_with(line)).unwrap();
        assert!(of_line.ends_with(UNKNOWN), "{of_line}");
    }
    assert!(!text.contains("none"), "{text}");
    unknown.clickhouse.last_row = Some(LastRow(None));
    assert!(all(&unknown, SETTINGS, None).contains("newest row             none"));
    unknown.clickhouse.last_row = Some(LastRow(Some("2026-11-26T11:16:01.001Z".into())));
    assert!(all(&unknown, SETTINGS, None).contains("2026-11-26 11:16:01 UTC"));
}

#[test]
fn a_length_with_nothing_to_do_is_explained_and_idle_workers_frighten_nobody() {
    let text = all(
        &status(everything(0, 0, vec![consuming("w1")]), [true; 3]),
        SETTINGS,
        None,
    );
    assert!(text.contains("keeps up: 0 unread, 0 pending"), "{text}");
    assert!(text.contains("the newest 10,000 or more"), "{text}");
    assert!(!text.contains("660") && !text.contains('!'), "{text}");
    let off = Settings {
        trims: false,
        ..SETTINGS
    };
    let text = all(&status(everything(0, 0, Vec::new()), [true; 3]), off, None);
    assert!(text.contains("PROCESSOR_TRIM=off here"), "{text}");
}

#[test]
fn what_is_pending_for_the_dead_and_the_gone_is_said_with_who_takes_it_over() {
    let mut dead = working("second", "land", 0.5);
    (dead.presence, dead.silent_for_s) = (Presence::Dead, Some(33));
    let mut ended = consuming("third");
    (ended.presence, ended.silent_for_s) = (Presence::Ended, Some(12));
    ended.report.as_mut().unwrap().ended = Some(Ended {
        left_pending: 95,
        failed: false,
    });
    let mut redis = everything(
        0,
        285,
        vec![paused_for("first", 27, &["ClickHouse"]), dead, ended],
    );
    redis.streams[0]
        .consumers
        .push(crate::cli::status::facts::Consumer {
            name: "nobody".into(),
            pending: 0,
            idle_ms: 1,
        });
    let text = all(&status(redis, [true; 3]), SETTINGS, None);
    for shown in [
        "paused for 27 s: ClickHouse",
        "dead: silent for 33 s",
        "ended 12 s ago: 95 left pending",
        "no report",
        "! 95 entries are pending for second, which has asked for none for 11 min: a living instance takes them over \
         after 60 s (PROCESSOR_CLAIM_IDLE_MS)",
        "! 95 entries are pending for third,",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    let dead = text.lines().find(|line| line.starts_with("second")).unwrap();
    assert!(!dead.contains("land") && !dead.contains("600/s"), "{dead}");
    assert!(
        !text.contains("pending for first") && !text.contains("pending for nobody"),
        "{text}"
    );
}

#[test]
fn the_tables_of_a_status_fit_eighty_columns() {
    let mut redis = everything(12, 3, vec![working(&"界".repeat(100), "land", 0.97)]);
    redis.streams[0].name = "s".repeat(300);
    let mut status = status(redis, [true, true, false]);
    status.stores[0].at = "h".repeat(300);
    status.errors = vec![format!("ClickHouse: {}", "a long story ".repeat(30))];
    for columns in [80, 120] {
        for line in all(&status, SETTINGS, Some(columns)).lines() {
            assert!(columns::width(line) <= columns, "{line}");
        }
    }
}
