//! What the screen says, drawn without a terminal.

use std::time::Duration;

use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::layout::draw;
use super::model::{Model, Told, View, Wish};
use crate::cli::status::facts::{ClickHouseFacts, LastRow, PostgresFacts, RedisFacts};
use crate::cli::status::samples::{consuming, everything, model, paused_for, told, working};
use crate::cohorts::{Counts, Failing};
use crate::runtime::instances::Presence;

const EVIL: &str = "EVIL\u{1b}[31m\u{7}\u{9b}2J\nFAKE\u{202e}界";
const BEGAN: i64 = 1_795_000_000;

fn at(second: u64) -> Timestamp {
    Timestamp::from_second(BEGAN + second.cast_signed()).unwrap()
}

/// The screen as rows of text; a wide character stands once.
fn screen(model: &mut Model, (columns, rows): (u16, u16), second: u64) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(frame, model, at(second))).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let row = |y: u16| {
        let mut text = String::new();
        let mut skipped = 0;
        for x in 0..columns {
            let symbol = buffer[(x, y)].symbol();
            if skipped == 0 {
                text.push_str(symbol);
                skipped = crate::cli::columns::width(symbol).saturating_sub(1);
            } else {
                skipped -= 1;
            }
        }
        text.trim_end().to_owned()
    };
    (0..rows).map(row).collect()
}

/// Looks at Redis, one a second, of which the last one is at `second`.
fn redis(model: &mut Model, second: u64, reachable: bool, facts: RedisFacts) {
    let look = told("Redis", reachable, facts, at(second));
    model.take(Told::Redis(look), Duration::from_secs(second));
}

fn others(model: &mut Model, second: u64, clickhouse_answers: bool) {
    let postgres = PostgresFacts {
        unpublished_overrides: Some(0),
        stale_cohorts: Some(2),
        cohorts: Some(Counts {
            dynamic: 12,
            stale: 2,
            failing: 1,
        }),
        failing_cohorts: Some(vec![Failing {
            id: uuid::Uuid::nil(),
            name: EVIL.into(),
            errors: 3,
            last_error: "unknown operator ".repeat(20),
        }]),
    };
    let look = told("PostgreSQL", true, postgres, at(second));
    model.take(Told::Postgres(look), Duration::from_secs(second));
    let rows = ClickHouseFacts {
        last_row: clickhouse_answers.then(|| LastRow(Some("2026-11-26T11:16:01.001Z".into()))),
    };
    let look = told("ClickHouse", clickhouse_answers, rows, at(second));
    model.take(Told::ClickHouse(look), Duration::from_secs(second));
}

/// An hour's worth of looks at a worker that falls behind.
fn falling_behind() -> Model {
    let mut model = model();
    for second in 1..=100u64 {
        let mut facts = everything(
            1_000 * second,
            630,
            vec![working("w1", "land", 0.97), consuming("w2")],
        );
        facts.streams[0].read = Some(1_000_000 + 500 * second);
        redis(&mut model, second, true, facts);
        others(&mut model, second, true);
    }
    model
}

fn has(screen: &[String], text: &str) -> bool {
    screen.iter().any(|row| row.contains(text))
}

#[test]
fn one_screen_says_whether_it_keeps_up_and_what_it_waits_for() {
    let mut model = falling_behind();
    for size in [(80, 24), (120, 40)] {
        let shown = screen(&mut model, size, 100);
        assert_eq!(shown.len(), usize::from(size.1));
        for text in [
            "as of 2026-",
            "UTC",
            "FALLS BEHIND: 100,000 unread, 1,500/s come, 500/s settle; waits for",
            "waits for ClickHouse",
            "(land busy 97%)",
            "ingest refuses in",
            "come        1,500/s  most    1,500",
            "settle        500/s  most      500 █",
            "unread      100,000  most  100,000",
            "█",
            "events:incoming",
            "land 97%",
            "held back 80%",
            "Redis 1 ms",
            "w1",
            "w2",
            "dead letters",
            "newest row",
            "12; stale 2, failing 1",
            "q leave",
        ] {
            assert!(has(&shown, text), "{text}: {shown:#?}");
        }
        assert!(!has(&shown, " s old"), "{shown:#?}");
    }
}

#[test]
fn what_a_silent_store_said_is_shown_as_old_with_since_when() {
    let mut model = falling_behind();
    others(&mut model, 101, false);
    let shown = screen(&mut model, (80, 24), 113);
    assert!(has(&shown, "ClickHouse silent for 12 s"), "{shown:#?}");
    assert!(has(&shown, "2026-11-26 11:16:01 UTC (as of 2026-"), "{shown:#?}");
    assert!(
        has(&shown, "! ClickHouse: looking at it: no answer within 2 s"),
        "{shown:#?}"
    );
    redis(&mut model, 114, false, RedisFacts::default());
    let shown = screen(&mut model, (80, 24), 130);
    assert!(has(&shown, "NOBODY KNOWS: Redis does not answer"), "{shown:#?}");
    assert!(shown[0].ends_with(", 30 s old"), "{shown:#?}");
    assert!(
        has(&shown, "unread      100,000"),
        "what is known is still shown: {shown:#?}"
    );
}

#[test]
fn before_any_answer_nothing_is_said_to_be_none() {
    let shown = screen(&mut model(), (80, 24), 0);
    assert!(
        has(&shown, "ASKING") && has(&shown, "nothing is known yet"),
        "{shown:#?}"
    );
    assert!(!has(&shown, "none") && has(&shown, "unknown"), "{shown:#?}");
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    for size in [(59, 24), (80, 19), (20, 5), (1, 1)] {
        let shown = screen(&mut falling_behind(), size, 100);
        let says = format!("This terminal has {} columns and {} rows", size.0, size.1);
        if size.0 > 50 {
            assert!(has(&shown, &says), "{shown:#?}");
        }
        assert!(!has(&shown, "FALLS"), "{shown:#?}");
    }
    assert!(has(&screen(&mut falling_behind(), (60, 20), 100), "FALLS BEHIND"));
}

#[test]
fn instances_that_need_somebody_stand_first_and_the_others_are_counted() {
    let mut model = model();
    let mut dead = consuming("z-dead");
    (dead.presence, dead.silent_for_s) = (Presence::Dead, Some(33));
    let mut instances: Vec<_> = (0..30).map(|n| consuming(&format!("w{n:02}"))).collect();
    instances.extend([dead, paused_for("y-paused", 27, &["ClickHouse"])]);
    redis(&mut model, 1, true, everything(0, 64, instances));
    others(&mut model, 1, true);
    let shown = screen(&mut model, (80, 24), 1);
    assert!(
        has(&shown, "dead: silent for 33 s") && has(&shown, "paused for 27 s: ClickHouse"),
        "{shown:#?}"
    );
    assert!(has(&shown, "more: i"), "{shown:#?}");
    model.wish(Wish::Look(View::Instances));
    let first = screen(&mut model, (80, 24), 1);
    assert!(
        first[0].contains("instances") && has(&first, "more lines: ↓"),
        "{first:#?}"
    );
    model.wish(Wish::Scroll(10_000));
    let last = screen(&mut model, (80, 24), 1);
    assert!(
        !has(&last, "more lines") && has(&last, "roles consume"),
        "{last:#?}"
    );
    let above = model.above;
    model.wish(Wish::Scroll(-1));
    assert_eq!(model.above, above - 1, "it was not scrolled beyond its end");
}

#[test]
fn nothing_from_outside_steers_the_terminal_in_any_view() {
    let mut model = falling_behind();
    let mut evil = paused_for(EVIL, 27, &[EVIL]);
    let report = evil.report.as_mut().unwrap();
    (report.version, report.roles) = (EVIL.into(), vec![EVIL.into()]);
    let mut facts = everything(5, 10, vec![evil]);
    facts.streams[0].name = EVIL.into();
    facts.dead_letters = Some(1);
    facts.dead_letter_reasons = Some(crate::set_aside::Reasons {
        newest: 1,
        counts: [(EVIL.to_owned(), 1)].into(),
    });
    redis(&mut model, 101, true, facts);
    model.redis.errors = vec![EVIL.into()];
    for view in [
        View::Overview,
        View::Streams,
        View::Instances,
        View::Stores,
        View::Letters,
        View::Cohorts,
    ] {
        model.view = view;
        for size in [(80, 24), (120, 40)] {
            let shown = screen(&mut model, size, 101);
            let text = shown.join("");
            assert!(text.contains("EVIL\\u001b[31m"), "{view:?}: {shown:#?}");
            assert!(
                !text.contains(|c: char| c.is_control() || c == '\u{202e}'),
                "{view:?}: {shown:#?}"
            );
            assert!(
                shown.iter().all(|row| !row.trim_start().starts_with("FAKE")),
                "{view:?}: {shown:#?}"
            );
        }
    }
}
