//! Persons with very many distinct ids.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::support::{PROJECT, SOON, World, eventually};

const DEVICES: usize = 60_000;
const CROWD: &str = "77777777-7777-4777-8777-777777777777";

/// One person with 60,000 devices, "device 1" to "device 60000", of which the last has an event.
async fn crowd(world: &World) {
    world
        .pg(&format!(
            r#"INSERT INTO persons (id, project_id, properties) VALUES ('{CROWD}', '{PROJECT}', '{{"of": "crowd"}}');
               INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
               SELECT '{PROJECT}', '{CROWD}', 'device ' || n FROM generate_series(1, {DEVICES}) n;"#
        ))
        .await;
    world
        .ch(&format!(
            "INSERT INTO events (project_id, event_name, distinct_id, person_id, timestamp)
             SELECT '{PROJECT}', 'x', 'device {DEVICES}', '{CROWD}', now64(3)"
        ))
        .await;
}

async fn unfinished(world: &World) -> bool {
    let sql = "SELECT count(*) FROM processor_person_redirects WHERE unfinished";
    world.pg(sql).await != ["0"]
}

async fn finished(world: &World) {
    eventually("the merge is finished", Duration::from_mins(1), async || {
        !unfinished(world).await
    })
    .await;
    let pending = "SELECT count(*) FROM processor_person_overrides WHERE NOT published";
    eventually("every override is published", SOON, async || {
        world.pg(pending).await == ["0"]
    })
    .await;
}

async fn mapped_to(world: &World, distinct_id: &str) -> String {
    let sql = format!(
        "SELECT m.person_id::text, count(*)::text FROM person_distinct_ids m
         WHERE m.person_id = (SELECT person_id FROM person_distinct_ids WHERE distinct_id = '{distinct_id}')
         GROUP BY 1"
    );
    let sql = format!("SELECT count FROM ({sql}) AS m (person, count)");
    world.pg(&sql).await.concat()
}

async fn lands(world: &World, who: &str) -> Duration {
    let sent = Instant::now();
    let event: Uuid = world.event(who, &[]).await;
    let sql = format!("SELECT count() FROM events WHERE event_id = '{event}'");
    eventually("the event lands", SOON, async || world.ch(&sql).await == "1").await;
    sent.elapsed()
}

#[tokio::test]
async fn a_person_with_very_many_distinct_ids_is_merged_piece_by_piece_while_others_go_on() {
    let world = World::start().await;
    crowd(&world).await;
    let worker = world.worker("w1", &[]);
    lands(&world, "neighbour").await;
    world.identify("user", "device 1").await;
    eventually("the merge has begun", SOON, async || unfinished(&world).await).await;
    // What is still to be moved counts as moved.
    let set = [("user_properties", r#"{"from": "a device"}"#)];
    world.event("device 59999", &set).await;
    world.identify("stranger", "device 59998").await;
    let longest = lands(&world, "neighbour").await;
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    drop(worker); // kill -9
    assert!(unfinished(&world).await, "this test needs more devices");
    let sql =
        format!("SELECT person_id::text FROM person_distinct_ids WHERE distinct_id = 'device {DEVICES}'");
    let _other = world.worker("w2", &[]);
    world.settled(SOON).await;
    finished(&world).await;

    assert_eq!(mapped_to(&world, "user").await, (DEVICES + 1).to_string());
    assert_ne!(world.pg(&sql).await, [CROWD]);
    assert_eq!(
        world.pg("SELECT count(*) FROM persons").await,
        ["3"],
        "neighbour, user, stranger"
    );
    let user = "SELECT properties::text FROM persons WHERE properties <> '{}'";
    assert_eq!(world.pg(user).await, [r#"{"of": "crowd", "from": "a device"}"#]);
    assert_eq!(
        mapped_to(&world, "stranger").await,
        "1",
        "its device is another user's"
    );
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
}

#[tokio::test]
async fn a_survivor_that_is_merged_itself_takes_along_what_is_still_to_be_moved() {
    let world = World::start().await;
    crowd(&world).await;
    let always = [("PROCESSOR_MERGE_POLICY", "always")];
    let _worker = world.worker("w1", &always);
    world.identify("first", "device 1").await;
    eventually("the merge has begun", SOON, async || unfinished(&world).await).await;
    world.identify("second", "first").await;
    world.identify("third", "second").await;
    world.settled(SOON).await;
    let set = [("user_properties", r#"{"from": "a device"}"#)];
    world.event("device 59999", &set).await;
    world.settled(SOON).await;
    assert!(unfinished(&world).await, "this test needs more devices");
    finished(&world).await;
    assert_eq!(
        world.pg("SELECT properties::text FROM persons").await,
        [r#"{"of": "crowd", "from": "a device"}"#]
    );
    assert_eq!(mapped_to(&world, "third").await, (DEVICES + 3).to_string());
    assert_eq!(world.pg("SELECT count(*) FROM persons").await, ["1"]);
    let moves = "SELECT DISTINCT count(*) || ': ' || array_length(string_to_array(trim(moves), ' '), 1)
                 FROM processor_person_overrides WHERE distinct_id LIKE 'device%' GROUP BY moves";
    assert_eq!(
        world.pg(moves).await,
        [format!("{DEVICES}: 3")],
        "every one remembers all its merges"
    );
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
}

#[tokio::test]
async fn repairing_finishes_what_a_worker_has_begun() {
    let world = World::start().await;
    crowd(&world).await;
    let worker = world.worker("w1", &[]);
    world.identify("user", "device 1").await;
    eventually("the merge has begun", SOON, async || unfinished(&world).await).await;
    drop(worker);
    let (ok, text) = world.run(&["person", "audit", "--repair"], &[]);
    assert!(ok, "{text}");
    assert!(!unfinished(&world).await);
    assert_eq!(mapped_to(&world, "user").await, (DEVICES + 1).to_string());
    let sql = format!(
        "SELECT argMax(person_id, version) FROM person_distinct_id_overrides WHERE distinct_id = 'device {DEVICES}'"
    );
    let user = "SELECT person_id::text FROM person_distinct_ids WHERE distinct_id = 'user'";
    assert_eq!([world.ch(&sql).await], *world.pg(user).await);
}
