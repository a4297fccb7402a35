//! Keys whose slot is open: on its way from one node of a Redis Cluster to another for as long as its mover likes, and gone
//! from its owner, who still has the slot.

use redis::streams::StreamRangeReply;
use serde_json::json;

use super::clustered::{Clustered, LONG, STREAM};
use crate::support::{PROJECT, REJECTED, eventually};

const EVENTS: usize = 300;

/// Begins to move the slot of a key to the next node, and its keys with it.
async fn open(clustered: &Clustered, key: &str) -> usize {
    let cluster = &clustered.cluster;
    let slot = cluster.slot_of(key).await.unwrap();
    let from = cluster.owner_of_slot(slot).await.unwrap();
    let taker = (from + 1) % 3;
    let moving = cluster.begin_move(slot, taker).await.unwrap();
    moving.move_keys().await.unwrap();
    taker
}

/// Whether a node has a key, asked as clients are that the owner has sent there.
async fn has(clustered: &Clustered, node: usize, key: &str) -> bool {
    let client = redis::Client::open(clustered.nodes()[node].as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut pipeline = redis::pipe();
    pipeline.cmd("ASKING").ignore().cmd("EXISTS").arg(key);
    let (count,): (u64,) = pipeline.query_async(&mut connection).await.unwrap();
    count == 1
}

#[tokio::test]
async fn what_breaks_the_rules_is_set_aside_while_the_slot_of_its_queue_is_open() {
    let clustered = Clustered::start(0).await;
    let taker = open(&clustered, REJECTED).await;
    let worker = clustered.worker("w1");
    for _ in 0..EVENTS {
        let entry = [STREAM, "*", "project_id", PROJECT, "distinct_id", "d"];
        let _id: String = clustered.ask("XADD", &entry).await;
    }
    clustered.settled().await;
    assert_eq!(clustered.ask::<usize>("XLEN", &[REJECTED]).await, EVENTS);
    assert!(has(&clustered, taker, REJECTED).await);
    assert!(!worker.log().contains("ERROR"), "{}", worker.log());
}

#[tokio::test]
async fn events_are_sent_in_their_order_to_a_stream_whose_slot_is_open() {
    let clustered = Clustered::start(0).await;
    let taker = open(&clustered, STREAM).await;
    let lines: Vec<String> = (0..EVENTS)
        .map(|n| json!({"project_id": PROJECT, "event_name": n.to_string(), "distinct_id": "d"}).to_string())
        .collect();
    let file = clustered.world.path("events.ndjson");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let url = clustered.cluster.url();
    let environment = [("REDIS_URL", url.as_str()), ("PROCESSOR_STREAM", STREAM)];
    let (ok, text) = clustered
        .world
        .run(&["send", file.to_str().unwrap()], &environment);
    assert!(ok, "{text}");
    assert!(has(&clustered, taker, STREAM).await);
    let entries: StreamRangeReply = clustered.ask("XRANGE", &[STREAM, "-", "+"]).await;
    let names = entries.ids.iter().map(|entry| entry.get("event_name"));
    let wanted: Vec<Option<String>> = (0..EVENTS).map(|n| Some(n.to_string())).collect();
    assert_eq!(names.collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn a_worker_takes_and_keeps_its_name_while_the_slot_of_the_note_is_open() {
    let clustered = Clustered::start(0).await;
    let note = "processor:consumer:w1";
    let taker = open(&clustered, note).await;
    let mut worker = clustered.worker("w1");
    eventually("the name is noted", LONG, async || {
        has(&clustered, taker, note).await
    })
    .await;
    eventually("the worker serves", LONG, async || worker.is_beating()).await;
    let other = clustered.worker("w1");
    eventually("another one sees that it lives", LONG, async || {
        other
            .log()
            .contains("another living process has this consumer name")
    })
    .await;
    assert!(
        worker.is_beating() && !worker.log().contains("ERROR"),
        "{}",
        worker.log()
    );
    worker.kill();
}
