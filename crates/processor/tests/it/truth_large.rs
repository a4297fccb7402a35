//! Everything at once: two instances merge, the platform deletes persons, Redis goes back to an older copy, and one
//! instance is killed again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;

use crate::support::{World, eventually};
use crate::truth::{CHECKS, agree_after_traffic, delete_some};

const PERSONS: usize = 40;
const KILLS: usize = 20;

#[tokio::test]
async fn the_stores_agree_after_merges_deletions_an_older_redis_and_twenty_kills() {
    let world = World::start().await;
    let small = [
        CHECKS,
        ("PROCESSOR_BATCH_SIZE", "100"),
        ("PROCESSOR_READ_COUNT", "150"),
    ];
    let _steady = world.worker("steady", &small);
    let mut sent = world.load(500, PERSONS).await;
    let mut copy = Vec::new();
    for round in 0..KILLS {
        let mut doomed = world.worker(&format!("doomed-{round}"), &small);
        sent.extend(world.load(250, PERSONS).await);
        sent.extend(merge_some(&world).await);
        eventually("it has begun", Duration::from_secs(20), async || doomed.lives()).await;
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(50..700))).await;
        assert!(doomed.is_running(), "round {round}: {}", doomed.log());
        doomed.kill();
        match round {
            5 => copy = person_keys(&world).await,
            14 => put_back(&world, &copy).await,
            3 | 8 | 11 | 16 | 19 => delete_some(&world, 10).await,
            _ => {}
        }
    }
    let _heir = world.worker("heir", &small);
    world.settled(Duration::from_mins(1)).await;
    let ids: Vec<String> = (0..PERSONS)
        .flat_map(|n| [format!("anon-{n}"), format!("user-{n}"), format!("extra-{n}")])
        .collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    sent.extend(agree_after_traffic(&world, &ids, Duration::from_secs(40)).await);
    world.holds_exactly(&sent).await;
}

/// Ids that nobody has seen, or that were seen before, of users that are known or not.
async fn merge_some(world: &World) -> BTreeSet<uuid::Uuid> {
    let mut sent = BTreeSet::new();
    for _merge in 0..5 {
        let (user, other) = {
            let mut random = rand::rng();
            (random.random_range(0..PERSONS), random.random_range(0..PERSONS))
        };
        sent.insert(
            world
                .identify(&format!("user-{user}"), &format!("extra-{other}"))
                .await,
        );
    }
    sent
}

async fn person_keys(world: &World) -> Vec<(String, String)> {
    let mut redis = world.redis.clone();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("person:*")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(!keys.is_empty());
    let values: Vec<String> = redis::cmd("MGET")
        .arg(&keys)
        .query_async(&mut redis)
        .await
        .unwrap();
    keys.into_iter().zip(values).collect()
}

async fn put_back(world: &World, copy: &[(String, String)]) {
    world.forget_person_keys().await;
    let mut set = redis::cmd("MSET");
    for (key, value) in copy {
        set.arg(key).arg(value);
    }
    set.query_async::<()>(&mut world.redis.clone()).await.unwrap();
}
