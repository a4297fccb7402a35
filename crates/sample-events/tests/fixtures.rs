//! The committed fixtures are what the generator writes, and what they promise.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use sample_events::{
    ACCOUNT_FILE, COUNT, EVENTS_FILE, HOSTILE_FILE, Line, PROJECTS, SEED, ValueType, account, account_text,
    generate, hostile_cases, lines_text, load_account, load_hostile, load_lines,
};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(fixture(name)).unwrap()
}

/// Not `assert_eq`: nobody wants to read ten megabytes.
fn assert_same(name: &str, written: &str) {
    let committed = text(name);
    let difference = committed.lines().zip(written.lines()).position(|(a, b)| a != b);
    assert!(
        committed == written,
        "{name} differs from line {difference:?}; run `sample-events write`"
    );
}

#[test]
fn the_committed_events_and_account_are_what_the_generator_writes() {
    let lines = generate(SEED, COUNT);
    assert_same(EVENTS_FILE, &lines_text(&lines).unwrap());
    assert_same(ACCOUNT_FILE, &account_text(&account(&lines)).unwrap());
}

#[test]
fn the_committed_hostile_cases_are_the_listed_ones() {
    assert_same(HOSTILE_FILE, &lines_text(&hostile_cases()).unwrap());
}

#[test]
fn what_is_read_back_is_what_was_written() {
    let lines = load_lines(fixture(EVENTS_FILE)).unwrap();
    assert_eq!(lines.len(), COUNT);
    assert!(lines == generate(SEED, COUNT));
    assert!(load_account(fixture(ACCOUNT_FILE)).unwrap() == account(&lines));
    assert!(load_hostile(fixture(HOSTILE_FILE)).unwrap() == hostile_cases());
}

#[test]
fn a_broken_fixture_is_reported_with_file_and_line() {
    let path = std::env::temp_dir().join(format!("sample-events-{}.ndjson", std::process::id()));
    fs::write(&path, "{}\n{\n").unwrap();
    let error = load_lines(&path).unwrap_err().to_string();
    fs::remove_file(&path).unwrap();
    assert!(
        error.contains("line 2") && error.contains("sample-events-"),
        "{error}"
    );
    assert!(
        load_account(&path)
            .unwrap_err()
            .to_string()
            .contains("give the folder")
    );
}

#[test]
fn the_fixtures_stay_small() {
    assert!(text(EVENTS_FILE).len() < 12_000_000);
    assert!(text(ACCOUNT_FILE).len() < 6_000_000);
    assert!(text(HOSTILE_FILE).len() < 1_000_000);
}

/// A condition on a line.
type Condition = fn(&Line) -> bool;

#[test]
fn the_events_show_what_the_worker_has_to_cope_with() {
    let lines = generate(SEED, COUNT);
    let kinds: [(&str, Condition, usize); 9] = [
        (
            "identifications",
            |line| line.text("event_name") == "$identify",
            300,
        ),
        (
            "only a raw user agent",
            |line| line.text("os").is_empty() && !line.text("user_agent").is_empty(),
            6000,
        ),
        (
            "both",
            |line| !line.text("os").is_empty() && !line.text("user_agent").is_empty(),
            500,
        ),
        (
            "imports",
            |line| line.text("batch_id").starts_with("import-") && line.text("ip").is_empty(),
            50,
        ),
        (
            "addresses of the sixth version",
            |line| line.text("ip").contains(':'),
            500,
        ),
        (
            "ids with colons",
            |line| line.text("distinct_id").contains(':'),
            50,
        ),
        (
            "ids beyond ASCII",
            |line| !line.text("distinct_id").is_ascii(),
            50,
        ),
        (
            "screens as numbers",
            |line| line.get("screen_width").is_some_and(serde_json::Value::is_number),
            5000,
        ),
        (
            "removals",
            |line| {
                line.object("user_properties")
                    .is_some_and(|p| p.contains_key("$unset"))
            },
            50,
        ),
    ];
    for (what, condition, least) in kinds {
        let count = lines.iter().filter(|line| condition(line)).count();
        assert!(count >= least, "{what}: {count}");
    }
    let late = lines
        .windows(2)
        .filter(|pair| pair[0].text("timestamp") > pair[1].text("timestamp"))
        .count();
    assert!(late > 200, "{late} out of order");
    assert!(
        lines
            .iter()
            .all(|line| ("2026-05-31T12".."2026-06-30T12:00:00.001Z").contains(&line.text("timestamp")))
    );
}

#[test]
fn the_account_shows_merges_refusals_duplicates_and_all_projects() {
    let account = load_account(fixture(ACCOUNT_FILE)).unwrap();
    assert_eq!(account.duplicates, COUNT / 60);
    assert_eq!(
        account.projects.keys().map(String::as_str).collect::<Vec<_>>(),
        PROJECTS.map(|p| p.id)
    );
    for project in account.projects.values() {
        assert!(project.merges > 50 && project.persons > 100 && project.merges_refused > 0);
        assert_eq!(
            project.events,
            project.people.values().map(|person| person.events).sum::<usize>()
        );
        assert_eq!(project.events, project.event_names.values().sum::<usize>());
        let mapped: BTreeSet<_> = project.mappings.values().collect();
        assert_eq!(mapped, project.people.keys().collect());
    }
    assert!(
        account
            .projects
            .values()
            .map(|project| project.unusable_anonymous_ids)
            .sum::<usize>()
            > 5
    );
}

#[test]
fn the_account_does_not_depend_on_what_the_contract_leaves_open() {
    let lines = generate(SEED, COUNT);
    for (id, project) in account(&lines).projects {
        assert!(
            project.contested_keys.is_empty(),
            "{id}: values on both sides of a merge"
        );
    }
    let mut times = BTreeMap::new();
    for line in &lines {
        let other = times.insert(line.text("timestamp"), line.text("event_id"));
        assert!(
            other.is_none_or(|other| other == line.text("event_id")),
            "two events at {}",
            line.text("timestamp")
        );
    }
    assert_every_property_has_one_type(&lines);
}

/// Otherwise the catalogue would depend on which event is seen first.
fn assert_every_property_has_one_type(lines: &[Line]) {
    let mut types: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    for line in lines {
        for (name, detected) in
            &account(std::slice::from_ref(line)).projects[line.text("project_id")].property_definitions
        {
            let key = (line.text("project_id").to_owned(), name.clone());
            types
                .entry(key)
                .or_default()
                .extend(detected.map(ValueType::as_str));
        }
    }
    assert!(types.len() > 100);
    for (key, types) in types {
        assert!(types.len() <= 1, "{key:?}: {types:?}");
    }
}
