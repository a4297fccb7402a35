//! Keys of ours that hold something else: said by name, waited for where only an operator can mend it, made anew where
//! nobody else writes it.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::support::{
    GROUP, PROJECT, QUEUE, REJECTED, SOON, STATUS_JSON, STREAM, Worker, World, ask, eventually,
};

async fn remove(world: &World, key: &str) {
    let removed: u64 = ask(world, "DEL", &[key]).await;
    assert_eq!(removed, 1, "{key}");
}

/// A dead letter that has to be replayed.
async fn letter(world: &World) -> Uuid {
    let event = Uuid::new_v4();
    let data = json!({
        "event_id": event, "project_id": PROJECT, "event_name": "late", "distinct_id": "d",
        "timestamp": "2026-01-02T03:04:05.678Z",
    });
    let _id: String = ask(world, "XADD", &[QUEUE, "*", "data", &data.to_string()]).await;
    event
}

/// The log has a line of an error that names a key.
fn complains_of(worker: &Worker, key: &str) -> bool {
    worker
        .log()
        .lines()
        .any(|line| line.contains("ERROR") && line.contains(key))
}

/// Milliseconds since the epoch that a heartbeat file says.
fn beat(world: &World, name: &str) -> u64 {
    let text = std::fs::read_to_string(world.path(&format!("{name}.heartbeat"))).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// The heartbeat goes on for longer than any loop may be silent.
async fn stays_alive(world: &World, worker: &mut Worker, name: &str) {
    let since = std::time::Instant::now();
    while since.elapsed() < Duration::from_secs(10) {
        let before = beat(world, name);
        eventually("the heartbeat goes on", Duration::from_secs(4), async || {
            beat(world, name) > before
        })
        .await;
        assert!(worker.is_running(), "{}", worker.log());
    }
}

/// Loops count as hanging after this long.
const STALE: (&str, &str) = ("HEARTBEAT_STALE_MS", "7000");

#[tokio::test]
async fn a_stream_that_is_none_ends_the_start_with_an_error_that_names_it() {
    let world = World::start().await;
    let () = ask(&world, "SET", &[STREAM, "a text"]).await;
    let mut worker = world.worker("w1", &[]);
    let status = worker.ended(Duration::from_mins(1)).await;
    let log = worker.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("`events:incoming` is a string, not a stream"),
        "{log}"
    );
}

#[tokio::test]
async fn a_stream_that_is_mended_during_the_start_is_consumed() {
    let world = World::start().await;
    let () = ask(&world, "SET", &[STREAM, "a text"]).await;
    let worker = world.worker("w1", &[]);
    eventually("the worker has found out", SOON, async || {
        complains_of(&worker, STREAM)
    })
    .await;
    remove(&world, STREAM).await;
    let event = world.event("d", &[]).await;
    world.settled(SOON).await;
    world.holds_exactly(&[event].into()).await;
}

#[tokio::test]
async fn a_stream_that_becomes_something_else_under_the_worker_is_consumed_when_it_is_mended() {
    let world = World::start().await;
    let worker = world.worker("w1", &[]);
    let first = world.event("d", &[]).await;
    world.settled(SOON).await;
    let () = ask(&world, "SET", &[STREAM, "a text"]).await;
    eventually("the log names the key", SOON, async || {
        complains_of(&worker, "`events:incoming` is a string, not a stream")
    })
    .await;
    let (fine, text) = world.check(&[]);
    assert!(!fine && text.contains("events:incoming is a string"), "{text}");
    remove(&world, STREAM).await;
    let second = world.event("d", &[]).await;
    world.settled(SOON).await;
    world.holds_exactly(&[first, second].into()).await;
}

#[tokio::test]
async fn a_replay_lock_that_is_none_is_named_and_letters_go_on_when_it_is_gone() {
    let world = World::start().await;
    let event = letter(&world).await;
    let _length: u64 = ask(&world, "RPUSH", &["dlq:replay:lock", "x"]).await;
    let worker = world.worker("w1", &[]);
    eventually("the log names the key", SOON, async || {
        complains_of(&worker, "dlq:replay:lock")
    })
    .await;
    // It may be looked at several times; the state is said once.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let said = worker
        .log()
        .lines()
        .filter(|line| line.contains("dlq:replay:lock"))
        .count();
    assert_eq!(said, 1, "{}", worker.log());
    assert_eq!(world.length(QUEUE).await, Some(1));
    let (fine, text) = world.check(&[]);
    assert!(
        !fine && text.contains("`dlq:replay:lock` is a list, not a string"),
        "{text}"
    );
    remove(&world, "dlq:replay:lock").await;
    world.settled(SOON).await;
    world.holds_exactly(&[event].into()).await;
}

#[tokio::test]
async fn what_only_replays_write_is_made_anew_when_it_is_something_else() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    for key in ["dlq:replay:circuit", "dlq:replay:attempts", "dlq:replay:failures"] {
        let _length: u64 = ask(&world, "RPUSH", &[key, "x"]).await;
        letter(&world).await;
        world.settled(SOON).await;
    }
    // An open circuit always has an end.
    let () = ask(&world, "SET", &["dlq:replay:circuit", "1"]).await;
    letter(&world).await;
    eventually("the circuit has got an end", SOON, async || {
        ask::<i64>(&world, "PTTL", &["dlq:replay:circuit"]).await > 0
    })
    .await;
    remove(&world, "dlq:replay:circuit").await;
    world.settled(SOON).await;
    assert_eq!(world.ch("SELECT count() FROM events").await, "4");
}

#[tokio::test]
async fn failures_are_counted_again_when_their_counter_is_something_else() {
    let world = World::start().await;
    let worker = world.worker("w1", &[("PROCESSOR_ROLES", "dlq")]);
    eventually("the worker works", SOON, async || worker.is_beating()).await;
    let _length: u64 = ask(&world, "RPUSH", &["dlq:replay:failures", "x"]).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    let event = letter(&world).await;
    eventually("a failure is counted", SOON, async || {
        ask::<String>(&world, "TYPE", &["dlq:replay:failures"]).await == "string"
    })
    .await;
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(SOON).await;
    world.holds_exactly(&[event].into()).await;
}

#[tokio::test]
async fn a_ring_of_rejects_that_is_none_holds_what_is_rejected_until_it_is_mended() {
    let world = World::start().await;
    let () = ask(&world, "SET", &[REJECTED, "a text"]).await;
    let mut worker = world.worker("w1", &[STALE]);
    let good = world.event("d", &[]).await;
    world
        .add(&[("project_id", PROJECT), ("event_name", "without a person")])
        .await;
    eventually("the log names the key", SOON, async || {
        complains_of(&worker, "`events:rejected` is a string, not a stream")
    })
    .await;
    stays_alive(&world, &mut worker, "w1").await;
    assert_ne!(world.unsettled().await, Some(0), "nothing is forgotten");
    remove(&world, REJECTED).await;
    world.settled(SOON).await;
    assert_eq!(world.length(REJECTED).await, Some(1));
    world.holds_exactly(&[good].into()).await;
}

#[tokio::test]
async fn a_dead_letter_queue_that_is_none_holds_what_is_set_aside_until_it_is_mended() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[STALE]);
    eventually("the worker works", SOON, async || worker.is_beating()).await;
    let () = ask(&world, "SET", &[QUEUE, "a text"]).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    let event = world.event("d", &[]).await;
    eventually("the log names the key", SOON, async || {
        complains_of(&worker, "`events:dlq` is a string, not a stream")
    })
    .await;
    stays_alive(&world, &mut worker, "w1").await;
    remove(&world, QUEUE).await;
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&[event].into()).await;
}

#[tokio::test]
async fn other_keys_that_are_something_else_stop_nothing() {
    let world = World::start().await;
    let () = ask(&world, "SET", &["processor:instances", "a text"]).await;
    let () = ask(&world, "SET", &["processor:suspects", "a text"]).await;
    let person_key = format!("person:{PROJECT}:d");
    let _length: u64 = ask(&world, "RPUSH", &[&person_key, "x"]).await;
    let first = world.event("d", &[]).await;
    let second = world.identify("d", "anonymous").await;
    // An entry that was delivered too often, and is processed alone.
    world.is_dead("w1").await;
    let () = ask(&world, "XGROUP", &["CREATE", STREAM, GROUP, "0"]).await;
    let _read: redis::Value = ask(
        &world,
        "XREADGROUP",
        &["GROUP", GROUP, "w1", "COUNT", "1", "STREAMS", STREAM, ">"],
    )
    .await;
    let pending: Vec<(String, String, u64, u64)> =
        ask(&world, "XPENDING", &[STREAM, GROUP, "-", "+", "10"]).await;
    let claim = [STREAM, GROUP, "w1", "0", &pending[0].0, "RETRYCOUNT", "10"];
    let _claimed: redis::Value = ask(&world, "XCLAIM", &claim).await;
    let worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    world.holds_exactly(&[first, second].into()).await;
    eventually("the instance reports", SOON, async || {
        let (fine, text) = world.run(&STATUS_JSON, &[]);
        fine && text.contains(r#""name":"w1""#) && text.contains(r#""reading":"on""#)
    })
    .await;
    assert!(worker.log().contains("processed alone"), "{}", worker.log());
}
