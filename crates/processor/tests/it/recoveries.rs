//! The way back after an outage, and letters or events that would stand in everybody's way.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use crate::support::letters::{QUICK, event_data, letter, rows};
use crate::support::{QUEUE, REJECTED, SOON, World, ask, entries, eventually};

const ATTEMPTS: &str = "dlq:replay:attempts";
const LOCK: &str = "dlq:replay:lock";

#[tokio::test]
async fn a_store_that_answers_but_takes_no_work_gets_the_batches_in_flight_and_no_more() {
    let world = World::start().await;
    let small = [
        ("PROCESSOR_BATCH_SIZE", "50"),
        ("PROCESSOR_MAX_BATCH_SIZE", "50"),
        QUICK,
    ];
    let worker = world.worker("w1", &small);
    let mut sent = world.load(200, 20).await;
    world.settled(SOON).await;
    // No code of data: the engine itself fails, while probes are answered.
    world
        .ch("ALTER TABLE events ADD CONSTRAINT broken CHECK throwIf(event_name != '') = 0")
        .await;
    for _ in 0..20 {
        sent.extend(world.load(100, 20).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let letters = world.length(QUEUE).await.unwrap();
    assert!((1..=200).contains(&letters), "{letters} letters");
    world.ch("ALTER TABLE events DROP CONSTRAINT broken").await;
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&sent).await;
    eventually("reading goes on", SOON, async || {
        worker.log().contains("reading goes on")
    })
    .await;
    for said in [
        "\"store is away\"",
        "reading pauses",
        "\"store is back\"",
        "reading goes on",
    ] {
        assert_eq!(worker.log().matches(said).count(), 1, "{said}: {}", worker.log());
    }
}

#[tokio::test]
async fn a_postgres_that_is_read_only_for_a_while_is_waited_for() {
    let world = World::start().await;
    let worker = world.worker("w1", &[QUICK]);
    let mut sent = world.load(100, 10).await;
    world.settled(SOON).await;
    let read_only = async |on: &str| {
        let sql = format!("ALTER DATABASE qurvo_analytics SET default_transaction_read_only = {on}");
        world.pg(&format!("SET transaction_read_only = off; {sql}")).await;
        world
            .pg("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()")
            .await;
    };
    read_only("on").await;
    for n in 0..10 {
        sent.insert(
            world
                .event(&format!("new {n}"), &[("user_properties", r#"{"a":1}"#)])
                .await,
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(world.length(QUEUE).await.unwrap() <= 3, "{}", worker.log());
    read_only("off").await;
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn after_an_outage_the_oldest_events_decide_first() {
    const PAIRS: usize = 40;
    let world = World::start().await;
    let worker = world.worker("w1", &[]);
    world.event("somebody", &[]).await;
    world.settled(SOON).await;
    world.stack.postgres().unwrap().stop().await.unwrap();
    for n in 0..PAIRS {
        world
            .identify(&format!("first {n}"), &format!("shared {n}"))
            .await;
    }
    eventually("they are set aside", SOON, async || {
        world.length(QUEUE).await == Some(PAIRS as u64) && worker.log().contains("reading pauses")
    })
    .await;
    for n in 0..PAIRS {
        world
            .identify(&format!("second {n}"), &format!("shared {n}"))
            .await;
    }
    world.stack.postgres().unwrap().start().await.unwrap();
    world.settled(SOON).await;
    for n in 0..PAIRS {
        let owner = world.persons_of(&format!("shared {n}")).await[0];
        assert_eq!(
            owner,
            world.persons_of(&format!("first {n}")).await[0],
            "pair {n}"
        );
        assert_ne!(owner, world.persons_of(&format!("second {n}")).await[0]);
    }
}

#[tokio::test]
async fn letters_of_an_instance_that_is_gone_are_replayed_soon_by_another() {
    let world = World::start().await;
    let mut gone = world.worker("w1", &[("PROCESSOR_ROLES", "consume")]);
    let replayer = world.worker("w2", &[("PROCESSOR_ROLES", "dlq")]);
    world.event("d", &[]).await;
    world.settled(SOON).await;
    eventually("it runs", SOON, async || replayer.is_beating()).await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    let id = world.event("d", &[]).await;
    // Acknowledged as well: an entry that is pending would be for an instance that consumes to land.
    eventually("it is set aside", SOON, async || {
        world.length(QUEUE).await == Some(1) && world.unsettled().await == Some(0)
    })
    .await;
    gone.kill();
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(SOON).await;
    assert_eq!(rows(&world, id).await, "1");
}

#[tokio::test]
async fn a_letter_that_ends_the_process_whenever_it_is_replayed_is_refused_and_the_others_land() {
    let world = World::start().await;
    let (deadly, fine) = (Uuid::new_v4(), Uuid::new_v4());
    let first = letter(&world, &event_data(deadly, "a", "")).await;
    letter(&world, &event_data(fine, "b", "")).await;
    // What ends the process is simulated from outside, in the middle of the first letter's replay.
    let blocker = world.pg_client().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE persons IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    for attempt in 1..=5 {
        let mut worker = world.worker("w1", &[("PROCESSOR_ROLES", "dlq"), QUICK]);
        eventually("the replay has begun", SOON, async || {
            ask::<Option<u32>>(&world, "HGET", &[ATTEMPTS, &first]).await == Some(attempt)
        })
        .await;
        worker.kill();
        let _: u64 = ask(&world, "DEL", &[LOCK]).await;
    }
    blocker.batch_execute("ROLLBACK").await.unwrap();
    let _worker = world.worker("w1", &[("PROCESSOR_ROLES", "dlq"), QUICK]);
    eventually("the queue is empty", SOON, async || {
        world.length(QUEUE).await == Some(0)
    })
    .await;
    assert_eq!(
        (rows(&world, deadly).await, rows(&world, fine).await),
        ("0".into(), "1".into())
    );
    let parked = entries(&world, REJECTED).await;
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].get::<String>("reason").unwrap(), "crash_loop");
    assert!(
        parked[0]
            .get::<String>("data")
            .unwrap()
            .contains(&deadly.to_string())
    );
    assert!(
        !ask::<bool>(&world, "EXISTS", &[ATTEMPTS]).await,
        "nothing is left behind"
    );
}

#[tokio::test]
async fn a_replay_that_loses_its_lock_stops_and_whoever_has_it_goes_on() {
    let world = World::start().await;
    let ids: BTreeSet<Uuid> = (0..20).map(|_| Uuid::new_v4()).collect();
    for id in &ids {
        letter(&world, &event_data(*id, "d", r#","user_properties":"{\"a\":1}""#)).await;
    }
    let blocker = world.pg_client().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE persons IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let worker = world.worker("w1", &[("PROCESSOR_ROLES", "dlq"), QUICK]);
    eventually("it replays", SOON, async || {
        ask::<bool>(&world, "EXISTS", &[ATTEMPTS]).await
    })
    .await;
    let _: () = ask(&world, "SET", &[LOCK, "a stranger"]).await;
    eventually("that is noticed", SOON, async || {
        worker.log().contains("lock lost")
    })
    .await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.length(QUEUE).await, Some(20), "nothing is taken out");
    assert_eq!(world.ch("SELECT count() FROM events").await, "0", "nothing lands");
    assert_eq!(ask::<String>(&world, "GET", &[LOCK]).await, "a stranger");
    assert!(
        !ask::<bool>(&world, "EXISTS", &[ATTEMPTS]).await,
        "no letter is blamed for it"
    );
    let _: u64 = ask(&world, "DEL", &[LOCK]).await;
    world.settled(SOON).await;
    world.holds_exactly(&ids).await;
}

#[tokio::test]
async fn events_that_postgres_refuses_as_data_are_set_aside_alone() {
    let world = World::start().await;
    world
        .pg("ALTER TABLE persons ADD CONSTRAINT no_poison CHECK (NOT properties ? 'poison')")
        .await;
    let set = |text: &'static str| [("user_properties", text)];
    let mut fine = BTreeSet::from([world.event("broken", &set(r#"{"a":1}"#)).await]);
    let mut worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    // Somebody has written what is no object of properties.
    world.pg("UPDATE persons SET properties = '[]'").await;
    let mut refused = BTreeSet::from([world.event("broken", &set(r#"{"a":2}"#)).await]);
    for n in 0..200 {
        let who = format!("d{}", n % 50);
        if n % 70 == 3 {
            refused.insert(world.event(&who, &set(r#"{"poison":1}"#)).await);
        } else if n % 3 == 0 {
            fine.insert(world.identify(&format!("u{}", n % 50), &who).await);
        } else {
            fine.insert(world.event(&who, &set(r#"{"plan":"pro"}"#)).await);
        }
    }
    world.settled(SOON).await;
    assert!(worker.is_running(), "{}", worker.log());
    world.holds_exactly(&fine).await;
    let parked = entries(&world, REJECTED).await;
    let found: BTreeSet<Uuid> = parked
        .iter()
        .map(|entry| {
            assert_eq!(entry.get::<String>("reason").unwrap(), "refused_by_postgresql");
            assert_eq!(entry.get::<String>("stream").unwrap(), "events:incoming");
            let data: serde_json::Value =
                serde_json::from_str(&entry.get::<String>("data").unwrap()).unwrap();
            data["event_id"].as_str().unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(found, refused);
    let (audited, said) = world.run(&["person", "audit"], &[]);
    let broken = said.contains("broken");
    assert!(audited || broken, "{said}");
    // Once it is mended, they land as well.
    world.pg("ALTER TABLE persons DROP CONSTRAINT no_poison").await;
    world
        .pg("UPDATE persons SET properties = '{}' WHERE properties = '[]'")
        .await;
    let (replayed, said) = world.run(&["dlq", "replay", "--rejected"], &[]);
    assert!(replayed, "{said}");
    fine.extend(refused);
    world.holds_exactly(&fine).await;
}

#[tokio::test]
async fn an_event_without_an_id_of_its_own_has_the_same_one_when_it_is_replayed_from_the_rejected() {
    let world = World::start().await;
    let project = Uuid::new_v4().to_string();
    let _worker = world.worker("w1", &[]);
    let fields = [
        ("project_id", project.as_str()),
        ("distinct_id", "d"),
        ("event_name", "e"),
    ];
    let entry = world.add(&fields).await;
    eventually("it is rejected", SOON, async || {
        world.length(REJECTED).await == Some(1)
    })
    .await;
    world
        .pg(&format!(
            "INSERT INTO projects (id, name) VALUES ('{project}', 'new')"
        ))
        .await;
    let (replayed, said) = world.run(&["dlq", "replay", "--rejected"], &[]);
    assert!(replayed, "{said}");
    let derived = qurvo_processor::event::id::derived_event("events:incoming", entry.parse().unwrap());
    assert_eq!(world.ch("SELECT event_id FROM events").await, derived.to_string());
}
