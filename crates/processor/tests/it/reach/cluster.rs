//! A worker on a Redis Cluster lands every event once, whichever node has the stream's slot.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::clustered::{Clustered, LONG, Load, STREAM};
use crate::support::{PROJECT, eventually};

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

/// Adds an event to the stream whose slot moves. Returns its id, and how long it took to land.
async fn lands(clustered: &Clustered) -> (Uuid, Duration) {
    let (id, added) = (Uuid::new_v4(), Instant::now());
    let text = id.to_string();
    let event = [
        "event_id",
        &text,
        "project_id",
        PROJECT,
        "event_name",
        "marked",
        "distinct_id",
        "m",
    ];
    let _id: String = clustered
        .ask("XADD", &[&[STREAM, "*"], &event[..]].concat())
        .await;
    eventually("the event lands", LONG, async || {
        let sql = format!("SELECT count() FROM events WHERE event_id = '{text}'");
        clustered.world.ch(&sql).await == "1"
    })
    .await;
    (id, added.elapsed())
}

/// A slot is open as long as its mover likes: reading goes on before its keys have gone, and after.
async fn is_read_while_its_slot_is_open(trim: &str) {
    let clustered = Clustered::start(0).await;
    let cluster = &clustered.cluster;
    let worker = clustered.bounded("w1", &[("PROCESSOR_TRIM", trim)]);
    let load = Load::start(&clustered);
    let mut marked = vec![lands(&clustered).await];
    let slot = cluster.slot_of(STREAM).await.unwrap();
    let from = cluster.owner_of_slot(slot).await.unwrap();
    let moving = cluster.begin_move(slot, (from + 1) % 3).await.unwrap();
    marked.push(lands(&clustered).await);
    moving.move_keys().await.unwrap();
    marked.push(lands(&clustered).await);
    load.goes_on(100).await;
    marked.push(lands(&clustered).await);
    assert_eq!(
        cluster.owner_of_slot(slot).await.unwrap(),
        from,
        "it is still open"
    );
    moving.finish().await.unwrap();
    marked.push(lands(&clustered).await);

    let mut sent = load.end().await;
    sent.extend(marked.iter().map(|(id, _)| *id));
    clustered.settled().await;
    clustered.all_is_well(&sent).await;
    let (log, pauses) = (worker.log(), marked.iter().map(|(_, time)| *time));
    assert!(log.contains("reading it there"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    // A batch is flushed after 300 ms; the rest is the machine's.
    let pauses: Vec<Duration> = pauses.collect();
    assert!(pauses.iter().all(|pause| *pause < LONG / 9), "{pauses:?}");
}

#[tokio::test]
async fn a_stream_is_read_while_its_slot_is_open() {
    is_read_while_its_slot_is_open("acked").await;
}

#[tokio::test]
async fn a_stream_that_is_not_trimmed_is_read_while_its_slot_is_open() {
    is_read_while_its_slot_is_open("off").await;
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
