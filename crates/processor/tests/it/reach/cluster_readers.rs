//! What `status` and `check` say of streams and instances on a Redis Cluster, and the rights that are enough there.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::clustered::{Clustered, LONG, STREAMS};
use crate::support::{PROJECT, eventually};

const OPERATIONS: &str = include_str!("../../../../../docs/operations.md");

fn json_of(clustered: &Clustered, arguments: &[&str], url: &str) -> Value {
    let environment = [("REDIS_URL", url), ("PROCESSOR_STREAM", &STREAMS.join(","))];
    let output = clustered.world.output(arguments, &environment);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn status(clustered: &Clustered, url: &str) -> Value {
    json_of(clustered, &["status", "--limit", "60", "--json"], url)
}

/// Whoever reads a stream, of all streams; nothing while one has no reader.
fn readers(status: &Value) -> Option<BTreeSet<String>> {
    let of = |stream: &Value| Some(stream["readers"][0]["name"].as_str()?.to_owned());
    status["streams"].as_array()?.iter().map(of).collect()
}

fn lives(status: &Value) -> BTreeSet<(String, String)> {
    let text = |instance: &Value, name: &str| instance[name].as_str().unwrap().to_owned();
    let instances = status["instances"].as_array().unwrap().iter();
    instances
        .map(|instance| (text(instance, "name"), text(instance, "life")))
        .collect()
}

fn finding(clustered: &Clustered, what: &str, url: &str) -> (String, String) {
    let all = json_of(clustered, &["check", "--json"], url);
    let found = all
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["what"] == what);
    let found = found.unwrap_or_else(|| panic!("{what}: {all}"));
    let text = |name: &str| found[name].as_str().unwrap().to_owned();
    (text("state"), text("detail"))
}

#[tokio::test]
async fn status_tells_on_a_cluster_who_reads_which_stream_and_who_stands_still() {
    let clustered = Clustered::start(0).await;
    let url = clustered.cluster.url();
    let [_a, b, mut c] = ["a", "b", "c"].map(|name| clustered.sharing(name));
    eventually("three read four streams", LONG, async || {
        let now = status(&clustered, &url);
        let work = now["instances"].as_array().unwrap().iter();
        let all_work = work.clone().count() == 3 && work.clone().all(|found| !found["work"].is_null());
        all_work && readers(&now).is_some_and(|readers| readers.len() == 3)
    })
    .await;
    b.signal(Signal::SIGSTOP);
    c.kill();
    eventually("the one is stalled, the other dead", LONG, async || {
        let pairs = [("a", "alive"), ("b", "stalled"), ("c", "dead")];
        let pairs = pairs.map(|(name, life)| (name.to_owned(), life.to_owned()));
        lives(&status(&clustered, &url)) == pairs.into()
    })
    .await;
    eventually("the third reads all", LONG, async || {
        readers(&status(&clustered, &url)) == Some(["a".to_owned()].into())
    })
    .await;
    let (ok, table) = clustered.run(&["status", "--limit", "60"]);
    assert!(ok && table.contains("without b (stalled), c (dead)"), "{table}");
    b.signal(Signal::SIGCONT);
}

#[tokio::test]
async fn check_tells_which_node_has_which_stream_and_that_one_node_has_all() {
    let clustered = Clustered::start(0).await;
    let (cluster, url) = (&clustered.cluster, clustered.cluster.url());
    let (state, detail) = finding(&clustered, "stream slots", &url);
    assert_eq!(state, "ok", "{detail}");
    for stream in STREAMS {
        let slot = cluster.slot_of(stream).await.unwrap();
        let port = cluster.nodes()[cluster.owner_of_slot(slot).await.unwrap()].port();
        let told = format!("{stream} → slot {slot} → 127.0.0.1:{port}");
        assert!(detail.contains(&told), "{told}: {detail}");
    }
    for stream in STREAMS {
        let slot = cluster.slot_of(stream).await.unwrap();
        if cluster.owner_of_slot(slot).await.unwrap() != 0 {
            cluster.move_slot(slot, 0).await.unwrap();
        }
    }
    let (state, detail) = finding(&clustered, "stream slots", &url);
    let told = format!(
        "all streams are on 127.0.0.1:{}, one of 3 masters",
        cluster.nodes()[0].port()
    );
    assert!(state == "warning" && detail.contains(&told), "{state}: {detail}");
}

/// What the page adds for a cluster.
fn rights_in_a_cluster() -> Vec<&'static str> {
    let (_, behind) = OPERATIONS
        .split_once("In a Redis Cluster the same on every node, and `")
        .unwrap();
    behind.split('`').next().unwrap().split(' ').collect()
}

/// The cluster's URL for a user with the rights that the page asks for on one server, and for one with those for a cluster.
async fn users(clustered: &Clustered) -> [String; 2] {
    let line = OPERATIONS
        .lines()
        .find(|line| line.starts_with("ACL SETUSER processor "));
    let rights: Vec<&str> = line
        .unwrap()
        .split(' ')
        .skip(3)
        .filter(|right| !right.starts_with('>'))
        .collect();
    let user = |name| [&["ACL", "SETUSER", name, "on", ">hunter2"], &rights[..]].concat();
    for node in 0..3 {
        clustered.cluster.ask(node, &user("fewer")).await.unwrap();
        let least = [&user("least")[..], &rights_in_a_cluster()].concat();
        clustered.cluster.ask(node, &least).await.unwrap();
    }
    let url = clustered.cluster.url();
    let by = |name| url.replace("redis-cluster://", &format!("redis-cluster://{name}:hunter2@"));
    ["fewer", "least"].map(by)
}

#[tokio::test]
async fn the_rights_of_the_page_are_enough_on_a_cluster() {
    let clustered = Clustered::start(0).await;
    let [fewer, least] = users(&clustered).await;
    let all = json_of(&clustered, &["check", "--json"], &fewer);
    assert!(all.to_string().contains("cluster|slots"), "{all}");
    for what in [
        "Redis",
        "Redis rights",
        "Redis connection",
        "streams",
        "stream slots",
        "open slots",
    ] {
        let (state, detail) = finding(&clustered, what, &least);
        assert_eq!(state, "ok", "{what}: {detail}");
    }
    let shares = [
        ("PROCESSOR_STREAM_SHARE", "auto"),
        ("PROCESSOR_STREAM", &STREAMS.join(",")),
    ];
    let worker = |name| {
        let environment = [&shares[..], &[("REDIS_URL", &least), ("LOG_LEVEL", "debug")]].concat();
        clustered.world.worker(name, &environment)
    };
    let (a, b) = (worker("a"), worker("b"));
    let file = clustered.world.path("events.ndjson");
    let event =
        |n| json!({"project_id": PROJECT, "event_name": "e", "distinct_id": format!("d{n}")}).to_string();
    std::fs::write(&file, (0..300).map(event).collect::<Vec<_>>().join("\n")).unwrap();
    let environment = [("REDIS_URL", least.as_str()), shares[1]];
    let send = ["send", "--by", "distinct-id", file.to_str().unwrap()];
    let (ok, said) = clustered.world.run(&send, &environment);
    assert!(ok, "{said}");
    clustered.settled().await;
    assert_eq!(clustered.rows().await.0, 300);
    eventually("it may be told who reads and who lives", LONG, async || {
        let now = status(&clustered, &least);
        assert_eq!(
            (&now["errors"], &now["unknown"]),
            (&json!([]), &json!([])),
            "{now}"
        );
        readers(&now) == Some(["a".to_owned(), "b".to_owned()].into())
            && now["instances"]
                .as_array()
                .unwrap()
                .iter()
                .all(|found| !found["work"].is_null())
    })
    .await;
    b.signal(Signal::SIGSTOP);
    eventually("its connection is seen to stand still", LONG, async || {
        lives(&status(&clustered, &least)).contains(&("b".to_owned(), "stalled".to_owned()))
    })
    .await;
    b.signal(Signal::SIGCONT);
    for log in [a.log(), b.log()] {
        assert!(!log.contains("NOPERM") && !log.contains("permissions"), "{log}");
    }
}
