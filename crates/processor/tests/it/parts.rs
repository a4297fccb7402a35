//! Batches that are committed in parts, because their persons are too much for one transaction.

use std::collections::BTreeSet;

use crate::dead_letters::{REJECTED, ask};
use crate::holding::Holding;
use crate::lasting_failures::{POISON, refuse_one_person_as};
use crate::support::{PROJECT, SOON, World, eventually};

/// Persons of 400 KB each, with the distinct ids `large-1`, `large-2`, ….
async fn large_persons(world: &World, count: usize) {
    world
        .pg(&format!(
            "CREATE TEMP TABLE made AS SELECT gen_random_uuid() AS id, n FROM generate_series(1, {count}) n;
             INSERT INTO persons (id, project_id, properties)
             SELECT id, '{PROJECT}', jsonb_build_object('k', repeat('x', 400000)) FROM made;
             INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
             SELECT '{PROJECT}', id, 'large-' || n FROM made"
        ))
        .await;
}

#[tokio::test]
async fn who_moved_in_a_part_is_published_before_its_rows_although_a_later_part_fails() {
    const PERSONS: usize = 40;
    let world = World::start().await;
    let mut sent = BTreeSet::from([world.event("visitor", &[]).await]);
    let mut before = world.worker("before", &[]);
    world.settled(SOON).await;
    before.terminate();
    before.ended(SOON).await;
    large_persons(&world, PERSONS).await;
    // As data: the batch is taken apart, and what was committed of it is decided again.
    refuse_one_person_as(&world, "23514").await;
    // A stranger holds the lock under which is published what others have left.
    let _: () = ask(&world, "SET", &["processor:sweep:lock", "a stranger"]).await;
    sent.insert(world.identify("user", "visitor").await);
    for n in 1..=PERSONS {
        let writes = [("user_properties", r#"{"n":1}"#)];
        sent.insert(world.event(&format!("large-{n}"), &writes).await);
    }
    world.event("bad", &POISON).await;
    let port = world.stack.clickhouse().unwrap().port();
    let rows = Holding::before(port, &["insert_deduplication_token"]).await;
    rows.hold();
    let through = format!("http://{}", rows.address);
    let debug = ("LOG_LEVEL", "info,qurvo_processor::identity=debug");
    let worker = world.worker("w1", &[("CLICKHOUSE_URL", through.as_str()), debug]);
    rows.caught().await;
    let told = "SELECT count() FROM person_distinct_id_overrides WHERE distinct_id = 'visitor'";
    assert_eq!(world.ch(told).await, "1", "{}", worker.log());
    rows.let_go();
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert!(worker.log().contains("committing in parts"), "{}", worker.log());
    assert_eq!(world.length(REJECTED).await, Some(1));
    eventually("the stores agree", SOON, async || {
        world.persons_of("user").await == world.persons_of("visitor").await
    })
    .await;
}
