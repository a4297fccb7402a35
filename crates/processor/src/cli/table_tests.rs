//! What tables look like, in terminals of many sizes and in none.

use proptest::prelude::*;

use super::columns::{cut, width};
use super::table::{Rows, UNKNOWN};

const ID: &str = "11111111-1111-1111-1111-111111111111";

fn letters() -> Rows {
    let mut table = Rows::new(&["id", "project", "event", "distinct id", "reason", "attempts"])
        .whole(&["id"])
        .optional(&["attempts", "project"]);
    let long = "界".repeat(300);
    table.add([
        "1795626755438-0",
        ID,
        "page\u{1b}[2Jview",
        &long,
        "clickhouse_unavailable",
        "3",
    ]);
    table.add(["1795626755438-1", ID, "e", "a\nb", "missing_fields", "12"]);
    table
}

#[test]
fn without_a_terminal_everything_is_there_as_wide_as_it_is() {
    let text = letters().within(None);
    assert!(
        text.contains(&"界".repeat(300)) && !text.contains("| cat"),
        "{text}"
    );
    assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
}

#[test]
fn a_terminal_gets_lines_that_fit_it_and_one_that_says_what_is_missing() {
    for (columns, note) in [
        (40, "… `| cat` shows all; left out: project, …"),
        (
            80,
            "… `| cat` shows all; left out: project, attempts; cut short: distinct id, reason",
        ),
        (120, "… `| cat` shows all; cut short: project, distinct id"),
    ] {
        let text = letters().within(Some(columns));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(
            lines.iter().all(|line| width(line) <= columns),
            "{columns}: {text}"
        );
        assert!(text.contains("1795626755438-0"), "{text}");
        assert_eq!(lines[4], cut(note, columns));
    }
    let text = letters().within(Some(1000));
    assert!(
        text.contains(&"界".repeat(300)) && text.lines().count() == 4,
        "{text}"
    );
}

#[test]
fn a_table_looks_like_this() {
    let mut table = Rows::new(&["stream", "unread", "", "state"]);
    table.add(["events:incoming", "7", "", "on"]);
    table.add(["é界", "1,200", "", ""]);
    table.add(["x", UNKNOWN, "", "off"]);
    assert_eq!(
        table.within(Some(80)),
        "stream            unread  state\n\
         ───────────────────────────────\n\
         events:incoming        7  on\n\
         é界                1,200\n\
         x                unknown  off"
    );
    let mut pairs = Rows::new(&[]);
    pairs.add(["Redis", "answers"]);
    pairs.add(["PostgreSQL", "does not answer"]);
    assert_eq!(
        pairs.within(Some(80)),
        "Redis       answers\nPostgreSQL  does not answer"
    );
}

#[test]
fn sentences_are_broken_into_lines_and_nothing_of_them_is_lost() {
    let mut table = Rows::new(&["check", "", "detail", "ms"]).prose(&["detail"]);
    table.add([
        "schema",
        "WRONG",
        "behind by 0001 and 0002: run `qurvo-processor migrate`",
        "12",
    ]);
    assert_eq!(
        table.within(Some(50)),
        "check          detail                           ms\n\
         ──────────────────────────────────────────────────\n\
         schema  WRONG  behind by 0001 and 0002: run     12\n               \
         `qurvo-processor migrate`"
    );
    let mut pairs = Rows::pairs();
    pairs.add([
        "rejected events",
        "4; newest 4: missing_fields 3, unknown_project 1",
    ]);
    let text = pairs.within(Some(40));
    assert!(text.lines().count() == 3 && !text.contains('…'), "{text}");
}

proptest! {
    #[test]
    fn no_line_is_wider_than_the_terminal(
        rows in prop::collection::vec(prop::collection::vec(any::<String>(), 0..8), 0..6),
        columns in 20usize..130,
    ) {
        let mut table = Rows::new(&["a", "b", "a longer name", "d"]).whole(&["b"]).optional(&["d"]);
        for row in rows {
            table.add(row);
        }
        for line in table.within(Some(columns)).lines() {
            prop_assert!(width(line) <= columns, "{line:?}");
        }
    }
}
