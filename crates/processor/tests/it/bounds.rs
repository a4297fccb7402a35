//! What a person may hold, and that nothing which is larger takes more of the worker's memory than it is told of.

use std::fmt::Write;
use std::time::Duration;

use uuid::Uuid;

use crate::support::{PROJECT, SOON, Worker, World, eventually};

/// Megabytes that the worker may take at most with the default settings.
const MOST_MEMORY: u64 = 200;

pub(crate) fn stays_small(worker: &Worker) {
    stays_below(worker, MOST_MEMORY);
}

#[allow(clippy::print_stderr, reason = "the figure, for whoever measures")]
pub(crate) fn stays_below(worker: &Worker, megabytes: u64) {
    let peak = worker.peak_memory() >> 20;
    eprintln!("peak memory: {peak} MB");
    assert!(peak < megabytes, "the worker took {peak} MB");
}

/// Waits until an event has landed.
pub(crate) async fn lands(world: &World, worker: &Worker, event: Uuid) {
    eventually(
        &format!("event {event} lands; the worker said:\n{}", worker.log()),
        SOON,
        async || {
            world
                .ch(&format!("SELECT count() FROM events WHERE event_id = '{event}'"))
                .await
                == "1"
        },
    )
    .await;
}

/// Reasons that warnings of a type give.
async fn warnings(world: &World, kind: &str) -> String {
    world
        .ch(&format!(
            "SELECT details FROM ingestion_warnings WHERE type = '{kind}'"
        ))
        .await
}

/// A person's property as JSON text.
async fn property(world: &World, distinct_id: &str, name: &str) -> String {
    let sql = format!(
        "SELECT (p.properties->'{name}')::text FROM persons p JOIN person_distinct_ids m ON m.person_id = p.id
         WHERE m.distinct_id = '{distinct_id}'"
    );
    world.pg(&sql).await.pop().unwrap_or_default()
}

/// A person as somebody else may have written it, with one distinct id.
async fn person(world: &World, distinct_id: &str, properties: &str) {
    let person = Uuid::new_v4();
    world
        .pg(&format!(
            "INSERT INTO persons (id, project_id, properties) SELECT '{person}', '{PROJECT}', {properties};
             INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
             VALUES ('{PROJECT}', '{person}', '{distinct_id}')"
        ))
        .await;
}

/// A list whose numbers take six bytes each, and a thousand characters when PostgreSQL prints them.
fn list_of_large_numbers() -> String {
    let mut list = "1e1000,".repeat(150_000);
    list.pop();
    format!("[{list}]")
}

#[tokio::test]
async fn numbers_that_are_short_in_the_event_and_long_in_the_store_are_left_out() {
    let world = World::start().await;
    let list = list_of_large_numbers();
    for n in 0..3 {
        let user_properties = format!(r#"{{"$set":{{"a{n}":{list},"b{n}":{n}}}}}"#);
        world
            .event("bomber", &[("user_properties", &user_properties)])
            .await;
    }
    let worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    let last = world
        .event("bomber", &[("user_properties", r#"{"$set":{"y":1}}"#)])
        .await;
    let neighbour = world
        .event("neighbour", &[("user_properties", r#"{"x":1}"#)])
        .await;
    lands(&world, &worker, last).await;
    lands(&world, &worker, neighbour).await;
    for (distinct_id, name, value) in [
        ("bomber", "b0", "0"),
        ("bomber", "b2", "2"),
        ("bomber", "y", "1"),
        ("neighbour", "x", "1"),
        ("bomber", "a0", "NULL"),
    ] {
        assert_eq!(property(&world, distinct_id, name).await, value, "{name}");
    }
    eventually("the project is told", SOON, async || {
        warnings(&world, "person_too_large").await.lines().count() == 3
    })
    .await;
    stays_small(&worker);
}

#[tokio::test]
async fn a_person_that_is_far_too_large_already_is_not_loaded_and_its_events_land() {
    let world = World::start().await;
    let bomb = "jsonb_build_object('a', (SELECT jsonb_agg(1e1000::numeric) FROM generate_series(1, 400000)))";
    person(&world, "bomb", bomb).await;
    person(&world, "merged bomb", bomb).await;
    person(&world, "five", "jsonb_build_object('a', repeat('x', 5000000))").await;
    let worker = world.worker("w1", &[]);
    for distinct_id in ["bomb", "five"] {
        let event = world
            .event(distinct_id, &[("user_properties", r#"{"$set":{"y":1}}"#)])
            .await;
        let neighbour = world
            .event("neighbour", &[("user_properties", r#"{"x":1}"#)])
            .await;
        lands(&world, &worker, event).await;
        lands(&world, &worker, neighbour).await;
        assert_eq!(property(&world, distinct_id, "y").await, "NULL");
    }
    // Both ways round: who is merged into a person that is too large, and such a person that is merged.
    world.identify("bomb", "neighbour").await;
    world
        .event("user", &[("user_properties", r#"{"name":"u"}"#)])
        .await;
    let last = world.identify("user", "merged bomb").await;
    lands(&world, &worker, last).await;
    world.settled(SOON).await;
    for (user, merged) in [("bomb", "neighbour"), ("user", "merged bomb")] {
        assert_eq!(world.persons_of(user).await[0], world.persons_of(merged).await[0]);
    }
    assert_eq!(property(&world, "merged bomb", "name").await, r#""u""#);
    eventually("the project is told of each", SOON, async || {
        warnings(&world, "person_too_large").await.lines().count() == 4
    })
    .await;
    stays_small(&worker);
}

/// An `$identify` at a time of its own.
async fn identify_at(world: &World, user: &str, anonymous: &str, timestamp: u64) -> Uuid {
    let timestamp = timestamp.to_string();
    let fields = [
        ("event_name", "$identify"),
        ("anonymous_id", anonymous),
        ("timestamp", timestamp.as_str()),
    ];
    world.event(user, &fields).await
}

#[tokio::test]
async fn a_long_chain_of_merges_leaves_a_person_that_can_be_read() {
    let world = World::start().await;
    let worker = world.worker("w1", &[("PROCESSOR_MERGE_POLICY", "always")]);
    let began = 1_790_000_000_000u64;
    for step in 0..60 {
        identify_at(
            &world,
            &format!("u{}", step + 1),
            &format!("u{step}"),
            began + 1000 * step,
        )
        .await;
    }
    world.settled(SOON).await;
    let timestamp = (began - 1000).to_string();
    let late = [
        ("user_properties", r#"{"late":1}"#),
        ("timestamp", timestamp.as_str()),
    ];
    world.event("u0", &late).await;
    world.settled(SOON).await;
    world.event("u0", &[("user_properties", r#"{"new":2}"#)]).await;
    world.event("u60", &[("user_properties", r#"{"newer":3}"#)]).await;
    world.settled(SOON).await;
    assert_eq!(world.length("events:rejected").await, Some(0), "{}", worker.log());
    for (name, value) in [("late", "1"), ("new", "2"), ("newer", "3")] {
        assert_eq!(property(&world, "u30", name).await, value, "{name}");
    }
}

#[tokio::test]
async fn chains_of_merges_at_shuffled_times_hold_nobody_up() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[("PROCESSOR_MERGE_POLICY", "always")]);
    let began = 1_790_000_000_000u64;
    let mut random = 7u64;
    for chain in 0..5 {
        for step in 0..200u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let time = began + (random >> 33) % 100_000;
            let (user, anonymous) = (format!("c{chain}-{}", step + 1), format!("c{chain}-{step}"));
            identify_at(&world, &user, &anonymous, time).await;
            let mut user_properties = String::new();
            let _infallible = write!(user_properties, r#"{{"$set":{{"k{}":{step}}}}}"#, step % 7);
            let time = (time + 500).to_string();
            let fields = [
                ("user_properties", user_properties.as_str()),
                ("timestamp", time.as_str()),
            ];
            world.event(&format!("c{chain}-{}", step / 2), &fields).await;
        }
        world.load(400, 20).await;
    }
    eventually("everything is settled", Duration::from_secs(45), async || {
        assert!(worker.is_running(), "{}", worker.log());
        world.unsettled().await == Some(0)
    })
    .await;
    assert_eq!(world.length("events:rejected").await, Some(0), "{}", worker.log());
    assert_eq!(world.length("events:dlq").await, Some(0), "{}", worker.log());
}

#[tokio::test]
async fn a_batch_of_many_large_persons_is_committed_in_parts() {
    const PERSONS: usize = 400;
    let world = World::start().await;
    world
        .pg(&format!(
            "CREATE TEMP TABLE made AS SELECT gen_random_uuid() AS id, n FROM generate_series(1, {PERSONS}) n;
             WITH large AS MATERIALIZED (
                 SELECT jsonb_object_agg('k' || n, repeat('x', 4000)) AS document FROM generate_series(1, 100) n)
             INSERT INTO persons (id, project_id, properties) SELECT made.id, '{PROJECT}', large.document FROM made, large;
             INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
             SELECT '{PROJECT}', id, 'large-' || n FROM made"
        ))
        .await;
    let mut pipeline = redis::pipe();
    for n in 0..2 * PERSONS {
        let person = n % PERSONS + 1;
        pipeline
            .cmd("XADD")
            .arg(&["events:incoming", "*", "project_id", PROJECT, "event_name", "e"])
            .arg(&["distinct_id", &format!("large-{person}")])
            .arg(&["user_properties", &format!(r#"{{"n":{n}}}"#)])
            .ignore();
    }
    pipeline
        .query_async::<()>(&mut world.redis.clone())
        .await
        .unwrap();
    let (user, anonymous) = ("large-7", "large-8");
    world.identify(user, anonymous).await;
    let neighbour = world
        .event("neighbour", &[("user_properties", r#"{"x":1}"#)])
        .await;
    let worker = world.worker("w1", &[("LOG_LEVEL", "info,qurvo_processor::identity=debug")]);
    world.settled(Duration::from_mins(1)).await;
    lands(&world, &worker, neighbour).await;
    let last_write = format!(
        "SELECT count(*) FROM persons WHERE (properties->>'n')::int >= {PERSONS} AND properties ? 'k99'"
    );
    assert_eq!(world.pg(&last_write).await, [(PERSONS - 1).to_string()]);
    assert_eq!(
        world.persons_of(user).await[0],
        world.persons_of(anonymous).await[0]
    );
    for distinct_id in [user, anonymous, "large-9"] {
        let [postgres, redis, clickhouse] = world.persons_of(distinct_id).await;
        assert_eq!((postgres, postgres), (redis, clickhouse), "{distinct_id}");
    }
    assert!(worker.log().contains("committing in parts"), "{}", worker.log());
    stays_small(&worker);
}

#[tokio::test]
async fn a_chain_of_very_many_merges_in_one_batch_takes_no_more_memory() {
    const STEPS: usize = 3_000;
    let world = World::start().await;
    let mut pipeline = redis::pipe();
    for step in 0..STEPS {
        pipeline
            .cmd("XADD")
            .arg(&[
                "events:incoming",
                "*",
                "project_id",
                PROJECT,
                "event_name",
                "$identify",
            ])
            .arg(&["distinct_id", &format!("u{}", step + 1)])
            .arg(&["anonymous_id", &format!("u{step}")])
            .arg(&["user_properties", &format!(r#"{{"k{}":{step}}}"#, step % 50)])
            .ignore();
    }
    pipeline
        .query_async::<()>(&mut world.redis.clone())
        .await
        .unwrap();
    // Everybody is somebody already, so that each step is a merge.
    for step in (0..=STEPS).step_by(1000) {
        let end = (step + 999).min(STEPS);
        world
            .pg(&format!(
                "CREATE TEMP TABLE made AS SELECT gen_random_uuid() AS id, n FROM generate_series({step}, {end}) n;
                 INSERT INTO persons (id, project_id) SELECT id, '{PROJECT}' FROM made;
                 INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
                 SELECT '{PROJECT}', id, 'u' || n FROM made"
            ))
            .await;
    }
    let worker = world.worker("w1", &[("PROCESSOR_MERGE_POLICY", "always")]);
    let neighbour = world.event("neighbour", &[]).await;
    world.settled(Duration::from_mins(1)).await;
    lands(&world, &worker, neighbour).await;
    assert_eq!(
        world
            .pg("SELECT count(DISTINCT person_id) FROM person_distinct_ids WHERE distinct_id LIKE 'u%'")
            .await,
        ["1"]
    );
    let longest = "SELECT max(octet_length(moves)) < 2000 FROM processor_person_overrides";
    assert_eq!(world.pg(longest).await, ["t"]);
    assert_eq!(world.length("events:rejected").await, Some(0), "{}", worker.log());
    stays_small(&worker);
}
