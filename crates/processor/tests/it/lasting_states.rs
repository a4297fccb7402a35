//! What the log says of a state that lasts, and its first line.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::metrics::{address, number, scrape};
use crate::support::{SOON, World, ask, eventually};

/// A state is said again every minute; the rest is for a busy machine.
const A_MINUTE: Duration = Duration::from_secs(90);

const SAID: &str = "ClickHouse leaves requests without an answer";
const ASIDE: &str = "batch set aside as dead letters: it is replayed when the store is back";

/// The lines of a log with a message, as JSON.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines.filter(|line: &Value| line["message"] == message).collect()
}

#[tokio::test]
async fn an_outage_is_said_again_every_minute_with_how_long_it_has_lasted() {
    let world = World::start().await;
    let running = world.worker("w1", &[]);
    eventually("it serves", SOON, async || running.is_beating()).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    world.load(100, 10).await;
    let waiting = world.worker("w2", &[]);
    let again = |log: &str, message| {
        lines(log, message)
            .iter()
            .any(|line| line["for_s"].as_u64() >= Some(60))
    };
    eventually("the one that ran says it again", A_MINUTE, async || {
        let log = running.log();
        again(&log, "store is still away") && again(&log, "reading is still paused")
    })
    .await;
    eventually("the one that waits says it again", A_MINUTE, async || {
        let log = waiting.log();
        again(&log, "store is still away") && again(&log, "nothing is read yet: stores are waited for")
    })
    .await;
    let still = &lines(&running.log(), "store is still away")[0];
    assert_eq!(still["store"], "ClickHouse");
    assert!(
        still["error"].as_str().unwrap().contains("ClickHouse: "),
        "{still}"
    );
    assert_eq!(lines(&running.log(), "store is away").len(), 1);
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(Duration::from_mins(1)).await;
}

#[tokio::test]
async fn a_clickhouse_that_stands_still_is_told_within_seconds_and_ends_no_request() {
    let world = World::start().await;
    let address = address();
    let worker = world.worker("w1", &[("METRICS_LISTEN", &address)]);
    let mut sent = world.load(100, 10).await;
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().pause().await.unwrap();
    let began = Instant::now();
    sent.extend(world.load(100, 10).await);
    eventually("the log says so", SOON, async || {
        !lines(&worker.log(), SAID).is_empty()
    })
    .await;
    // Requests are given up after half a minute, three times.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert!(lines(&worker.log(), SAID)[0]["for_s"].as_u64() >= Some(8));
    let unanswered = "store_unanswered_since_timestamp_seconds{store=\"clickhouse\"}";
    eventually("its numbers say so", SOON, async || {
        let now = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
        let since = number(&scrape(&address).await, unanswered);
        since.is_some_and(|since| (7.9..60.0).contains(&(now - since)))
    })
    .await;
    let heartbeat = world.path("w1.heartbeat.json");
    eventually("its heartbeat says so", SOON, async || {
        let note = std::fs::read_to_string(&heartbeat).unwrap_or_default();
        note.contains("\"state\":\"paused\"") && note.contains("no answer for")
    })
    .await;
    eventually("its report says so", SOON, async || {
        let report: String = ask(&world, "HGET", &["processor:instances", "w1"]).await;
        let report: Value = serde_json::from_str(&report).unwrap();
        report["unanswered_s"]["ClickHouse"].as_u64() >= Some(8) && report["state"] == "paused"
    })
    .await;
    world.stack.clickhouse().unwrap().resume().await.unwrap();
    eventually("it answers again", SOON, async || {
        !lines(&worker.log(), "ClickHouse answers again").is_empty()
            && number(&scrape(&address).await, unanswered).is_none()
    })
    .await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert!(
        lines(&worker.log(), "store is away").is_empty(),
        "{}",
        worker.log()
    );
}

/// Every line is JSON; the first one says what runs where, and what is misspelt is told.
fn begins_as_it_should(log: &str) {
    let all: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let first = &all[0];
    assert_eq!(first["message"], "starting");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&first["roles"], &first["consumer"]),
        (&"consume,dlq".into(), &"w1".into())
    );
    for store in ["redis", "postgresql", "clickhouse"] {
        assert!(
            first[store].as_str().unwrap().starts_with("127.0.0.1:"),
            "{first}"
        );
    }
    let misspelt = all
        .iter()
        .find(|line| line["message"].to_string().contains("PROCESSOR_BATCHSIZE"));
    let misspelt = misspelt.unwrap();
    assert!(
        misspelt["level"] == "WARN"
            && misspelt["message"]
                .to_string()
                .contains("is PROCESSOR_BATCH_SIZE meant?"),
        "{misspelt}"
    );
}

#[tokio::test]
async fn a_log_begins_with_what_runs_where_and_holds_what_an_operator_can_paste() {
    let world = World::start().await;
    let mut worker = world.worker(
        "w1",
        &[("PROCESSOR_ROLES", "consume,dlq"), ("PROCESSOR_BATCHSIZE", "7")],
    );
    eventually("it serves", SOON, async || worker.is_beating()).await;
    world.event("d", &[]).await;
    let refused = world
        .add(&[
            ("project_id", "no such"),
            ("event_name", "e"),
            ("distinct_id", "d"),
        ])
        .await;
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    world.event("d", &[]).await;
    let entry = world.event("d", &[]).await;
    assert!(!entry.is_nil());
    eventually("a batch is set aside", SOON, async || {
        !lines(&worker.log(), ASIDE).is_empty()
    })
    .await;
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());

    begins_as_it_should(&worker.log());
    let log = worker.log();
    let aside = &lines(&log, ASIDE)[0];
    for field in ["first_entry", "last_entry"] {
        let id = aside[field].as_str().unwrap();
        let found: Vec<redis::Value> = redis::cmd("XRANGE")
            .arg(&["events:incoming", id, id])
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
        assert_eq!(found.len(), 1, "{field} {id} of {refused}");
    }
    let refusal = &lines(&log, "events refused: see the stream events:rejected")[0];
    assert_eq!(refusal["reasons"], "invalid_project_id: 1");
    let consuming = &lines(&log, "consuming")[0];
    assert_eq!(consuming["streams"], "events:incoming");
}

#[test]
fn what_is_wrong_with_a_configuration_is_a_line_of_the_workers_log_like_all_others() {
    let output = std::process::Command::new(crate::support::BIN)
        .arg("run")
        .env_clear()
        .env("PROCESSOR_BATCH_SIZE", "many")
        .env("LOG_LEVEL", "warning")
        .env("LOG_FORMAT", "json")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    let told: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let messages: Vec<&str> = told
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].starts_with("configuration: PROCESSOR_BATCH_SIZE=many is not accepted"));
    assert!(messages[1].starts_with("configuration: LOG_LEVEL=warning is not accepted"));
}
