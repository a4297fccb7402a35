//! A correction whose command is killed half-way loses nothing and doubles nothing.

use std::process::Stdio;

use serde_json::json;
use uuid::Uuid;

use crate::holding::Holding;
use crate::support::letters::{QUICK, rows};
use crate::support::{PROJECT, QUEUE, REJECTED, SOON, World, ask, entries, eventually};

const LOCK: &str = "dlq:replay:lock";

/// Kills `dlq correct` while ClickHouse's answer to a request with this text is on its way. Returns the event's id.
async fn killed_at(world: &World, text: &'static [&'static str]) -> Uuid {
    let port = world.stack.clickhouse().unwrap().port();
    let clickhouse = Holding::answers(port, text).await;
    let id = Uuid::new_v4();
    let data = json!({"event_id": id, "project_id": PROJECT, "distinct_id": "d"}).to_string();
    let fields = [REJECTED, "*", "data", &data, "reason", "missing_fields"];
    let old: String = ask(world, "XADD", &fields).await;
    clickhouse.hold();
    let through = format!("http://{}", clickhouse.address);
    let arguments = ["dlq", "correct", &old, "--rejected", "--set", "event_name=right"];
    let mut command = world
        .command(&arguments, &[("CLICKHOUSE_URL", &through)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    clickhouse.caught().await;
    command.kill().unwrap();
    command.wait().unwrap();
    clickhouse.let_go();
    // It ends by itself half a minute later.
    ask::<u64>(world, "DEL", &[LOCK]).await;
    id
}

/// The id of the only letter, which is corrected and has not left the dead letters.
async fn left(world: &World) -> String {
    let left = entries(world, QUEUE).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].get::<String>("reason").unwrap(), "corrected");
    assert_eq!(world.length(REJECTED).await, Some(0));
    left[0].id.clone()
}

#[tokio::test]
async fn a_corrected_event_that_was_not_inserted_yet_lands_by_itself() {
    let world = World::start().await;
    let id = killed_at(&world, &["arrayZip"]).await;
    assert_eq!(rows(&world, id).await, "0");
    left(&world).await;
    let _worker = world.worker("w1", &[QUICK]);
    eventually("it has left the queue", SOON, async || {
        world.length(QUEUE).await == Some(0)
    })
    .await;
    assert_eq!(rows(&world, id).await, "1");
    assert_eq!(world.length(REJECTED).await, Some(0));
}

#[tokio::test]
async fn a_corrected_event_whose_row_is_there_already_is_not_made_two() {
    let world = World::start().await;
    let id = killed_at(&world, &["insert_deduplication_token"]).await;
    assert_eq!(rows(&world, id).await, "1");
    let letter = left(&world).await;
    let again = ["dlq", "correct", &letter, "--set", "event_name=other"];
    let (ok, text) = world.run(&again, &[]);
    assert!(!ok && text.contains("has landed already"), "{text}");
    let (ok, text) = world.run(&["dlq", "replay", "--id", &letter], &[]);
    assert!(ok, "{text}");
    assert_eq!(rows(&world, id).await, "1");
    assert_eq!(world.length(QUEUE).await, Some(0));
}
