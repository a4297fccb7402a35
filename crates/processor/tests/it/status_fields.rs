//! What a real `status --json` says has the fields that docs/operations.md names.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::letters::QUICK;
use crate::support::{PROJECT, SOON, STATUS_JSON, World, ask, eventually};

const OPERATIONS: &str = include_str!("../../../../docs/operations.md");

/// The fields that the page names.
fn documented() -> BTreeSet<&'static str> {
    let (_, table) = OPERATIONS.split_once("### Fields of `status --json`").unwrap();
    let rows = table.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    names.collect()
}

/// Every field that has a value, as the page would name it, and every one that is null.
fn fields(value: &Value, path: &str, documented: &BTreeSet<&str>, found: &mut [BTreeSet<String>; 2]) {
    let by_name = format!("{path}{{}}");
    match value {
        Value::Object(object) if documented.contains(by_name.as_str()) => {
            if !object.is_empty() {
                found[0].insert(by_name);
            }
        }
        Value::Object(object) => {
            for (name, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                fields(value, &format!("{path}{dot}{name}"), documented, found);
            }
        }
        Value::Array(values) => {
            for value in values {
                fields(value, &format!("{path}[]"), documented, found);
            }
        }
        Value::Null => drop(found[1].insert(path.to_owned())),
        _ => drop(found[0].insert(path.to_owned())),
    }
}

#[tokio::test]
async fn the_page_names_every_field_of_a_real_status() {
    let world = World::start().await;
    let documented = documented();
    let mut found = [BTreeSet::new(), BTreeSet::new()];
    let mut status = || {
        let output = world.output(&STATUS_JSON, &[]);
        let now: Value = serde_json::from_slice(&output.stdout).unwrap();
        fields(&now, "", &documented, &mut found);
        let is_wrong = now["verdict"]["state"] == "wrong";
        assert_eq!(output.status.code(), Some(i32::from(is_wrong)), "{now}");
        now
    };
    status();
    world
        .pg(&format!(
            "INSERT INTO users (id, email, password_hash, display_name) VALUES ('{PROJECT}', 'a@b.example', '', '');
             INSERT INTO cohorts (project_id, created_by, name, definition, errors_calculating, last_error_message)
             VALUES ('{PROJECT}', '{PROJECT}', 'c', '{{}}', 1, 'no definition')"
        ))
        .await;
    let mut worker = world.worker("w1", &[QUICK]);
    world.load(200, 5).await;
    ask::<String>(
        &world,
        "XADD",
        &["events:incoming", "*", "event_name", "of no project"],
    )
    .await;
    world.settled(SOON).await;
    eventually("it works, and one is rejected", SOON, async || {
        let now = status();
        now["rejected"] == 1 && !now["instances"][0]["work"].is_null() && !now["last_row"].is_null()
    })
    .await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    world.load(200, 5).await;
    eventually("letters are set aside, and reading is paused", SOON, async || {
        let now = status();
        now["dead_letters"].as_u64() > Some(0) && now["instances"][0]["stores_away"][0] == "ClickHouse"
    })
    .await;
    world.load(20, 5).await;
    worker.kill();
    eventually("it is missed", SOON, async || {
        let now = status();
        now["instances"][0]["life"] == "dead" && now["verdict"]["answer"] == "nobody reads"
    })
    .await;
    world.stack.clickhouse().unwrap().start().await.unwrap();
    let mut worker = world.worker("w2", &[QUICK]);
    eventually("another one works", SOON, async || {
        status()["instances"][1]["reading"] == "on"
    })
    .await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    status();
    are_named(&documented, &found);
}

/// The page names all that was said, and nothing else was to be said.
fn are_named(documented: &BTreeSet<&str>, [known, empty]: &[BTreeSet<String>; 2]) {
    let named: BTreeSet<String> = documented.iter().map(|name| (*name).to_owned()).collect();
    let unnamed: Vec<&String> = known.difference(&named).collect();
    assert!(unnamed.is_empty(), "not on the page: {unnamed:?}");
    let is_named = |path: &&String| {
        let mut names = documented
            .iter()
            .filter_map(|name| name.strip_prefix(path.as_str()));
        names.any(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']))
    };
    let unnamed: Vec<&String> = empty.iter().filter(|path| !is_named(path)).collect();
    assert!(unnamed.is_empty(), "not on the page: {unnamed:?}");
    // What takes a cluster, an operator, an older version, or a run that lasts is not there.
    let rare = [
        "open_slots",
        "not_read",
        "instances[].cohorts",
        "instances[].needs_operator",
        "instances[].unanswered_s",
        "instances[].streams.first",
    ];
    let missing = named.difference(known);
    let missing: Vec<&String> = missing
        .filter(|name| !empty.contains(*name) && !rare.iter().any(|rare| name.starts_with(rare)))
        .collect();
    assert!(missing.is_empty(), "on the page, and never said: {missing:?}");
}
