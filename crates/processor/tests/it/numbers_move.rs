//! Every number that docs/operations.md names is moved by something, here or in the test of what it counts.

use std::time::Duration;

use redis::AsyncCommands;

use crate::support::metrics::{address, number, scrape};
use crate::support::{GROUP, PROJECT, SOON, STREAM, World, ask, eventually};

/// Waits until a number is as it should be.
async fn is(address: &str, name: &str, right: impl Fn(f64) -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    loop {
        let last = scrape(address).await;
        if number(&last, name).is_some_and(&right) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{name} in vain: {last}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn exactly(value: f64) -> impl Fn(f64) -> bool {
    move |n| (n - value).abs() < f64::EPSILON
}

async fn is_absent(address: &str, name: &str) {
    eventually(&format!("{name} is absent"), SOON, async || {
        let text = scrape(address).await;
        text.contains("qurvo_processor_build_info") && number(&text, name).is_none()
    })
    .await;
}

fn now() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1000.0
}

fn is_of_late(seconds: f64) -> bool {
    (now() - 120.0..=now() + 1.0).contains(&seconds)
}

#[tokio::test]
async fn what_is_read_resolved_and_inserted_is_counted() {
    let world = World::start().await;
    let address = address();
    let _worker = world.worker("w1", &[("METRICS_LISTEN", &address)]);
    let at = address.as_str();
    is(at, "sample_timestamp_seconds", is_of_late).await;
    world.event("visitor", &[]).await;
    world.settled(SOON).await;
    world.event("visitor", &[]).await;
    world.identify("customer", "visitor").await;
    world.settled(SOON).await;
    is(at, "entries_read_total{delivery=\"first\"}", |n| n >= 3.0).await;
    is(at, "read_bytes_total", |n| n > 300.0).await;
    is(at, "rows_inserted_total", |n| n >= 3.0).await;
    is(at, "inserted_bytes_total", |n| n > 300.0).await;
    is(at, "person_lookups_total{outcome=\"asked\"}", |n| n >= 1.0).await;
    is(at, "person_lookups_total{outcome=\"remembered\"}", |n| n >= 1.0).await;
    is(at, "distinct_ids_redirected_total", |n| n >= 1.0).await;
    is(at, "event_age_seconds_count", |n| n >= 3.0).await;
    is(at, "event_age_seconds_sum", |n| n > 0.0).await;
    for stage in ["decode", "identity", "land", "acknowledge"] {
        is(
            at,
            &format!("stage_duration_seconds_count{{stage=\"{stage}\"}}"),
            |n| n >= 1.0,
        )
        .await;
    }
    is(
        at,
        &format!(
            "build_info{{consumer=\"w1\",version=\"{}\"}}",
            env!("CARGO_PKG_VERSION")
        ),
        exactly(1.0),
    )
    .await;
    is(at, "heartbeat_timestamp_seconds", is_of_late).await;
    let text = scrape(at).await;
    for name in [
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_max_fds",
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_threads",
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        let value: f64 = line
            .and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_default();
        assert!(value > 0.0, "{name}: {text}");
    }
}

#[tokio::test]
async fn what_others_have_read_or_left_is_seen() {
    let world = World::start().await;
    let address = address();
    let at = address.as_str();
    let environment = [
        ("METRICS_LISTEN", at),
        ("PROCESSOR_ROLES", "dlq"),
        ("PROCESSOR_CLAIM_IDLE_MS", "600000"),
    ];
    let worker = world.worker("idle", &environment);
    is(at, "stream_lag_known{stream=\"events:incoming\"}", exactly(1.0)).await;
    is_absent(
        at,
        "stream_oldest_pending_timestamp_seconds{stream=\"events:incoming\"}",
    )
    .await;
    for n in 0..3 {
        world.event(&format!("d{n}"), &[]).await;
    }
    let _read: redis::Value = ask(
        &world,
        "XREADGROUP",
        &["GROUP", GROUP, "another", "COUNT", "1", "STREAMS", STREAM, ">"],
    )
    .await;
    is(
        at,
        "stream_pending_entries{stream=\"events:incoming\"}",
        exactly(1.0),
    )
    .await;
    is(
        at,
        "stream_oldest_pending_timestamp_seconds{stream=\"events:incoming\"}",
        is_of_late,
    )
    .await;
    is(at, "stream_lag_entries{stream=\"events:incoming\"}", exactly(2.0)).await;
    is(at, "stream_lag_seconds{stream=\"events:incoming\"}", |n| n > 0.0).await;
    // Where an entry is missing, Redis cannot say how many there are.
    let last = crate::support::entries(&world, STREAM).await.pop().unwrap().id;
    let _gone: u64 = ask(&world, "XDEL", &[STREAM, &last]).await;
    is(at, "stream_lag_known{stream=\"events:incoming\"}", exactly(0.0)).await;
    is_absent(at, "stream_lag_entries{stream=\"events:incoming\"}").await;
    let mut redis = world.redis.clone();
    let _set: () = redis.set("dlq:replay:failures", 3).await.unwrap();
    let _set: () = redis.set_ex("dlq:replay:circuit", 1, 600).await.unwrap();
    is(at, "replay_failures", exactly(3.0)).await;
    is(at, "replay_circuit_open", exactly(1.0)).await;
    is(at, "sample_errors_total", exactly(0.0)).await;
    let _set: () = redis.set("events:rejected", "no stream").await.unwrap();
    is(at, "sample_errors_total", |n| n >= 1.0).await;
    drop(worker);
}

#[tokio::test]
async fn entries_that_are_delivered_again_or_are_gone_are_counted() {
    let world = World::start().await;
    let _made: String = ask(&world, "XGROUP", &["CREATE", STREAM, GROUP, "0", "MKSTREAM"]).await;
    for n in 0..2 {
        world.event(&format!("d{n}"), &[]).await;
    }
    let _read: redis::Value = ask(
        &world,
        "XREADGROUP",
        &["GROUP", GROUP, "dead", "STREAMS", STREAM, ">"],
    )
    .await;
    let first = crate::support::entries(&world, STREAM).await.remove(0).id;
    let _gone: u64 = ask(&world, "XDEL", &[STREAM, &first]).await;
    let address = address();
    let _worker = world.worker(
        "w1",
        &[("METRICS_LISTEN", &address), ("PROCESSOR_CLAIM_IDLE_MS", "500")],
    );
    is(&address, "entries_read_total{delivery=\"again\"}", |n| n >= 1.0).await;
    is(&address, "entries_lost_upstream_total", |n| n >= 1.0).await;
    is(&address, "events_settled_total", exactly(1.0)).await;
}

#[tokio::test]
async fn what_waits_for_a_store_is_seen_while_it_waits() {
    let world = World::start().await;
    let address = address();
    let at = address.as_str();
    let environment = [
        ("METRICS_LISTEN", at),
        ("PROCESSOR_BATCH_SIZE", "10"),
        ("PROCESSOR_MAX_BATCH_SIZE", "10"),
        ("PROCESSOR_BACKPRESSURE_THRESHOLD", "200"),
    ];
    let _worker = world.worker("w1", &environment);
    world.event("first", &[]).await;
    world.settled(SOON).await;
    let postgres = world.stack.postgres().unwrap();
    postgres.pause().await.unwrap();
    for n in 0..500 {
        world.event(&format!("d{n}"), &[]).await;
    }
    is(at, "resolving_events", |n| n > 0.0).await;
    is(at, "held_events", |n| n >= 10.0).await;
    is(at, "held_bytes", |n| n > 0.0).await;
    postgres.resume().await.unwrap();
    world.settled(Duration::from_mins(1)).await;
    is(at, "resolving_events", exactly(0.0)).await;
    is(at, "stage_duration_seconds_count{stage=\"full\"}", |n| n >= 1.0).await;
    let clickhouse = world.stack.clickhouse().unwrap();
    clickhouse.stop().await.unwrap();
    world.event("late", &[]).await;
    is(at, "store_away{store=\"clickhouse\"}", exactly(1.0)).await;
    is(at, "attempts_failed_in_a_row{store=\"clickhouse\"}", |n| n >= 3.0).await;
    is(at, "dead_letter_oldest_timestamp_seconds", is_of_late).await;
    clickhouse.start().await.unwrap();
    is(at, "dead_letters_replayed_total", |n| n >= 1.0).await;
    is(at, "attempts_failed_in_a_row{store=\"clickhouse\"}", exactly(0.0)).await;
    is_absent(at, "dead_letter_oldest_timestamp_seconds").await;
}

#[tokio::test]
async fn a_run_over_cohorts_is_timed_and_its_lock_is_seen() {
    let world = World::start().await;
    let address = address();
    let at = address.as_str();
    let definition =
        r#"{"type":"AND","values":[{"type":"person_property","property":"p","operator":"is_not_set"}]}"#;
    let id = uuid::Uuid::new_v4();
    world
        .pg(&format!(
            "INSERT INTO users (id, email, password_hash, display_name) VALUES ('{id}', 'a', '', '');
             INSERT INTO cohorts (id, project_id, created_by, name, definition)
             VALUES ('{id}', '{PROJECT}', '{id}', 'everybody', '{definition}')"
        ))
        .await;
    let environment = [("METRICS_LISTEN", at), ("COHORT_INITIAL_DELAY_MS", "3000")];
    let _worker = world.worker("w1", &environment);
    is(at, "lock_held{lock=\"cohort_membership:lock\"}", exactly(0.0)).await;
    is(at, "state{state=\"serving\"}", exactly(1.0)).await;
    let clickhouse = world.stack.clickhouse().unwrap();
    clickhouse.pause().await.unwrap();
    is(at, "lock_held{lock=\"cohort_membership:lock\"}", exactly(1.0)).await;
    clickhouse.resume().await.unwrap();
    is(at, "cohorts_total{outcome=\"computed\"}", exactly(1.0)).await;
    is(at, "cohort_duration_seconds_count", exactly(1.0)).await;
    is(at, "cohort_run_duration_seconds_count", exactly(1.0)).await;
    is(at, "lock_held{lock=\"cohort_membership:lock\"}", exactly(0.0)).await;
}

#[test]
fn every_number_of_the_page_is_named_in_a_test() {
    let page = include_str!("../../../../docs/operations.md");
    let names = page.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once('`')?;
        let is_metric = [" | counter |", " | gauge |", " | histogram |"]
            .iter()
            .any(|kind| rest.starts_with(kind));
        is_metric.then(|| name.strip_prefix("qurvo_processor_").unwrap_or(name))
    });
    let mut sources = String::new();
    let folders =
        ["/tests/it", "/src/identity"].map(|folder| format!("{}{folder}", env!("CARGO_MANIFEST_DIR")));
    let mut folders: Vec<std::path::PathBuf> = folders.into_iter().map(Into::into).collect();
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 50, "{names:?}");
    let in_no_test: Vec<&&str> = names
        .iter()
        .filter(|name| {
            let begins = ["\"", "qurvo_processor_", "\\n"].iter().any(|before| {
                ["\"", "{", "_count", "_sum", " "]
                    .iter()
                    .any(|behind| sources.contains(&format!("{before}{name}{behind}")))
            });
            !begins
        })
        .collect();
    assert!(in_no_test.is_empty(), "{in_no_test:?}");
}
