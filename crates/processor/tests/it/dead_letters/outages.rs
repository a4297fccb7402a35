//! What becomes of events while a store is away.

use std::time::{Duration, Instant};

use serde_json::Value;
use uuid::Uuid;

use crate::support::letters::{event_data, letter, rows};
use crate::support::{QUEUE, SOON, STREAM, World, entries, eventually};

/// A letter says why it is there, and holds the whole row of its event.
fn explains_itself(entry: &redis::streams::StreamId, id: Uuid, person: &str, columns: &str) {
    let text = |name: &str| entry.get::<String>(name).unwrap();
    assert_eq!(
        (text("reason"), text("attempts"), text("consumer"), text("stream")),
        (
            "clickhouse_unavailable".into(),
            "3".into(),
            "w1".into(),
            STREAM.into()
        )
    );
    assert!(text("error").contains("ClickHouse") && text("failed_at").ends_with('Z'));
    assert!(text("stream_id").contains('-'));
    let data: Value = serde_json::from_str(&text("data")).unwrap();
    assert_eq!(data["event_id"], id.to_string());
    assert_eq!(data["properties"], r#"{"n":1.50}"#);
    assert_eq!(data["screen_width"], 1080);
    assert_eq!(data["person_id"], person, "its readers need not ask anybody");
    for column in columns.lines() {
        assert!(!data[column].is_null(), "{column} is missing in {data}");
    }
    assert!(data["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn what_a_store_does_not_take_is_set_aside_explained_and_replayed_when_it_is_back() {
    let world = World::start().await;
    let worker = world.worker("w1", &[]);
    world.event("d", &[]).await;
    world.settled(SOON).await;
    let person = world.persons_of("d").await[0].unwrap().to_string();
    let columns = world
        .ch("SELECT name FROM system.columns WHERE table = 'events' AND database = currentDatabase() AND name != 'ingested_at'")
        .await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    let id = world
        .event(
            "d",
            &[
                ("properties", r#"{"n":1.50}"#),
                ("screen_width", "1080"),
                ("user_agent", "agent"),
            ],
        )
        .await;
    eventually("it is set aside", SOON, async || {
        world.length(QUEUE).await == Some(1)
    })
    .await;
    eventually("it is acknowledged", SOON, async || {
        world.unsettled().await == Some(0)
    })
    .await;
    let entry = entries(&world, QUEUE).await.remove(0);
    explains_itself(&entry, id, &person, &columns);

    // While the store is away nothing more is read, and each change of state is said once.
    for _ in 0..10 {
        world.event("d", &[]).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        world.length(QUEUE).await,
        Some(1),
        "the stream is not poured through a closed door"
    );
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(SOON).await;
    assert_eq!(rows(&world, id).await, "1");
    assert_eq!(
        world.ch("SELECT count(), uniqExact(event_id) FROM events").await,
        "12\t12"
    );
    for said in [
        "store is away",
        "set aside as dead letters",
        "reading pauses",
        "reading goes on",
        "dead letters replayed",
    ] {
        assert_eq!(worker.log().matches(said).count(), 1, "{said}: {}", worker.log());
    }
}

#[tokio::test]
async fn sixty_seconds_without_clickhouse_under_load_and_with_a_full_queue_lose_nothing() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[("DLQ_MAXLEN", "300")]);
    let mut sent = world.load(2_000, 100).await;
    world.settled(SOON).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    for _ in 0..300 {
        let id = Uuid::new_v4();
        letter(&world, &event_data(id, "d", "")).await;
        sent.insert(id);
    }
    let started = Instant::now();
    while started.elapsed() < Duration::from_mins(1) {
        sent.extend(world.load(500, 100).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(
            world.length(QUEUE).await,
            Some(300),
            "a full queue takes nothing and loses nothing"
        );
    }
    assert!(worker.log().contains("queue is full"), "{}", worker.log());
    world.stack.clickhouse().unwrap().start().await.unwrap();
    let back = Instant::now();
    world.settled(Duration::from_mins(2)).await;
    assert!(worker.is_running(), "{}", worker.log());
    assert!(
        back.elapsed() < Duration::from_mins(1),
        "caught up after {:?}",
        back.elapsed()
    );
    println!("{} events, caught up after {:?}", sent.len(), back.elapsed());
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn without_postgres_nothing_lands_half_done_and_everything_lands_afterwards() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    world.event("known", &[]).await;
    world.settled(SOON).await;
    world.stack.postgres().unwrap().stop().await.unwrap();
    let set = [("user_properties", r#"{"plan":"pro"}"#)];
    let id = world.event("somebody new", &set).await;
    eventually("it is set aside", SOON, async || {
        world.length(QUEUE).await == Some(1)
    })
    .await;
    assert_eq!(rows(&world, id).await, "0");
    let reason: String = entries(&world, QUEUE).await[0].get("reason").unwrap();
    assert_eq!(reason, "postgresql_unavailable");
    world.stack.postgres().unwrap().start().await.unwrap();
    world.settled(SOON).await;
    assert_eq!(rows(&world, id).await, "1");
    assert_eq!(
        world
            .pg("SELECT properties::text FROM persons WHERE properties <> '{}'")
            .await,
        [r#"{"plan": "pro"}"#]
    );
}
