//! A Redis Cluster by TLS.

use std::path::Path;

use serde_json::json;

use super::clustered::{Clustered, LONG, STREAMS};
use crate::support::certificates::{Authority, Certified};
use crate::support::redis_servers::free_port;
use crate::support::{PROJECT, eventually};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Has every node speak TLS beside what it speaks already, to the others too. Returns the ports.
async fn speak_tls(clustered: &Clustered, authority: &Authority, served: &Certified) -> Vec<u16> {
    let mut ports = Vec::new();
    for node in 0..clustered.cluster.nodes().len() {
        let set = async |settings: &[&str]| {
            let command = [&["CONFIG", "SET"], settings].concat();
            clustered.cluster.ask(node, &command).await.unwrap();
        };
        let (certificate, key) = (text(&served.certificate), text(&served.key));
        set(&["tls-ca-cert-file", text(&authority.file)]).await;
        set(&["tls-cert-file", certificate, "tls-key-file", key]).await;
        set(&["tls-cluster", "yes"]).await;
        let port = free_port();
        set(&["tls-port", &port.to_string()]).await;
        // Said again, or the node goes on telling of its port before.
        set(&["cluster-announce-tls-port", &port.to_string()]).await;
        ports.push(port);
    }
    eventually("every node knows where the others speak TLS", LONG, async || {
        for node in 0..ports.len() {
            let nodes = clustered.cluster.ask(node, &["CLUSTER", "NODES"]).await.unwrap();
            let known = |port: &u16| nodes.contains(&format!("127.0.0.1:{port}@"));
            if !ports.iter().all(known) {
                return false;
            }
        }
        true
    })
    .await;
    clustered.cluster.wait_until_well().await.unwrap();
    ports
}

#[tokio::test]
async fn a_worker_reaches_every_node_of_a_cluster_by_tls() {
    let clustered = Clustered::start(0).await;
    let world = &clustered.world;
    let authority = Authority::new(&world.path(""), "authority");
    let served = authority.server(&["localhost", "127.0.0.1"]);
    let client = authority.client("worker");
    // It is told of one of three nodes, which have streams each.
    let told = 0;
    let ports = speak_tls(&clustered, &authority, &served).await;
    let url = format!("rediss-cluster://localhost:{}", ports[told]);
    let environment = [
        ("REDIS_URL", url.as_str()),
        ("PROCESSOR_STREAM", &STREAMS.join(",")),
        ("REDIS_CA_FILE", text(&authority.file)),
        ("REDIS_CERT_FILE", text(&client.certificate)),
        ("REDIS_KEY_FILE", text(&client.key)),
    ];
    let _worker = world.worker("w1", &environment);
    let file = world.path("events.ndjson");
    let event =
        |n| json!({"project_id": PROJECT, "event_name": "e", "distinct_id": format!("d{n}")}).to_string();
    std::fs::write(&file, (0..300).map(event).collect::<Vec<_>>().join("\n")).unwrap();
    let (ok, said) = world.run(&["send", text(&file)], &environment);
    assert!(ok, "{said}");
    eventually("all have landed", LONG, async || clustered.rows().await.0 == 300).await;
    let (ok, said) = world.check(&environment);
    assert!(
        ok && said.contains("and we show it a certificate of ours"),
        "{said}"
    );
    let (ok, said) = world.run(&["person", "audit"], &environment);
    assert!(ok, "{said}");
    let (ok, said) = world.check(&environment[..2]);
    assert!(
        !ok && said.contains("REDIS_CA_FILE"),
        "an authority of one's own has to be named: {said}"
    );
}
