//! Each store away under load: nothing lost, nothing twice, and memory bounded.

use std::time::Duration;

use crate::support::{SOON, STREAM, World, eventually, stop_for};

const AWAY: Duration = Duration::from_secs(20);

#[tokio::test]
async fn clickhouse_away_for_twenty_seconds() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    let mut sent = world.load(3000, 20).await;
    let outage = stop_for(world.stack.clickhouse().unwrap(), AWAY);
    let load = async { world.load(5000, 20).await };
    let ((), more) = tokio::join!(outage, load);
    sent.extend(more);
    world.settled(Duration::from_mins(1)).await;
    assert!(worker.is_running(), "{}", worker.log());
    world.holds_exactly(&sent).await;
    assert_eq!(
        worker.log().matches("store is away").count(),
        1,
        "an outage is said once:\n{}",
        worker.log()
    );
}

#[tokio::test]
async fn postgres_away_for_twenty_seconds() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    let mut sent = world.load(3000, 20).await;
    let outage = stop_for(world.stack.postgres().unwrap(), AWAY);
    let load = async { world.load(5000, 400).await };
    let ((), more) = tokio::join!(outage, load);
    sent.extend(more);
    world.settled(Duration::from_mins(1)).await;
    assert!(worker.is_running(), "{}", worker.log());
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn redis_away_for_twenty_seconds() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    let mut sent = world.load(6000, 20).await;
    let before = worker.cpu_time();
    stop_for(world.stack.redis().unwrap(), AWAY).await;
    let spent = worker.cpu_time().checked_sub(before).unwrap();
    assert!(spent < AWAY / 4, "a busy loop would take more than {spent:?}");
    let attempts = worker.log().lines().count();
    assert!(attempts < 50, "{attempts} lines in the log");
    eventually("Redis answers", SOON, async || {
        redis::cmd("PING")
            .query_async::<()>(&mut world.redis.clone())
            .await
            .is_ok()
    })
    .await;
    sent.extend(world.load(2000, 20).await);
    world.settled(Duration::from_mins(1)).await;
    assert!(worker.is_running(), "{}", worker.log());
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn memory_stays_bounded_with_half_a_million_entries_waiting_and_clickhouse_down() {
    let world = World::start().await;
    let sent = world.load(500_000, 5_000).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    // As in production: asking every second about all that is held would be most of what is done.
    let mut worker = world.worker("w1", &[("PROCESSOR_CLAIM_IDLE_MS", "60000")]);
    // Without ClickHouse the worker does not even begin to read; so let it begin, then take ClickHouse away.
    world.stack.clickhouse().unwrap().start().await.unwrap();
    eventually("reading has begun", Duration::from_mins(1), async || {
        world.ch("SELECT count() FROM events").await != "0"
    })
    .await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let held = worker.peak_memory();
    assert!(held < 160 << 20, "{} MB while ClickHouse is away", held >> 20);
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(Duration::from_mins(4)).await;
    assert!(worker.is_running(), "{}", worker.log());
    world.holds_exactly(&sent).await;
    // What acknowledging leaves, the watch takes off a piece at a time.
    eventually(
        "consumed entries are trimmed off the stream",
        Duration::from_mins(1),
        async || world.length(STREAM).await.unwrap() < 60_000,
    )
    .await;
}
