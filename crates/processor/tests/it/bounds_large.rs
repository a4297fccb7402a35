//! Entries and letters of megabytes: how many of them there are takes no more memory.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::aio::ConnectionManagerConfig;
use uuid::Uuid;

use crate::bounds::{lands, stays_below, stays_small};
use crate::support::{PROJECT, STREAM, World};

const MEGABYTE: usize = 1 << 20;
/// Megabytes of memory with letters of 15: measured are 173 to 181.
const LETTERS: u64 = 200;

/// Texts of a plain event with so many megabytes of properties.
fn large_event(event_id: Uuid, distinct_id: &str, megabytes: usize) -> Vec<(String, String)> {
    let properties = format!(r#"{{"text":"{}"}}"#, "x".repeat(megabytes * MEGABYTE));
    [
        ("event_id", event_id.to_string()),
        ("project_id", PROJECT.to_owned()),
        ("event_name", "large".to_owned()),
        ("distinct_id", distinct_id.to_owned()),
        ("properties", properties),
    ]
    .map(|(name, text)| (name.to_owned(), text))
    .to_vec()
}

/// Appends an entry, however long the server takes to write it down.
async fn add(world: &World, stream: &str, fields: &[(String, String)]) {
    let settings = ConnectionManagerConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
    let client = redis::Client::open(world.stack.redis_url().unwrap()).unwrap();
    let mut redis = client.get_connection_manager_with_config(settings).await.unwrap();
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("*");
    for (name, text) in fields {
        command.arg(name).arg(text);
    }
    let _id: String = command.query_async(&mut redis).await.unwrap();
}

#[tokio::test]
async fn many_large_entries_take_no_more_memory_than_a_few() {
    let world = World::start().await;
    let mut sent = BTreeSet::new();
    for n in 0..15 {
        let event_id = Uuid::new_v4();
        add(&world, STREAM, &large_event(event_id, &format!("d{}", n % 5), 15)).await;
        sent.insert(event_id);
    }
    let neighbour = world.event("neighbour", &[]).await;
    sent.insert(neighbour);
    let worker = world.worker("w1", &[]);
    world.settled(Duration::from_mins(1)).await;
    lands(&world, &worker, neighbour).await;
    world.holds_exactly(&sent).await;
    stays_small(&worker);
}

#[tokio::test]
async fn events_of_very_many_keys_land_and_nobody_looks_into_them() {
    let world = World::start().await;
    let worker = world.worker("w1", &[]);
    for count in [100_000, 400_000] {
        let members: Vec<String> = (0..count).map(|n| format!(r#""key {n}":{n}"#)).collect();
        let object = format!("{{{}}}", members.join(","));
        for (field, text) in [
            ("properties", object.clone()),
            ("properties", format!(r#"{{"$set":{object}}}"#)),
            ("user_properties", object.clone()),
            ("user_properties", format!(r#"{{"$set_once":{object},"name":1}}"#)),
        ] {
            let event = Uuid::new_v4();
            let mut fields = large_event(event, "many keys", 0);
            fields.retain(|(name, _)| name != "properties");
            fields.push((field.to_owned(), text));
            add(&world, STREAM, &fields).await;
            let neighbour = world
                .event("neighbour", &[("user_properties", r#"{"x":1}"#)])
                .await;
            lands(&world, &worker, event).await;
            lands(&world, &worker, neighbour).await;
        }
    }
    let keys = "SELECT count(*) FROM persons, jsonb_object_keys(properties)";
    assert_eq!(world.pg(keys).await, ["1"]);
    stays_small(&worker);
}

#[tokio::test]
async fn many_large_letters_are_replayed_a_few_at_a_time() {
    let world = World::start().await;
    let mut sent = BTreeSet::new();
    for n in 0..12 {
        let event_id = Uuid::new_v4();
        let fields = large_event(event_id, &format!("d{}", n % 5), 15);
        let fields: serde_json::Map<String, serde_json::Value> = fields
            .into_iter()
            .map(|(name, text)| (name, text.into()))
            .collect();
        let data = serde_json::Value::Object(fields).to_string();
        add(&world, "events:dlq", &[("data".to_owned(), data)]).await;
        sent.insert(event_id);
    }
    let worker = world.worker("w1", &[("DLQ_REPLAY_INTERVAL_MS", "300")]);
    let neighbour = world.event("neighbour", &[]).await;
    sent.insert(neighbour);
    lands(&world, &worker, neighbour).await;
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&sent).await;
    stays_below(&worker, LETTERS);
    let (ok, text) = world.run(&["dlq", "list"], &[]);
    assert!(ok, "{text}");
}

#[tokio::test]
async fn large_entries_are_set_aside_within_the_same_bounds() {
    let world = World::start().await;
    let mut sent = BTreeSet::new();
    let worker = world.worker("w1", &[]);
    sent.insert(world.event("first", &[]).await);
    world.settled(Duration::from_secs(30)).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    for n in 0..12 {
        let event_id = Uuid::new_v4();
        add(&world, STREAM, &large_event(event_id, &format!("d{}", n % 5), 15)).await;
        sent.insert(event_id);
    }
    crate::support::eventually("letters are there", Duration::from_mins(1), async || {
        world.length("events:dlq").await >= Some(1)
    })
    .await;
    stays_small(&worker);
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&sent).await;
    let left: Vec<String> = redis::cmd("KEYS")
        .arg("events:dlq:*")
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    assert_eq!(left, Vec::<String>::new());
    stays_below(&worker, LETTERS);
}
