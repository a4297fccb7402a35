//! Nodes that go and come back.

use super::clustered::{Clustered, LONG, Load, STREAM};
use crate::support::eventually;

#[tokio::test]
async fn a_worker_goes_on_when_the_only_node_that_it_was_told_of_is_gone() {
    let clustered = Clustered::start(1).await;
    let cluster = &clustered.cluster;
    // A master without the stream.
    let named = (cluster.owner_of(STREAM).await.unwrap() + 1) % 3;
    let url = format!("redis-cluster://127.0.0.1:{}", cluster.nodes()[named].port());
    let _worker = clustered.worker_of("w1", &url);
    let load = Load::start(&clustered);
    eventually("rows have landed", LONG, async || clustered.rows().await.0 > 100).await;

    let replica = cluster.replicas_of(named).await.unwrap()[0];
    cluster.nodes()[named].kill().await.unwrap();
    cluster.wait_for_promotion(replica).await.unwrap();
    let landed = clustered.rows().await.0;
    load.goes_on(300).await;
    eventually("the worker goes on", LONG, async || {
        clustered.rows().await.0 > landed + 100
    })
    .await;
    let sent = load.end().await;
    clustered.settled().await;
    clustered.all_is_well(&sent).await;
}

#[tokio::test]
async fn a_worker_goes_on_after_all_nodes_were_away() {
    let clustered = Clustered::start(0).await;
    let cluster = &clustered.cluster;
    let mut worker = clustered.worker("w1");
    let load = Load::start(&clustered);
    eventually("rows have landed", LONG, async || clustered.rows().await.0 > 100).await;
    for node in cluster.nodes() {
        node.kill().await.unwrap();
    }
    eventually("the worker notices", LONG, async || {
        worker.log().contains("reading failed")
    })
    .await;
    for node in cluster.nodes() {
        node.start().await.unwrap();
    }
    cluster.wait_until_well().await.unwrap();
    let landed = clustered.rows().await.0;
    load.goes_on(300).await;
    eventually("the worker goes on", LONG, async || {
        clustered.rows().await.0 > landed + 100
    })
    .await;
    let sent = load.end().await;
    clustered.settled().await;
    clustered.all_is_well(&sent).await;
    clustered.stores_are_back().await;
    assert!(worker.is_running());
}
