//! Start, heartbeat, drain, exit codes, and what a worker must not do.

use std::time::{Duration, Instant};

use crate::holding::Holding;
use crate::reading_ahead;
use crate::support::{GROUP, SOON, STREAM, World, eventually};

#[tokio::test]
async fn sigterm_under_load_settles_what_is_held_and_leaves_nothing_pending() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    let sent = world.load(20_000, 100).await;
    eventually("rows land", SOON, async || {
        world.ch("SELECT count() FROM events").await != "0"
    })
    .await;
    worker.terminate();
    let status = worker.ended(Duration::from_secs(45)).await;
    assert!(status.success(), "{}", worker.log());
    let pending: redis::streams::StreamPendingReply = redis::cmd("XPENDING")
        .arg(STREAM)
        .arg(GROUP)
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    assert_eq!(pending.count(), 0);
    let consumers: redis::streams::StreamInfoConsumersReply = redis::cmd("XINFO")
        .arg("CONSUMERS")
        .arg(STREAM)
        .arg(GROUP)
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    assert!(consumers.consumers.is_empty(), "its consumer is removed");
    let _successor = world.worker("w2", &[]);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn a_drain_that_cannot_finish_leaves_entries_pending_and_exits_one() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[("SHUTDOWN_TIMEOUT_MS", "1500")]);
    let before = world.load(100, 10).await;
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    let during = world.load(500, 10).await;
    eventually("entries are held", SOON, async || {
        world.unsettled().await.is_some_and(|n| n >= 500)
    })
    .await;
    worker.terminate();
    let status = worker.ended(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(1), "{}", worker.log());
    assert!(worker.log().contains("\"left_pending\":500"), "{}", worker.log());
    world.stack.clickhouse().unwrap().start().await.unwrap();
    let _successor = world.worker("w2", &[]);
    world.settled(SOON).await;
    world
        .holds_exactly(&before.union(&during).copied().collect())
        .await;
}

#[tokio::test]
async fn a_drain_that_cannot_finish_ends_at_its_limit_also_where_no_room_is_left_for_a_reply() {
    let world = World::start().await;
    let port = world.stack.clickhouse().unwrap().port();
    let clickhouse = Holding::before(port, &["INSERT"]).await;
    clickhouse.hold();
    let sent = reading_ahead::load(&world, 5000).await;
    let url = format!("http://{}", clickhouse.address);
    let environment = [
        ("CLICKHOUSE_URL", url.as_str()),
        ("PROCESSOR_MAX_HELD_MB", "1"),
        ("SHUTDOWN_TIMEOUT_MS", "1500"),
    ];
    let mut worker = world.worker("w1", &environment);
    clickhouse.caught().await;
    worker.terminate();
    let status = worker.ended(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(1), "{}", worker.log());
    let _successor = world.worker("w1", &[]);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn a_drain_during_an_outage_sets_aside_what_is_held_and_exits_zero() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    let before = world.load(100, 10).await;
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    let during = world.load(500, 10).await;
    eventually("entries are held", SOON, async || {
        world.unsettled().await.is_some_and(|n| n >= 500)
    })
    .await;
    worker.terminate();
    let status = worker.ended(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", worker.log());
    assert!(world.length("events:dlq").await.unwrap() > 0);
    world.stack.clickhouse().unwrap().start().await.unwrap();
    let _successor = world.worker("w2", &[]);
    world.settled(SOON).await;
    world
        .holds_exactly(&before.union(&during).copied().collect())
        .await;
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    world.load(100, 10).await;
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    world.load(100, 10).await;
    eventually("entries are held", SOON, async || {
        world.unsettled().await.is_some_and(|n| n >= 100)
    })
    .await;
    worker.terminate();
    eventually("the drain begins", SOON, async || {
        worker.log().contains("draining")
    })
    .await;
    let second = Instant::now();
    worker.terminate();
    assert_eq!(worker.ended(Duration::from_secs(2)).await.code(), Some(1));
    assert!(second.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn the_worker_listens_on_no_socket() {
    let world = World::start().await;
    let worker = world.worker("w1", &[]);
    eventually("it consumes", SOON, async || {
        worker.log().contains("\"consuming\"")
    })
    .await;
    let own: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", worker.pid()))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    assert!(
        own.iter().any(|target| target.starts_with("socket:")),
        "its connections are seen"
    );
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let table = std::fs::read_to_string(format!("/proc/{}/net/{table}", worker.pid())).unwrap();
        for line in table.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let listens = columns[3] == "0A" || columns[2].ends_with(":0000") && columns[3] == "07";
            let inode = format!("socket:[{}]", columns[9]);
            assert!(!(listens && own.contains(&inode)), "a listening socket: {line}");
        }
    }
}

#[tokio::test]
async fn the_heartbeat_goes_on_through_an_outage_and_goes_with_the_worker() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[("HEARTBEAT_STALE_MS", "2000")]);
    let path = world.path("w1.heartbeat");
    let beat = || {
        std::fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
    };
    eventually("a first beat", SOON, async || beat().is_some()).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    world.load(100, 10).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let age = jiff::Timestamp::now().as_millisecond() - beat().unwrap();
    assert!(age < 3000, "{age} ms old in an outage\n{}", worker.log());
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    assert!(beat().is_none(), "removed on a clean exit");
}

#[tokio::test]
async fn a_stream_that_disappears_is_created_again() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    world.load(100, 10).await;
    world.settled(SOON).await;
    let _: () = redis::cmd("FLUSHALL")
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    let after = world.load(200, 10).await;
    world.settled(SOON).await;
    let stored = world.ch("SELECT count() FROM events").await;
    assert_eq!(stored, "300", "{} after the flush", after.len());
}

#[tokio::test]
async fn a_configuration_that_does_not_parse_exits_two_and_names_the_variable() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[("PROCESSOR_BATCH_SIZE", "many")]);
    assert_eq!(worker.ended(SOON).await.code(), Some(2));
    assert!(
        worker.log().contains("PROCESSOR_BATCH_SIZE=many"),
        "{}",
        worker.log()
    );
}

#[tokio::test]
async fn an_instance_that_has_read_nothing_leaves_without_speaking_of_pending_entries() {
    let world = World::start().await;
    let shared = [("PROCESSOR_STREAM_SHARE", "auto")];
    let first = world.worker("first", &shared);
    let sent = world.load(50, 5).await;
    world.settled(SOON).await;
    // The one stream has its reader.
    let mut second = world.worker("second", &shared);
    eventually("the second has begun", SOON, async || second.is_beating()).await;
    second.terminate();
    let ended = second.ended(SOON).await;
    assert!(
        ended.success() && !second.log().contains("consumer stays"),
        "{}",
        second.log()
    );
    world.holds_exactly(&sent).await;
    drop(first);
}
