//! Batches that are committed in parts, because their persons are too much for one transaction.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::bounds::stays_small;
use crate::holding::Holding;
use crate::lasting_failures::{POISON, refuse_one_person_as};
use crate::support::{PROJECT, REJECTED, SOON, STREAM, World, ask, eventually};

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

/// Appends an event for each of these persons that sets a property.
async fn write_to_all(world: &World, persons: usize) {
    for some in (1..=persons).collect::<Vec<_>>().chunks(1_000) {
        let mut pipeline = redis::pipe();
        for n in some {
            pipeline
                .cmd("XADD")
                .arg(&[STREAM, "*", "project_id", PROJECT, "event_name", "e"])
                .arg(&["distinct_id", &format!("large-{n}")])
                .arg(&["user_properties", &format!(r#"{{"$set":{{"n":{n}}}}}"#)])
                .ignore();
        }
        let mut redis = world.redis.clone();
        pipeline.query_async::<()>(&mut redis).await.unwrap();
    }
}

/// The peak and the seconds are for docs/reliability.md.
#[tokio::test]
#[ignore = "takes minutes: ./dev test --run-ignored only ten_thousand_persons"]
#[allow(clippy::print_stderr, reason = "the figures, for whoever measures")]
async fn ten_thousand_persons_of_a_megabyte_in_one_batch_take_no_more_memory() {
    const PERSONS: usize = 10_000;
    const LIMIT: Duration = Duration::from_mins(40);
    let world = World::start().await;
    // A hundred properties of 10,000 characters each.
    world
        .pg(&format!(
            "CREATE TEMP TABLE made AS SELECT gen_random_uuid() AS id, n FROM generate_series(1, {PERSONS}) n;
             WITH large AS MATERIALIZED (
                 SELECT jsonb_object_agg('k' || n, repeat('x', 10000)) AS document FROM generate_series(1, 100) n)
             INSERT INTO persons (id, project_id, properties)
             SELECT made.id, '{PROJECT}', large.document FROM made, large;
             INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
             SELECT '{PROJECT}', id, 'large-' || n FROM made"
        ))
        .await;
    let least =
        "SELECT min(octet_length(properties::text)) > 1000000 FROM (SELECT * FROM persons LIMIT 100) p";
    assert_eq!(world.pg(least).await, ["t"]);
    write_to_all(&world, PERSONS).await;
    // What the other tests shorten is as it is by default.
    let defaults = [
        ("PROCESSOR_FLUSH_INTERVAL_MS", "5000"),
        ("PROCESSOR_CLAIM_INTERVAL_MS", "30000"),
        ("PROCESSOR_CLAIM_IDLE_MS", "60000"),
        ("LOG_LEVEL", "info,qurvo_processor::identity=debug"),
    ];
    let began = Instant::now();
    let worker = world.worker("w1", &defaults);
    world.settled(LIMIT).await;
    eprintln!("settled after {:?}", began.elapsed());
    for line in worker
        .log()
        .lines()
        .filter(|line| line.contains("committing in parts"))
    {
        eprintln!("{line}");
    }
    let rows = world
        .ch("SELECT count(), uniqExact(distinct_id) FROM events")
        .await;
    assert_eq!(rows, format!("{PERSONS}\t{PERSONS}"));
    let written =
        "SELECT count(*) FROM persons WHERE properties ? 'n' AND properties ? 'k99' AND properties ? 'k1'";
    assert_eq!(world.pg(written).await, [PERSONS.to_string()]);
    let warnings = world.ch("SELECT count() FROM ingestion_warnings").await;
    assert_eq!(warnings, "0", "nothing was left out");
    stays_small(&worker);
}
