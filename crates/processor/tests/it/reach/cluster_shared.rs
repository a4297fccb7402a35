//! Streams on a Redis Cluster, shared out among instances.

use super::clustered::{Clustered, LONG, Load, STREAMS};
use crate::support::{Worker, eventually};

/// Streams that these instances have taken, and not given up or lost since, by their logs.
fn taken(workers: &[&Worker]) -> usize {
    let count = |worker: &&Worker, words: &str| worker.log().matches(words).count();
    let taken: usize = workers
        .iter()
        .map(|worker| count(worker, "reads the stream from now on"))
        .sum();
    let left = |worker: &&Worker| {
        count(worker, "reads the stream no more") + count(worker, "lease of a stream was lost")
    };
    taken - workers.iter().map(left).sum::<usize>()
}

#[tokio::test]
async fn every_event_lands_once_while_a_slot_moves_and_an_instance_and_a_master_die() {
    let clustered = Clustered::start(1).await;
    let cluster = &clustered.cluster;
    let [mut a, b, c] = ["a", "b", "c"].map(|name| clustered.sharing(name));
    eventually("three instances share four streams", LONG, async || {
        taken(&[&a, &b, &c]) == STREAMS.len()
    })
    .await;
    let load = Load::start(&clustered);
    eventually("rows have landed", LONG, async || clustered.rows().await.0 > 100).await;

    let slot = cluster.slot_of(STREAMS[1]).await.unwrap();
    let from = cluster.owner_of_slot(slot).await.unwrap();
    cluster.move_slot(slot, (from + 1) % 3).await.unwrap();
    load.goes_on(200).await;

    a.kill();
    eventually("the others have its streams", LONG, async || {
        taken(&[&b, &c]) == STREAMS.len()
    })
    .await;
    load.goes_on(200).await;

    let master = cluster.owner_of(STREAMS[0]).await.unwrap();
    let replica = cluster.replicas_of(master).await.unwrap()[0];
    cluster.nodes()[master].kill().await.unwrap();
    cluster.wait_for_promotion(replica).await.unwrap();
    let d = clustered.sharing("d");
    eventually("three instances share them again", LONG, async || {
        taken(&[&b, &c, &d]) == STREAMS.len() && taken(&[&d]) > 0
    })
    .await;
    load.goes_on(300).await;
    let sent = load.end().await;
    clustered.settled().await;
    clustered.all_is_well(&sent).await;
    clustered.stores_are_back().await;
}
