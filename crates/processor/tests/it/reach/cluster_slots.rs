//! Slots that stay on their way between two nodes, and nodes that are named elsewhere.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use super::clustered::{Clustered, LONG, STREAM, STREAMS};
use crate::support::metrics::{address, number, scrape};
use crate::support::{PROJECT, eventually};

fn status(clustered: &Clustered) -> (bool, Value) {
    let (ok, text) = clustered.run(&["status", "--limit", "60", "--json"]);
    (ok, serde_json::from_str(text.lines().next().unwrap()).unwrap())
}

#[tokio::test]
async fn a_slot_that_stays_open_is_told_by_check_status_and_a_number_until_its_move_is_ended() {
    let clustered = Clustered::start(0).await;
    let (cluster, metrics) = (&clustered.cluster, address());
    let _worker = clustered.bounded("w1", &[("METRICS_LISTEN", &metrics)]);
    let open = async || number(&scrape(&metrics).await, "redis_open_slots");
    eventually("no slot is open", LONG, async || open().await == Some(0.0)).await;
    let (fine, said) = clustered.check();
    assert!(fine && said.contains("open slots  ok  none"), "{said}");

    let slot = cluster.slot_of(STREAM).await.unwrap();
    let from = cluster.owner_of_slot(slot).await.unwrap();
    let to = (from + 1) % 3;
    let moving = cluster.begin_move(slot, to).await.unwrap();
    let node = |node: usize| format!("127.0.0.1:{}", cluster.nodes()[node].port());
    let told = format!(
        "slot {slot} ({STREAM}) is open, on its way from {} to {}",
        node(from),
        node(to)
    );
    let (fine, said) = clustered.check();
    assert!(
        fine && said.contains(&format!("open slots  warning  {told}")),
        "{said}"
    );
    let (_, now) = status(&clustered);
    let mut both = [node(from), node(to)];
    both.sort();
    assert_eq!(
        now["open_slots"],
        json!([{"slot": slot, "from": node(from), "to": node(to), "said_by": both}])
    );
    let (_, table) = clustered.run(&["status", "--limit", "60"]);
    assert!(
        table.contains(&told) && table.contains("redis-cli --cluster fix"),
        "{table}"
    );
    eventually("a number says so", LONG, async || open().await == Some(1.0)).await;

    // Given up when it had all but ended: one node alone knows of it.
    cluster
        .ask(from, &["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"])
        .await
        .unwrap();
    let (_, said) = clustered.check();
    let told = format!("as {} alone says", node(to));
    assert!(said.contains(&told), "{told}: {said}");
    cluster
        .ask(to, &["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"])
        .await
        .unwrap();
    drop(moving);
    eventually("no slot is open any more", LONG, async || {
        open().await == Some(0.0)
    })
    .await;
    assert_eq!(status(&clustered).1["open_slots"], json!([]));
}

#[tokio::test]
async fn a_stream_whose_keys_stay_at_two_nodes_is_an_outage_until_its_move_is_ended() {
    let clustered = Clustered::start(0).await;
    let cluster = &clustered.cluster;
    let worker = clustered.worker("w1");
    let sent = BTreeSet::from([Uuid::from_u128(1), Uuid::from_u128(2)]);
    let add = async |event: &Uuid| {
        let (id, fixed) = (
            event.to_string(),
            ["project_id", PROJECT, "event_name", "e", "distinct_id", "d"],
        );
        let entry = [&[STREAM, "*", "event_id", &id][..], &fixed].concat();
        let _entry: String = clustered.ask("XADD", &entry).await;
    };
    add(sent.first().unwrap()).await;
    clustered.settled().await;
    let (slot, from) = (
        cluster.slot_of(STREAM).await.unwrap(),
        cluster.owner_of(STREAM).await.unwrap(),
    );
    let to = (from + 1) % 3;
    let moving = cluster.begin_move(slot, to).await.unwrap();
    let port = cluster.nodes()[to].port().to_string();
    let alone = ["MIGRATE", "127.0.0.1", &port, STREAM, "0", "30000"];
    cluster.ask(from, &alone).await.unwrap();
    add(sent.last().unwrap()).await;
    eventually("it is an outage", LONG, async || {
        worker
            .log()
            .contains("store cannot be used: an operator has to act")
    })
    .await;
    let log = worker.log();
    assert!(
        log.contains(&format!("`{STREAM}` is not read")) && log.contains("redis-cli --cluster fix"),
        "{log}"
    );
    eventually("status says so", LONG, async || {
        let (ok, said) = status(&clustered);
        !ok && said["verdict"]["answer"] == "an operator has to act"
            && said["instances"][0]["state"] == "paused"
    })
    .await;
    let (fine, said) = clustered.check();
    assert!(
        !fine
            && said.contains(&format!(
                "open slots  WRONG  not read, as their keys are at two nodes: {STREAM}"
            )),
        "{said}"
    );
    moving.move_keys().await.unwrap();
    moving.finish().await.unwrap();
    clustered.settled().await;
    eventually("it is over", LONG, async || {
        worker.log().contains("store is back") && status(&clustered).1["verdict"]["state"] == "ok"
    })
    .await;
    clustered.world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn whoever_may_not_ask_about_slots_is_told_and_all_else_works() {
    let clustered = Clustered::start(0).await;
    for node in 0..3 {
        let user = [
            "ACL",
            "SETUSER",
            "less",
            "on",
            ">hunter2",
            "~*",
            "+@all",
            "-cluster|nodes",
        ];
        clustered.cluster.ask(node, &user).await.unwrap();
    }
    let url = clustered
        .cluster
        .url()
        .replace("redis-cluster://", "redis-cluster://less:hunter2@");
    let streams = STREAMS.join(",");
    let environment = [("REDIS_URL", url.as_str()), ("PROCESSOR_STREAM", &streams)];
    let (fine, said) = clustered.world.check(&environment);
    assert!(
        fine && said.contains("open slots  warning  not known") && said.contains("+cluster|nodes"),
        "{said}"
    );
    let (ok, text) = clustered
        .world
        .run(&["status", "--limit", "60", "--json"], &environment);
    let now: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (ok, &now["open_slots"], &now["unknown"], &now["errors"]),
        (true, &Value::Null, &json!(["open_slots"]), &json!([]))
    );
}

#[tokio::test]
async fn a_plain_connection_is_not_harmless_where_nodes_are_named_elsewhere() {
    let clustered = Clustered::start(0).await;
    let (fine, said) = clustered.check();
    assert!(fine && said.contains("does not leave this machine"), "{said}");
    // An address that leads here, and is not known to.
    let nodes = clustered.cluster.nodes();
    for node in 0..nodes.len() {
        for setting in [
            ["cluster-announce-hostname", "0.0.0.0"],
            ["cluster-preferred-endpoint-type", "hostname"],
        ] {
            let set = [&["CONFIG", "SET"][..], &setting].concat();
            clustered.cluster.ask(node, &set).await.unwrap();
        }
    }
    eventually("every node is named elsewhere", LONG, async || {
        let (fine, said) = clustered.check();
        let told = said
            .lines()
            .find(|line| line.starts_with("Redis connection  warning"));
        fine && told.is_some_and(|told| {
            let named = nodes.iter().map(|node| format!("0.0.0.0:{}", node.port()));
            told.contains("not encrypted on the way to ")
                && named.into_iter().all(|name| told.contains(&name))
        })
    })
    .await;
}
