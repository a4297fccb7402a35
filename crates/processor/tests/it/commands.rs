//! The commands around the worker.

use crate::support::{PROJECT, SOON, World};

#[tokio::test]
async fn migrating_twice_and_two_at_once_changes_nothing_more() {
    let world = World::start().await;
    let (again, at_once) = (
        world.run(&["migrate"], &[]),
        world.run(&["migrate", "--check"], &[]),
    );
    assert!(again.0 && at_once.0, "{}{}", again.1, at_once.1);
    assert!(!again.1.contains("applied now"), "{}", again.1);
    world
        .pg("UPDATE processor_migrations SET checksum = 'other' WHERE name = '0002_identity'")
        .await;
    let changed = world.run(&["migrate"], &[]);
    assert!(!changed.0 && changed.1.contains("0002_identity"), "{}", changed.1);
}

#[tokio::test]
async fn check_says_what_is_wrong_and_what_to_do() {
    let world = World::start().await;
    let fine = world.run(&["check"], &[]);
    assert!(fine.0, "{}", fine.1);
    let broken = world.run(
        &["check", "--json"],
        &[("DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/x")],
    );
    assert!(
        !broken.0 && broken.1.contains("check DATABASE_URL"),
        "{}",
        broken.1
    );
    assert!(!broken.1.contains("hunter2"), "{}", broken.1);
    world
        .pg("DELETE FROM processor_migrations WHERE name = '0002_identity'")
        .await;
    let behind = world.run(&["check"], &[]);
    assert!(
        !behind.0 && behind.1.contains("qurvo-processor migrate"),
        "{}",
        behind.1
    );
}

#[tokio::test]
async fn sent_lines_arrive_as_they_stand_and_bad_ones_are_named() {
    let world = World::start().await;
    let file = world.path("events.ndjson");
    let good = format!(
        r#"{{"event_id":"0b0e5f8e-5a3c-4e2a-9c1d-3a1b2c3d4e5f","project_id":"{PROJECT}","event_name":"$pageview","distinct_id":"d","properties":{{"n":1.50}}}}"#
    );
    std::fs::write(
        &file,
        format!("{good}\nnot json\n[[\"a\",\"1\"],[\"a\",\"2\"]]\n"),
    )
    .unwrap();
    let (ok, text) = world.run(&["send", file.to_str().unwrap()], &[]);
    assert!(!ok, "a bad line makes it fail");
    assert!(
        text.contains("line 2: not a JSON object") && text.contains("sent 2 events"),
        "{text}"
    );
    let _worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    assert_eq!(
        world.ch("SELECT event_type, properties FROM events").await,
        "pageview\t{\"n\":1.50}"
    );
}

#[tokio::test]
async fn status_counts_what_waits_and_shows_the_rest_when_a_store_is_away() {
    let world = World::start().await;
    world.load(250, 5).await;
    let (ok, text) = world.run(&["status", "--json"], &[]);
    assert!(ok, "{text}");
    let status: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(status["streams"][0]["length"], 250);
    let (ok, text) = world.run(
        &["status", "--json"],
        &[("DATABASE_URL", "postgresql://u:p@127.0.0.1:1/x")],
    );
    assert!(!ok);
    let status: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(status["streams"][0]["length"], 250);
    assert!(
        status["errors"][0].as_str().unwrap().contains("PostgreSQL"),
        "{text}"
    );
}
