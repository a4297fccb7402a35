//! `status` is asked every two seconds: what it looks at must not grow with the table.

use serde_json::Value;

use crate::support::{PROJECT, STATUS_JSON, World};

/// Rows of so many months ago, which came at a time of their own.
async fn rows(world: &World, count: u64, months_ago: u64, ingested_at: &str) {
    world
        .ch(&format!(
            "INSERT INTO events (project_id, event_name, distinct_id, person_id, timestamp, ingested_at)
             SELECT '{PROJECT}', 'test', 'a', generateUUIDv4(), now64(3) - INTERVAL {months_ago} MONTH, {ingested_at}
             FROM numbers({count})"
        ))
        .await;
}

fn last_row(world: &World) -> Value {
    let (ok, said) = world.run(&STATUS_JSON, &[]);
    assert!(ok, "{said}");
    serde_json::from_str::<Value>(&said).unwrap()["last_row"].clone()
}

/// As `status` writes it.
async fn newest(world: &World) -> String {
    let sql = "SELECT concat(replaceOne(toString(max(ingested_at)), ' ', 'T'), 'Z') FROM events";
    world.ch(sql).await
}

async fn rows_read(world: &World) -> u64 {
    let sql = "SELECT value FROM system.events WHERE event = 'SelectedRows'";
    world.ch(sql).await.parse().unwrap()
}

#[tokio::test]
async fn status_tells_of_the_newest_row_whichever_month_it_is_of_and_whatever_was_merged() {
    let world = World::start().await;
    assert_eq!(last_row(&world), Value::Null);
    rows(&world, 10, 0, "now64(3) - INTERVAL 3 MINUTE").await;
    rows(&world, 10, 1, "now64(3) - INTERVAL 2 MINUTE").await;
    rows(&world, 1, 3, "now64(3) - INTERVAL 1 MINUTE").await;
    let newest = newest(&world).await;
    assert_eq!(last_row(&world), newest);
    rows(&world, 1, 0, "now64(3) - INTERVAL 4 MINUTE").await;
    world.ch("OPTIMIZE TABLE events FINAL").await;
    assert_eq!(last_row(&world), newest);
    world.ch("TRUNCATE TABLE events").await;
    assert_eq!(last_row(&world), Value::Null);
}

#[tokio::test]
async fn status_reads_the_newest_rows_only() {
    let world = World::start().await;
    rows(&world, 500_000, 0, "now64(3) - INTERVAL 1 HOUR").await;
    world.ch("SYSTEM STOP MERGES events").await;
    rows(&world, 10, 0, "now64(3)").await;
    let newest = newest(&world).await;
    let before = rows_read(&world).await;
    assert_eq!(last_row(&world), newest);
    let read = rows_read(&world).await - before;
    assert!(read < 50_000, "{read} rows were read");
}
