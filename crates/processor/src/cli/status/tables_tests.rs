//! What a status says to people.

use std::time::Duration;

use super::facts::{ClickHouseFacts, PostgresFacts, RedisFacts, Status};
use super::tables::{Settings, all};
use super::verdict;
use crate::cli::columns;
use crate::cli::status::facts::LastRow;
use crate::cli::status::samples::{consuming, everything, paused_for, store, working};
use crate::cli::table::UNKNOWN;
use crate::runtime::instances::Presence;
use crate::runtime::report::Ended;
use crate::runtime::streams::Streams;
use crate::stores::{OpenSlot, slot_of};

fn status(redis: RedisFacts, reachable: [bool; 3]) -> Status {
    let names = ["Redis", "PostgreSQL", "ClickHouse"];
    let stores = [0, 1, 2].map(|index| store(names[index], reachable[index]));
    Status {
        at: "2026-11-26T11:16:02.123Z".into(),
        verdict: verdict::of(&redis, [&stores[0], &stores[1], &stores[2]], None),
        redis,
        postgres: PostgresFacts::default(),
        clickhouse: ClickHouseFacts::default(),
        stores,
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
fn what_is_to_be_done_is_said_of_those_that_died_or_stand_still_and_of_open_slots() {
    let lost = |name: &str, presence| {
        let mut instance = consuming(name);
        (instance.presence, instance.silent_for_s) = (presence, Some(33));
        instance
    };
    let instances = vec![
        consuming("a"),
        lost("b", Presence::Dead),
        lost("c", Presence::Stalled),
    ];
    let mut redis = everything(0, 0, instances);
    redis.open_slots = Some(vec![OpenSlot {
        slot: slot_of("events:incoming"),
        from: "h:1".into(),
        to: "h:2".into(),
        said_by: vec!["h:2".into()],
    }]);
    let text = all(&status(redis, [true; 3]), SETTINGS, None);
    for line in [
        "! b is dead, or cut off from Redis: its log says why; start it again, unless another has taken its place",
        "! c is stalled, stopped or without processor time: let it go on (SIGCONT, a larger share), or end it",
        "! slot 7046 (events:incoming) is open, on its way from h:1 to h:2, as h:2 alone says: its keys may be on either. Unless \
         somebody moves it now, end the move: `redis-cli --cluster fix h:1`",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    assert_eq!(text.matches('!').count(), 3, "{text}");
}

#[test]
fn a_standby_does_not_read() {
    let sharing = |name: &str| {
        let mut instance = consuming(name);
        instance.report.as_mut().unwrap().streams = Some(Streams {
            list: vec!["events:incoming".into()],
            shared: true,
            first: Some(Vec::new()),
        });
        instance
    };
    let mut redis = everything(0, 0, vec![sharing("a"), sharing("b")]);
    redis.streams[0].readers.as_mut().unwrap().pop();
    let text = all(&status(redis, [true; 3]), SETTINGS, None);
    let state = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(
        (state("a ").as_str(), state("b ").as_str()),
        ("reads", "standby:"),
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
