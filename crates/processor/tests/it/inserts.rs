//! How many batches make an insert: many while a backlog waits, and none waits for what does not come.

use crate::once;
use crate::support::{SOON, World};

/// Rows in each part of the table that one insert has made, the largest first.
async fn parts(world: &World) -> Vec<usize> {
    let rows = "SELECT rows FROM system.parts WHERE table = 'events' AND active ORDER BY rows DESC";
    let rows = world.ch(rows).await;
    rows.lines().map(|rows| rows.parse().unwrap()).collect()
}

/// No batch is old enough to be inserted for its age.
const PATIENT: (&str, &str) = ("PROCESSOR_FLUSH_INTERVAL_MS", "600000");

#[tokio::test]
async fn while_a_backlog_waits_batches_are_inserted_together() {
    let world = once::start().await;
    let sent = world.load(12_000, 300).await;
    // Persons are resolved for 1,000 events at a time.
    let settings = [("PROCESSOR_MAX_BATCH_SIZE", "5000"), PATIENT];
    let _worker = world.worker("w1", &settings);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    // A batch by itself has 1,000 and what its last piece brings, less than 500. Of a busy machine no more is asked than
    // that the batches of one read are joined.
    let parts = parts(&world).await;
    assert!(parts[0] >= 1900, "{parts:?}");
}

#[tokio::test]
async fn rows_are_not_held_back_for_a_backlog_that_has_ended() {
    let world = once::start().await;
    let sent = world.load(3_000, 300).await;
    let settings = [("PROCESSOR_READ_COUNT", "1000"), PATIENT];
    let _worker = world.worker("w1", &settings);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn rows_are_not_held_back_for_entries_that_there_is_no_room_for() {
    let world = once::start().await;
    let sent = world.load(3_000, 300).await;
    let settings = [
        ("PROCESSOR_READ_COUNT", "100"),
        ("PROCESSOR_BATCH_SIZE", "100"),
        ("PROCESSOR_MAX_BATCH_SIZE", "5000"),
        ("PROCESSOR_BACKPRESSURE_THRESHOLD", "400"),
        PATIENT,
    ];
    let _worker = world.worker("w1", &settings);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    let parts = parts(&world).await;
    assert!(parts[0] <= 400, "{parts:?}");
}
