//! kill -9 at random moments, and several instances at once: every event once.

use std::time::Duration;

use rand::Rng;

use crate::support::{GROUP, PROJECT, REJECTED, SOON, STREAM, World, ask, entries, eventually};

/// How often entries were tried alone.
const SUSPECTS: &str = "processor:suspects";

#[tokio::test]
async fn kill_nine_at_random_moments_loses_nothing_and_duplicates_nothing() {
    let world = World::start().await;
    let mut sent = world.load(2000, 40).await;
    for round in 0..12 {
        let mut worker = world.worker(
            "same-name",
            &[
                ("PROCESSOR_BATCH_SIZE", "200"),
                ("PROCESSOR_MAX_BATCH_SIZE", "400"),
            ],
        );
        sent.extend(world.load(1500, 40).await);
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(20..900))).await;
        assert!(worker.is_running(), "round {round}: {}", worker.log());
        worker.kill();
    }
    let _worker = world.worker("same-name", &[]);
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&sent).await;
    stores_agree(&world, 40).await;
}

#[tokio::test]
async fn three_instances_of_which_some_die_lose_nothing_and_duplicate_nothing() {
    let world = World::start().await;
    let small = [
        ("PROCESSOR_BATCH_SIZE", "100"),
        ("PROCESSOR_MAX_BATCH_SIZE", "300"),
        ("PROCESSOR_READ_COUNT", "150"),
    ];
    let _steady = [world.worker("steady-1", &small), world.worker("steady-2", &small)];
    let mut sent = world.load(1000, 30).await;
    for round in 0..5 {
        let mut doomed = world.worker(&format!("doomed-{round}"), &small);
        sent.extend(world.load(3000, 30).await);
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(100..1200))).await;
        doomed.kill();
    }
    world.settled(Duration::from_secs(90)).await;
    world.holds_exactly(&sent).await;
    stores_agree(&world, 30).await;
}

/// Law 4: for every distinct id, PostgreSQL and the rows with their overrides name one person, and Redis the same where
/// it names any.
async fn stores_agree(world: &World, persons: usize) {
    for person in 0..persons {
        for distinct_id in [format!("anon-{person}"), format!("user-{person}")] {
            let [in_pg, in_redis, in_ch] = world.persons_of(&distinct_id).await;
            if in_ch.is_some() {
                assert_eq!(in_pg, in_ch, "{distinct_id}: PostgreSQL and ClickHouse");
            }
            if in_redis.is_some() {
                assert_eq!(in_redis, in_pg, "{distinct_id}: Redis and PostgreSQL");
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_a_client_repeats_lands_once() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    let fields = [
        ("event_id", "0b0e5f8e-5a3c-4e2a-9c1d-3a1b2c3d4e5f"),
        ("project_id", PROJECT),
        ("event_name", "x"),
        ("distinct_id", "d"),
        ("timestamp", "2026-11-01T10:00:00.000Z"),
    ];
    world.add(&fields).await;
    world.add(&fields).await;
    world.settled(SOON).await;
    world.add(&fields).await;
    world.settled(SOON).await;
    assert_eq!(world.ch("SELECT count() FROM events").await, "1");
}

#[tokio::test]
async fn an_entry_that_was_delivered_too_often_is_processed_alone_and_finally_refused() {
    let world = World::start().await;
    let () = ask(&world, "XGROUP", &["CREATE", STREAM, GROUP, "0", "MKSTREAM"]).await;
    let suspect = world
        .add(&[("project_id", PROJECT), ("event_name", "x"), ("distinct_id", "d")])
        .await;
    world.is_dead("w1").await;
    let read = ["GROUP", GROUP, "w1", "STREAMS", STREAM, ">"];
    let _read: redis::Value = ask(&world, "XREADGROUP", &read).await;
    let claim = [STREAM, GROUP, "w1", "0", &suspect, "RETRYCOUNT", "20"];
    let _claimed: redis::Value = ask(&world, "XCLAIM", &claim).await;
    let attempts = [SUSPECTS, &format!("{STREAM} {suspect}"), "3"];
    let _noted: u64 = ask(&world, "HSET", &attempts).await;
    let neighbour = world.event("n", &[]).await;
    let _worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    world.holds_exactly(&[neighbour].into()).await;
    let rejected = entries(&world, REJECTED).await;
    assert_eq!(rejected[0].get::<String>("reason").unwrap(), "crash_loop");
    eventually("the suspect is forgotten once settled", SOON, async || {
        ask::<u64>(&world, "HLEN", &[SUSPECTS]).await == 0
    })
    .await;
}

/// Whatever ends a worker from outside must not be blamed on everything that the worker held.
#[tokio::test]
async fn a_kill_is_blamed_on_the_one_entry_that_was_being_processed_alone() {
    const ENTRIES: usize = 30;
    let world = World::start().await;
    let () = ask(&world, "XGROUP", &["CREATE", STREAM, GROUP, "0", "MKSTREAM"]).await;
    let sent = world.load(ENTRIES, ENTRIES).await;
    world.is_dead("w1").await;
    for _delivery in 0..6 {
        for from in [">", "0"] {
            let read = ["GROUP", GROUP, "w1", "STREAMS", STREAM, from];
            let _read: redis::Value = ask(&world, "XREADGROUP", &read).await;
        }
    }
    let attempts = async || ask::<Vec<u64>>(&world, "HVALS", &[SUSPECTS]).await;
    // Nobody gets past PostgreSQL while the table is locked.
    let blocker = world.pg_client().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE projects IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    for killed in 1..=3 {
        let mut worker = world.worker("w1", &[]);
        eventually("a suspect is being processed", SOON, async || {
            attempts().await.iter().sum::<u64>() >= killed
        })
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        worker.kill();
    }
    assert_eq!(
        attempts().await,
        [3],
        "three attempts at one entry, none at others"
    );
    blocker.batch_execute("ROLLBACK").await.unwrap();
    let _worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    assert_eq!(
        world.length(REJECTED).await,
        Some(1),
        "the one that was there at every kill"
    );
    assert_eq!(
        world.ch("SELECT count() FROM events").await,
        (sent.len() - 1).to_string()
    );
}
