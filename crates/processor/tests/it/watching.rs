//! `status --watch` on a terminal, as a person sees it who presses keys.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::terminal::Terminal;
use crate::support::{PROJECT, SOON, STATUS, World, ask};

const WATCH: [&str; 2] = ["status", "--watch"];
const USUAL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (120, 40);
/// The same, with a store being waited for longer than a busy machine takes for anything.
const PATIENT_WATCH: [&str; 4] = ["status", "--watch", "--limit", "20"];
/// A key has its effect at once, whatever is waited for elsewhere: far below what a store may take.
const AT_ONCE: Duration = Duration::from_secs(8);

/// The time that the screen's first row says.
fn as_of(terminal: &Terminal) -> String {
    let first = terminal.rows().swap_remove(0);
    first.split("as of ").nth(1).unwrap_or_default().to_owned()
}

/// A stack whose worker has something to do.
async fn at_work(world: &World) -> crate::support::Worker {
    let worker = world.worker("w1", &[]);
    world.load(500, 5).await;
    world.settled(SOON).await;
    worker
}

#[tokio::test]
async fn keys_open_what_they_name_and_every_way_out_gives_the_terminal_back() {
    let world = World::start().await;
    let _worker = at_work(&world).await;
    let mut terminal = Terminal::run(&world, &WATCH, USUAL);
    terminal.shows_soon("KEEPS UP", SOON).await;
    assert!(terminal.is_taken());
    terminal.shows_soon("reads", SOON).await;
    for (key, title, text) in [
        ("s", ": streams", "consumers of events:incoming"),
        ("i", ": instances", "roles consume, dlq, cohorts"),
        ("t", ": stores", "Asked by this viewer"),
        ("d", ": dead letters", "replay circuit: closed"),
        ("c", ": cohorts", "cohorts that are computed"),
    ] {
        terminal.press(key);
        terminal.shows_soon(title, SOON).await;
        assert!(terminal.shows(text), "{key}: {:#?}", terminal.rows());
        terminal.press("\u{1b}");
        terminal
            .becomes("the overview is back", SOON, || !terminal.shows(title))
            .await;
    }
    terminal.press("q");
    assert!(terminal.ended(SOON).await.success());
    terminal
        .becomes("it is given back", SOON, || terminal.is_given_back())
        .await;

    for leave in ["\u{3}", "SIGTERM", "SIGHUP", "SIGINT"] {
        let mut terminal = Terminal::run(&world, &WATCH, USUAL);
        terminal.shows_soon("KEEPS UP", SOON).await;
        match leave {
            "SIGTERM" => terminal.signal(Signal::SIGTERM),
            "SIGHUP" => terminal.signal(Signal::SIGHUP),
            "SIGINT" => terminal.signal(Signal::SIGINT),
            key => terminal.press(key),
        }
        assert!(terminal.ended(SOON).await.success(), "{leave:?}");
        terminal
            .becomes("it is given back", SOON, || terminal.is_given_back())
            .await;
    }
}

#[tokio::test]
async fn the_screen_follows_the_terminals_size_and_says_when_it_is_too_small() {
    let world = World::start().await;
    let mut terminal = Terminal::run(&world, &WATCH, USUAL);
    // Nobody has made the stream yet, and nobody reads it.
    terminal.shows_soon("NOBODY READS", SOON).await;
    terminal.resize(40, 10);
    terminal
        .shows_soon("This terminal has 40 columns and 10", SOON)
        .await;
    terminal.resize(120, 40);
    let help_is_last = || terminal.rows().last().is_some_and(|row| row.contains("q leave"));
    terminal.becomes("all of it is used", SOON, help_is_last).await;
    assert_eq!(terminal.rows().len(), 40);
    terminal.press("q");
    assert!(terminal.ended(SOON).await.success());
}

#[tokio::test]
async fn a_store_that_stands_still_freezes_neither_the_screen_nor_the_keys() {
    let world = World::start().await;
    let _worker = at_work(&world).await;
    let mut terminal = Terminal::run(&world, &PATIENT_WATCH, USUAL);
    terminal.shows_soon("KEEPS UP", SOON).await;
    terminal.shows_soon("newest row", SOON).await;
    let engine = world.stack.clickhouse().unwrap();
    engine.pause().await.unwrap();
    terminal
        .shows_soon("ClickHouse silent for", Duration::from_mins(1))
        .await;
    terminal
        .shows_soon("A STORE IS SILENT: no answer from ClickHouse", SOON)
        .await;
    let newest = || terminal.rows().into_iter().find(|row| row.contains("newest row"));
    terminal
        .becomes("its last word is old", SOON, || {
            newest().is_some_and(|row| row.contains("(as of "))
        })
        .await;
    // What the others say goes on, and keys work, in the middle of a wait for it.
    for _ in 0..3 {
        let before = as_of(&terminal);
        let goes_on = || as_of(&terminal) != before && !as_of(&terminal).contains("old");
        terminal.becomes("time goes on", AT_ONCE, goes_on).await;
        terminal.press("t");
        terminal
            .shows_soon("looking at it: no answer within 20 s", AT_ONCE)
            .await;
        terminal.press("\u{1b}");
        terminal.shows_soon("ClickHouse silent for", AT_ONCE).await;
        terminal
            .becomes("it is closed", AT_ONCE, || !terminal.shows("Asked by"))
            .await;
    }
    engine.resume().await.unwrap();
    terminal
        .becomes("it answers again", SOON, || !terminal.shows("silent for"))
        .await;
    terminal.press("q");
    assert!(terminal.ended(SOON).await.success());
}

#[tokio::test]
async fn without_redis_what_it_said_last_is_shown_as_old() {
    let world = World::start().await;
    let _worker = at_work(&world).await;
    let mut terminal = Terminal::run(&world, &WATCH, USUAL);
    terminal.shows_soon("KEEPS UP", SOON).await;
    let redis = world.stack.redis().unwrap();
    redis.pause().await.unwrap();
    terminal
        .shows_soon("NOBODY KNOWS: Redis does not answer", SOON)
        .await;
    terminal
        .becomes("it is old", SOON, || as_of(&terminal).ends_with(" s old"))
        .await;
    assert!(terminal.shows("events:incoming"), "{:#?}", terminal.rows());
    redis.resume().await.unwrap();
    terminal.shows_soon("KEEPS UP", SOON).await;
    assert!(!as_of(&terminal).contains("old"));
    terminal.press("q");
    assert!(terminal.ended(SOON).await.success());
}

#[tokio::test]
async fn tables_of_commands_fit_the_terminal_and_say_what_they_left_out() {
    let world = World::start().await;
    let long = "界".repeat(200);
    let data = serde_json::json!({
        "event_id": uuid::Uuid::nil(), "project_id": PROJECT, "event_name": "a rather long name of an event",
        "distinct_id": long,
    });
    let fields = [
        "events:dlq",
        "*",
        "data",
        &data.to_string(),
        "reason",
        "clickhouse_unavailable",
    ];
    let _id: String = ask(&world, "XADD", &fields).await;
    for columns in [80, 120] {
        for command in [&["dlq", "list"][..], &STATUS, &["check"]] {
            let mut terminal = Terminal::run(&world, command, (columns, 60));
            let code = terminal.ended(SOON).await;
            let rows = terminal.rows();
            assert!(code.success(), "{rows:#?}");
            if command[0] == "dlq" {
                terminal.shows_soon("| cat` shows all", SOON).await;
                let list = terminal.rows();
                let letters = list.iter().filter(|row| row.contains("界界"));
                assert_eq!(letters.count(), 1, "one letter, one line: {list:#?}");
            }
        }
        let (_, piped) = world.run(&["dlq", "list"], &[]);
        assert!(
            piped.contains(&long),
            "all of it where there is no terminal: {piped}"
        );
    }
}

/// What the page of screens says of itself.
const PAGE_BEGINS: &str = "# Screens\n\n`qurvo-processor status --watch` on a terminal, as the test `the_page_of_screens_…` drew it in a run of its own: one worker,\n\
    events that come, and a ClickHouse that is stopped in the middle. Made by\n\
    `UPDATE_DOCS=1 cargo nextest run -p qurvo-processor --test it -E 'test(/the_page_of_screens/)'`.\n";

fn pictured(title: &str, rows: &[String]) -> String {
    format!("\n## {title}\n\n```\n{}\n```\n", rows.join("\n"))
}

#[tokio::test]
async fn the_page_of_screens_shows_what_the_program_shows() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    let (small, mut large) = (
        Terminal::run(&world, &WATCH, USUAL),
        Terminal::run(&world, &WATCH, LARGE),
    );
    let mut shown = Vec::new();
    // What comes a second, for as long as it takes to have something to show.
    for _ in 0..14 {
        world.load(400, 50).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    small.shows_soon("/s come, ", SOON).await;
    large.shows_soon("/s come, ", SOON).await;
    shown.push(("It keeps up, at 80 by 24", small.rows()));
    shown.push(("The same, at 120 by 40", large.rows()));
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    world.load(3_000, 50).await;
    small
        .shows_soon("PAUSED: waits for ClickHouse", Duration::from_mins(1))
        .await;
    small.shows_soon("clickhouse_unavailable", SOON).await;
    large.shows_soon("clickhouse_unavailable", SOON).await;
    shown.push(("ClickHouse is away, at 80 by 24", small.rows()));
    large.press("t");
    large.shows_soon("Asked by this viewer", SOON).await;
    shown.push(("Its stores, after `t`, at 120 by 40", large.rows()));

    let page_at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/screens.md");
    let pictures = shown.iter().map(|(title, rows)| pictured(title, rows));
    let page = format!("{PAGE_BEGINS}{}", pictures.collect::<String>());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page_at, &page).unwrap();
    }
    // Numbers differ from run to run. What they are called must not.
    let kept = std::fs::read_to_string(&page_at).unwrap();
    let kept: Vec<&str> = kept.split("\n```\n").collect();
    for (index, (title, rows)) in shown.iter().enumerate() {
        let kept = kept
            .get(index * 2 + 1)
            .unwrap_or_else(|| panic!("no picture for {title}"));
        assert_eq!(kept.lines().count(), rows.len(), "{title}");
        for named in rows.iter().enumerate().filter_map(name_of_row) {
            let is_there = kept
                .lines()
                .enumerate()
                .filter_map(name_of_row_of)
                .any(|row| row == named);
            assert!(
                is_there,
                "{title}: make docs/screens.md again with UPDATE_DOCS=1: {named:?} is not in\n{kept}"
            );
        }
    }
}

/// What a row begins with; not of the two rows of the answer, which is another at another moment, nor of a curve.
fn name_of_row((index, row): (usize, &String)) -> Option<&str> {
    name_of_row_of((index, row.as_str()))
}

fn name_of_row_of((index, row): (usize, &str)) -> Option<&str> {
    let first = row.split_whitespace().next()?;
    (!matches!(index, 1 | 2) && first.starts_with(|c: char| c.is_alphabetic() || c == '!')).then_some(first)
}
