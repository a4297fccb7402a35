//! A worker on a Redis Cluster lands every event once, whichever node has the stream's slot.

use super::clustered::{Clustered, LONG, Load, STREAM};
use crate::support::eventually;

#[tokio::test]
async fn every_event_lands_once_while_the_slot_of_the_stream_moves() {
    let clustered = Clustered::start(0).await;
    let cluster = &clustered.cluster;
    let worker = clustered.worker("w1");
    let load = Load::start(&clustered);
    eventually("rows have landed", LONG, async || clustered.rows().await.0 > 100).await;

    let slot = cluster.slot_of(STREAM).await.unwrap();
    let from = cluster.owner_of_slot(slot).await.unwrap();
    let moving = cluster.begin_move(slot, (from + 1) % 3).await.unwrap();
    load.goes_on(100).await;
    moving.move_keys().await.unwrap();
    // Now the old owner sends everybody on, and the new one takes only who says so.
    load.goes_on(100).await;
    moving.finish().await.unwrap();

    let landed = clustered.rows().await.0;
    load.goes_on(300).await;
    eventually("the worker follows", LONG, async || {
        clustered.rows().await.0 > landed + 100
    })
    .await;
    let sent = load.end().await;
    clustered.settled().await;
    assert_eq!(clustered.in_streams().await, sent, "nothing is lost on the way");
    clustered.all_is_well(&sent).await;
    assert!(!worker.log().contains("ERROR"), "{}", worker.log());
}

#[tokio::test]
async fn every_event_that_is_in_the_stream_lands_once_when_its_master_is_killed() {
    let clustered = Clustered::start(1).await;
    let cluster = &clustered.cluster;
    let mut worker = clustered.worker("w1");
    let load = Load::start(&clustered);
    eventually("rows have landed", LONG, async || clustered.rows().await.0 > 100).await;

    let master = cluster.owner_of(STREAM).await.unwrap();
    let replica = cluster.replicas_of(master).await.unwrap()[0];
    cluster.nodes()[master].kill().await.unwrap();
    cluster.wait_for_promotion(replica).await.unwrap();

    let landed = clustered.rows().await.0;
    load.goes_on(300).await;
    eventually("the worker follows", LONG, async || {
        clustered.rows().await.0 > landed + 100
    })
    .await;
    // Now one that agrees, and comes back to where it was.
    cluster.nodes()[master].start().await.unwrap();
    cluster.wait_until_follows(master, replica).await.unwrap();
    cluster.fail_over(master).await.unwrap();
    load.goes_on(300).await;
    let sent = load.end().await;
    clustered.settled().await;
    clustered.all_is_well(&sent).await;
    assert!(worker.is_running());
}

#[tokio::test]
async fn every_event_that_is_in_the_stream_lands_once_when_its_master_stands_still_and_comes_back() {
    let clustered = Clustered::start(1).await;
    let cluster = &clustered.cluster;
    let mut worker = clustered.worker("w1");
    let load = Load::start(&clustered);
    eventually("rows have landed", LONG, async || clustered.rows().await.0 > 100).await;

    let master = cluster.owner_of(STREAM).await.unwrap();
    let replica = cluster.replicas_of(master).await.unwrap()[0];
    cluster.nodes()[master].pause().await.unwrap();
    cluster.wait_for_promotion(replica).await.unwrap();
    let landed = clustered.rows().await.0;
    load.goes_on(300).await;
    eventually("the worker follows", LONG, async || {
        clustered.rows().await.0 > landed + 100
    })
    .await;
    // It takes itself for the master until it hears otherwise.
    cluster.nodes()[master].resume().await.unwrap();
    cluster.wait_until_follows(master, replica).await.unwrap();
    load.goes_on(300).await;
    let sent = load.end().await;
    clustered.settled().await;
    clustered.all_is_well(&sent).await;
    assert!(worker.is_running());
}
