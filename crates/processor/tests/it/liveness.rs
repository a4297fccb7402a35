//! Whoever waits is alive, and shows it; nobody touches another's sign of life.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{PROJECT, SOON, STREAM, World, eventually};

/// Milliseconds since the heartbeat in a file; nothing without one.
fn age(heartbeat: &Path) -> Option<i64> {
    let beat: i64 = std::fs::read_to_string(heartbeat).ok()?.parse().ok()?;
    Some(jiff::Timestamp::now().as_millisecond() - beat)
}

/// The oldest that a heartbeat gets while it is watched.
async fn oldest(heartbeat: &Path, watched: Duration) -> i64 {
    let (began, mut oldest) = (Instant::now(), 0);
    while began.elapsed() < watched {
        oldest = oldest.max(age(heartbeat).unwrap_or(i64::MAX));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    oldest
}

#[tokio::test]
async fn a_worker_that_waits_for_a_store_at_its_start_is_alive_and_an_old_heartbeat_says_nothing() {
    let world = World::start().await;
    let stack = &world.stack;
    let heartbeat = world.path("w1.heartbeat");
    for store in [
        stack.redis().unwrap(),
        stack.postgres().unwrap(),
        stack.clickhouse().unwrap(),
    ] {
        store.stop().await.unwrap();
        std::fs::write(&heartbeat, "1").unwrap();
        let mut worker = world.worker("w1", &[("HEARTBEAT_STALE_MS", "2000")]);
        eventually("a heartbeat of its own", SOON, async || {
            age(&heartbeat).is_some_and(|age| age < 60_000)
        })
        .await;
        let oldest = oldest(&heartbeat, Duration::from_secs(4)).await;
        assert!(
            oldest < 3_000,
            "{:?}: {oldest} ms\n{}",
            store.kind(),
            worker.log()
        );
        assert!(!worker.is_beating(), "it waits: {}", worker.log());
        store.start().await.unwrap();
        eventually("it goes on", SOON, async || worker.is_beating()).await;
        worker.terminate();
        assert!(worker.ended(SOON).await.success(), "{}", worker.log());
        assert!(!heartbeat.exists(), "removed on a clean exit");
    }
    // Told to stop while it still waits.
    stack.clickhouse().unwrap().stop().await.unwrap();
    let mut worker = world.worker("w1", &[]);
    eventually("a heartbeat", SOON, async || heartbeat.exists()).await;
    worker.terminate();
    worker.ended(SOON).await;
    assert!(!heartbeat.exists());
}

#[tokio::test]
async fn the_heartbeat_of_another_instance_is_left_to_it() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[("HEARTBEAT_INTERVAL_MS", "60000")]);
    eventually("it runs", SOON, async || worker.is_beating()).await;
    let heartbeat = world.path("w1.heartbeat");
    std::fs::write(&heartbeat, "1764090000000").unwrap();
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    assert_eq!(std::fs::read_to_string(&heartbeat).unwrap(), "1764090000000");
}

/// The stages are full while ClickHouse hangs, and the reader is left with blocks that nobody takes.
#[tokio::test]
async fn a_reader_that_waits_for_full_stages_is_alive() {
    let world = World::start().await;
    let mut worker = world.worker(
        "w1",
        &[
            ("HEARTBEAT_STALE_MS", "8000"),
            ("PROCESSOR_BATCH_SIZE", "50"),
            ("PROCESSOR_MAX_BATCH_SIZE", "50"),
            ("PROCESSOR_BACKPRESSURE_THRESHOLD", "20000"),
        ],
    );
    world.load(50, 10).await;
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().pause().await.unwrap();
    let text = format!(r#"{{"text":"{}"}}"#, "x".repeat(15_000));
    let mut pipeline = redis::pipe();
    for _ in 0..1_500 {
        pipeline.cmd("XADD").arg(STREAM).arg("*");
        for (name, value) in [
            ("project_id", PROJECT),
            ("event_name", "large"),
            ("distinct_id", "anon-1"),
            ("properties", &text),
        ] {
            pipeline.arg(name).arg(value);
        }
        pipeline.ignore();
    }
    pipeline
        .query_async::<()>(&mut world.redis.clone())
        .await
        .unwrap();
    let heartbeat = world.path("w1.heartbeat");
    let oldest = oldest(&heartbeat, Duration::from_secs(20)).await;
    assert!(oldest < 4_000, "{oldest} ms\n{}", worker.log());
    assert!(worker.is_running());
    world.stack.clickhouse().unwrap().resume().await.unwrap();
    world.settled(Duration::from_mins(1)).await;
    assert_eq!(world.ch("SELECT count() FROM events").await, "1550");
}
