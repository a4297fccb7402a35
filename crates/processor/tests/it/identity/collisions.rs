//! Instances that get in each other's way, and stores that go away while persons are merged.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::support::{SOON, World, eventually, stop_for};

const SMALL: [(&str, &str); 4] = [
    ("PROCESSOR_MERGE_POLICY", "always"),
    ("PROCESSOR_BATCH_SIZE", "10"),
    ("PROCESSOR_MAX_BATCH_SIZE", "30"),
    ("PROCESSOR_READ_COUNT", "10"),
];

/// All stores agree, and persons are exactly those that somebody is mapped to.
async fn agree(world: &World) {
    let pending = "SELECT count(*) FROM processor_person_overrides WHERE NOT published";
    eventually(
        "every override is published",
        Duration::from_secs(30),
        async || world.pg(pending).await == ["0"],
    )
    .await;
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
    let orphans = "SELECT count(*) FROM persons p WHERE NOT EXISTS
                   (SELECT FROM person_distinct_ids m WHERE m.person_id = p.id)";
    assert_eq!(world.pg(orphans).await, ["0"]);
    let gone = "SELECT count(*) FROM persons p JOIN processor_person_redirects r ON r.from_person = p.id";
    assert_eq!(world.pg(gone).await, ["0"], "a merged person came back");
}

#[tokio::test]
async fn the_same_ids_identified_in_opposite_directions_for_a_minute() {
    let world = World::start().await;
    let workers = [world.worker("w1", &SMALL), world.worker("w2", &SMALL)];
    let started = Instant::now();
    let mut sent = BTreeSet::new();
    let mut pairs = 0;
    while started.elapsed() < Duration::from_mins(1) {
        for _ in 0..10 {
            pairs += 1;
            let (a, b) = (format!("a{pairs}"), format!("b{pairs}"));
            sent.insert(world.event(&a, &[]).await);
            sent.insert(world.event(&b, &[]).await);
            for _ in 0..2 {
                sent.insert(world.identify(&a, &b).await);
                sent.insert(world.identify(&b, &a).await);
            }
        }
        world.settled(SOON).await;
    }
    world.holds_exactly(&sent).await;
    agree(&world).await;
    assert_eq!(
        world.pg("SELECT count(*) FROM persons").await,
        [pairs.to_string()]
    );
    for worker in workers {
        assert!(!worker.log().contains("deadlock"), "{}", worker.log());
    }
}

/// Users with three anonymous ids each, merged while `trouble` happens.
async fn merged_during(world: &World, trouble: impl Future<Output = ()>) {
    let _workers = [world.worker("w1", &SMALL), world.worker("w2", &SMALL)];
    let mut sent: BTreeSet<Uuid> = BTreeSet::new();
    let load = async {
        for round in 0..60 {
            for user in 0..5 {
                let (user, anonymous) = (format!("user {user}"), format!("anonymous {user}/{}", round % 3));
                sent.insert(
                    world
                        .event(&anonymous, &[("user_properties", r#"{"a":1}"#)])
                        .await,
                );
                sent.insert(world.identify(&user, &anonymous).await);
                sent.insert(world.event(&user, &[("user_properties", r#"{"b":1}"#)]).await);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::join!(load, trouble);
    world.settled(Duration::from_secs(90)).await;
    world.holds_exactly(&sent).await;
    agree(world).await;
    assert_eq!(world.pg("SELECT count(*) FROM persons").await, ["5"]);
    let properties = world.pg("SELECT DISTINCT properties::text FROM persons").await;
    assert_eq!(properties, [r#"{"a": 1, "b": 1}"#]);
}

#[tokio::test]
async fn postgres_away_for_half_a_minute_while_persons_are_merged() {
    let world = World::start().await;
    let trouble = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        stop_for(world.stack.postgres().unwrap(), Duration::from_secs(30)).await;
    };
    merged_during(&world, trouble).await;
}

#[tokio::test]
async fn all_person_keys_of_redis_are_lost_again_and_again_while_persons_are_merged() {
    let world = World::start().await;
    let trouble = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            world.forget_person_keys().await;
        }
    };
    merged_during(&world, trouble).await;
}
