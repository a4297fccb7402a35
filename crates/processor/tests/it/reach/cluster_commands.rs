//! Commands on a Redis Cluster, where queues, locks and persons have nodes of their own.

use serde_json::{Value, json};
use uuid::Uuid;

use super::clustered::{Clustered, STREAMS};
use crate::support::{PROJECT, QUEUE, REJECTED};

/// Adds a letter and returns its id and that of its event.
async fn letter(clustered: &Clustered, queue: &str, reason: &str) -> (String, Uuid) {
    let event = Uuid::new_v4();
    let data = json!({"event_id": event, "project_id": PROJECT, "distinct_id": "d"}).to_string();
    let fields = [queue, "*", "data", &data, "reason", reason];
    (clustered.ask("XADD", &fields).await, event)
}

#[tokio::test]
async fn letters_are_corrected_and_replayed_on_a_cluster() {
    let clustered = Clustered::start(0).await;
    let cluster = &clustered.cluster;
    // Each of the queues has a node of its own, and so has the lock.
    for (node, key) in [QUEUE, REJECTED, "dlq:replay:lock"].into_iter().enumerate() {
        let slot = cluster.slot_of(key).await.unwrap();
        if cluster.owner_of_slot(slot).await.unwrap() != node {
            cluster.move_slot(slot, node).await.unwrap();
        }
    }
    let mut events = std::collections::BTreeSet::new();
    for (queue, reason) in [(REJECTED, "missing_fields"), (QUEUE, "clickhouse_unavailable")] {
        let (id, event) = letter(&clustered, queue, reason).await;
        events.insert(event);
        let mut correct = vec!["dlq", "correct", &id, "--set", "event_name=right"];
        correct.extend((queue == REJECTED).then_some("--rejected"));
        let (ok, text) = clustered.run(&correct);
        assert!(ok, "{text}");
        let again = clustered.run(&correct);
        assert!(!again.0, "it is gone: {}", again.1);
    }
    let (rows, landed) = clustered.rows().await;
    assert_eq!((rows, landed), (2, events));
    for queue in [QUEUE, REJECTED] {
        assert_eq!(clustered.ask::<u64>("XLEN", &[queue]).await, 0, "{queue}");
    }
}

#[tokio::test]
async fn check_send_status_and_audit_work_on_a_cluster() {
    let clustered = Clustered::start(0).await;
    let file = clustered.world.path("events.ndjson");
    let lines: Vec<String> = (0..300)
        .map(|n| {
            json!({"project_id": PROJECT, "event": "e", "event_name": "e", "distinct_id": format!("d{n}")})
                .to_string()
        })
        .collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let (ok, text) = clustered.run(&["send", file.to_str().unwrap()]);
    assert!(ok, "{text}");
    let mut lengths = Vec::new();
    for stream in STREAMS {
        lengths.push(clustered.ask::<u64>("XLEN", &[stream]).await);
    }
    assert_eq!(lengths.iter().sum::<u64>(), 300);
    let worker = clustered.worker("w1");
    clustered.settled().await;
    let (ok, text) = clustered.check();
    assert!(ok, "{text}");
    let (ok, text) = clustered.run(&["status", "--limit", "60", "--json"]);
    let status: Value = serde_json::from_str(text.lines().next().unwrap_or_default())
        .or_else(|_| serde_json::from_str(&text))
        .unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(ok, "{text}");
    for (stream, length) in lengths.iter().enumerate() {
        assert_eq!(status["streams"][stream]["length"], *length, "{text}");
    }
    let (ok, text) = clustered.run(&["person", "audit"]);
    assert!(ok, "{text}");
    assert!(!worker.log().contains("CROSSSLOT"), "{}", worker.log());
}

#[tokio::test]
async fn check_tells_which_node_would_remove_events() {
    let clustered = Clustered::start(0).await;
    let policy = ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"];
    clustered.cluster.ask(1, &policy).await.unwrap();
    let node = format!(
        "127.0.0.1:{}: maxmemory-policy is allkeys-lru",
        clustered.cluster.nodes()[1].port()
    );
    let (ok, text) = clustered.check();
    assert!(!ok && text.contains(&node), "{text}");
    assert!(text.matches("takes writes").count() == 1, "{text}");
}

#[tokio::test]
async fn whoever_takes_a_cluster_for_a_server_or_a_server_for_a_cluster_is_told() {
    let clustered = Clustered::start(0).await;
    let not_the_owner = (clustered.cluster.owner_of("processor:probe").await.unwrap() + 1) % 3;
    let one = clustered.cluster.nodes()[not_the_owner].url();
    let (ok, text) = clustered.world.check(&[("REDIS_URL", &one)]);
    assert!(!ok && text.contains("write redis-cluster:// in it"), "{text}");
    let alone = clustered
        .world
        .stack
        .redis_url()
        .unwrap()
        .replace("redis://", "redis-cluster://");
    let (ok, text) = clustered.world.check(&[("REDIS_URL", &alone)]);
    assert!(
        !ok && text.contains("none of a cluster: write redis://"),
        "{text}"
    );
}
