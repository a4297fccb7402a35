//! Letters that wait, for their time or for their entries, cost next to nothing, and nothing is forgotten over them.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use crate::lasting_failures::{POISON, refuse_one_person, refuse_one_person_as};
use crate::support::letters::{QUICK, event_data, letter, rows};
use crate::support::{GROUP, QUEUE, REJECTED, SOON, STREAM, World, ask, entries, eventually};

/// Bytes that Redis has sent so far.
async fn sent_by_redis(world: &World) -> u64 {
    let stats: String = ask(world, "INFO", &["stats"]).await;
    let bytes = stats
        .lines()
        .find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    bytes.unwrap().trim().parse().unwrap()
}

/// How often it was looked whether the queue has newer letters.
async fn looks(world: &World) -> u64 {
    let stats: String = ask(world, "INFO", &["commandstats"]).await;
    let calls = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_xrevrange:calls="));
    calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn letters_that_rest_are_not_read_again_and_again() {
    const LETTERS: usize = 200;
    const BYTES: usize = 50_000;
    let world = World::start().await;
    let large = format!(r#","page_title":"{}""#, "x".repeat(BYTES));
    let now = jiff::Timestamp::now().as_millisecond();
    for _ in 0..LETTERS {
        let id = letter(&world, &event_data(Uuid::new_v4(), "resting", &large)).await;
        let () = ask(
            &world,
            "HSET",
            &["dlq:replay:refusals", &id, &format!("1 4 {now}")],
        )
        .await;
    }
    let before = sent_by_redis(&world).await;
    let _worker = world.worker("w1", &[]);
    let limit = Duration::from_mins(1);
    eventually("a run and three looks at the queue are over", limit, async || {
        looks(&world).await >= 4
    })
    .await;
    // A letter that came later is taken all the same.
    let id = Uuid::new_v4();
    letter(&world, &event_data(id, "new", "")).await;
    eventually("the new letter lands", SOON, async || {
        rows(&world, id).await == "1"
    })
    .await;
    eventually("it has left the queue", SOON, async || {
        world.length(QUEUE).await == Some(LETTERS as u64)
    })
    .await;
    let read = sent_by_redis(&world).await - before;
    assert!(
        read < (LETTERS * BYTES * 3 / 2) as u64,
        "{read} bytes were read, and all letters have {}",
        LETTERS * BYTES
    );
}

#[tokio::test]
async fn a_letter_is_judged_by_what_other_instances_take() {
    let world = World::start().await;
    refuse_one_person(&world).await;
    let _reads = world.worker("w1", &[("PROCESSOR_ROLES", "consume")]);
    let _replays = world.worker("w2", &[("PROCESSOR_ROLES", "dlq"), QUICK]);
    world.event("good", &[]).await;
    world.settled(SOON).await;
    let at_fault = world.event("bad", &POISON).await;
    let mut fine = BTreeSet::new();
    let limit = Duration::from_mins(2);
    eventually("the event at fault is rejected", limit, async || {
        let writes = format!(r#"{{"n":{}}}"#, fine.len());
        fine.insert(world.event("good", &[("user_properties", writes.as_str())]).await);
        // Some events a second are enough.
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.length(REJECTED).await == Some(1)
    })
    .await;
    let entry = &entries(&world, REJECTED).await[0];
    let text = |name: &str| entry.get::<String>(name).unwrap();
    assert_eq!(text("reason"), "cannot_be_settled");
    assert!(text("data").contains(&at_fault.to_string()));
    assert_eq!(world.length(QUEUE).await, Some(0));
}

#[tokio::test]
async fn an_event_that_only_waits_for_a_lock_is_never_rejected() {
    let world = World::start().await;
    refuse_one_person_as(&world, "55P03").await;
    let _worker = world.worker("w1", &[QUICK]);
    let waits = world.event("locked", &POISON).await;
    let mut sent = BTreeSet::from([waits]);
    let limit = Duration::from_mins(2);
    eventually("it was tried more often than others are", limit, async || {
        let writes = format!(r#"{{"n":{}}}"#, sent.len());
        sent.insert(world.event("good", &[("user_properties", writes.as_str())]).await);
        // Some events a second are enough.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let known: Vec<String> = ask(&world, "HVALS", &["dlq:replay:refusals"]).await;
        let attempts = known
            .first()
            .and_then(|known| known.split(' ').nth(1)?.parse().ok());
        attempts.unwrap_or(0) > 20
    })
    .await;
    assert_eq!(world.length(REJECTED).await.unwrap_or(0), 0);
    world.pg("DROP TRIGGER refuse ON persons").await;
    eventually("it lands", SOON, async || rows(&world, waits).await == "1").await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn letters_are_replayed_although_the_group_is_missing() {
    let world = World::start().await;
    let _replays = world.worker("w1", &[("PROCESSOR_ROLES", "dlq"), QUICK]);
    let id = Uuid::new_v4();
    let entry = [
        "*",
        "data",
        &event_data(id, "d", ""),
        "stream",
        STREAM,
        "stream_id",
        "5-0",
    ];
    let () = ask(&world, "XADD", &[&[QUEUE], entry.as_slice()].concat()).await;
    eventually("it lands", SOON, async || rows(&world, id).await == "1").await;
    eventually("it has left the queue", SOON, async || {
        world.length(QUEUE).await == Some(0)
    })
    .await;
}

#[tokio::test]
async fn an_entry_is_pending_or_not_whether_or_not_another_stream_has_a_group() {
    const WITHOUT: &str = "events:more";
    let world = World::start().await;
    let () = ask(&world, "XGROUP", &["CREATE", STREAM, GROUP, "0", "MKSTREAM"]).await;
    let pending = world.event("d", &[]).await;
    let read = ["GROUP", GROUP, "w1", "STREAMS", STREAM, ">"];
    let _read: redis::Value = ask(&world, "XREADGROUP", &read).await;
    let entry = entries(&world, STREAM).await.remove(0).id;
    let free = Uuid::new_v4();
    for (id, stream, entry) in [(pending, STREAM, entry.as_str()), (free, WITHOUT, "5-0")] {
        let data = event_data(id, "d", "");
        let fields = [QUEUE, "*", "data", &data, "stream", stream, "stream_id", entry];
        let _id: String = ask(&world, "XADD", &fields).await;
    }
    let both = [("PROCESSOR_STREAM", "events:incoming,events:more")];
    let (ok, text) = world.run(&["dlq", "replay"], &both);
    assert!(ok && text.starts_with("1 landed, 1 left in events:dlq"), "{text}");
    assert_eq!(
        (rows(&world, free).await, rows(&world, pending).await),
        ("1".into(), "0".into())
    );
    let () = ask(&world, "XGROUP", &["DESTROY", STREAM, GROUP]).await;
    let (ok, text) = world.run(&["dlq", "replay"], &both);
    assert!(ok && text.starts_with("1 landed\n"), "{text}");
    assert_eq!(rows(&world, pending).await, "1");
}
