//! PostgreSQL comes back from an older copy, and Redis and ClickHouse know more than it does.

use std::time::Duration;

use crate::support::{PROJECT, SOON, World, ask, eventually};
use crate::truth::{CHECKS, agree_after_traffic};

const TABLES: [&str; 5] = [
    "persons",
    "person_distinct_ids",
    "processor_person_overrides",
    "processor_person_redirects",
    "processor_merges",
];

/// Keeps a copy of what PostgreSQL says of persons.
pub(crate) async fn dump(world: &World) {
    let all: Vec<String> = TABLES
        .iter()
        .map(|table| format!("CREATE TABLE copy_of_{table} AS TABLE {table}"))
        .collect();
    world.pg(&all.join(";")).await;
}

/// Puts the copy back.
pub(crate) async fn restore(world: &World) {
    let mut all = vec![format!("BEGIN; TRUNCATE {} CASCADE", TABLES.join(", "))];
    for table in TABLES {
        let overriding = if table == "processor_merges" {
            "OVERRIDING SYSTEM VALUE"
        } else {
            ""
        };
        all.push(format!("INSERT INTO {table} {overriding} TABLE copy_of_{table}"));
    }
    all.push("COMMIT".to_owned());
    world.pg(&all.join(";")).await;
}

#[tokio::test]
async fn persons_of_an_older_copy_of_postgres_are_told_to_the_others() {
    let ids = [
        "plain", "later", "merged", "into", "attached", "first", "second", "third", "changed", "gone",
    ];
    for restarts in [false, true] {
        let world = World::start().await;
        let policy = ("PROCESSOR_MERGE_POLICY", "always");
        let mut workers = vec![
            world.worker("w1", &[CHECKS, policy]),
            world.worker("w2", &[CHECKS, policy]),
        ];
        for id in [
            "plain", "merged", "into", "first", "second", "third", "changed", "gone",
        ] {
            world.event(id, &[]).await;
        }
        world.settled(SOON).await;
        world.identify("second", "first").await;
        world.settled(SOON).await;
        dump(&world).await;
        world.event("later", &[]).await;
        world.identify("into", "merged").await;
        world.identify("into", "attached").await;
        world.identify("third", "second").await;
        world.identify("changed", "gone").await;
        world.settled(SOON).await;
        if restarts {
            for worker in &mut workers {
                worker.terminate();
                assert!(worker.ended(SOON).await.success());
            }
        }
        restore(&world).await;
        if restarts {
            workers = vec![world.worker("w1", &[policy]), world.worker("w2", &[policy])];
        }
        world.event("changed", &[("user_properties", r#"{"a":1}"#)]).await;
        agree_after_traffic(&world, &ids, SOON).await;
        drop(workers);
    }
}

#[tokio::test]
async fn what_an_older_copy_had_yet_to_publish_is_published_as_of_now() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    for id in ["a", "u", "v"] {
        world.event(id, &[]).await;
    }
    world.identify("u", "a").await;
    world.settled(SOON).await;
    let person = world.persons_of("u").await[0].unwrap();
    let other = world.persons_of("v").await[0].unwrap();
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    // The copy says that `a` is `u` and has yet to tell of it; later it became `v`, as the others know.
    world
        .pg("UPDATE processor_person_overrides SET version = version - 600000000, published = false")
        .await;
    world
        .ch(&format!(
            "INSERT INTO person_distinct_id_overrides
             SELECT '{PROJECT}', 'a', '{other}', max(version) + 1 FROM person_distinct_id_overrides"
        ))
        .await;
    ask::<redis::Value>(
        &world,
        "SET",
        &[&format!("person:{PROJECT}:a"), &other.to_string()],
    )
    .await;
    let _worker = world.worker("w1", &[]);
    eventually("it is published", Duration::from_mins(1), async || {
        world
            .pg("SELECT count(*) FROM processor_person_overrides WHERE NOT published")
            .await
            == ["0"]
    })
    .await;
    assert_eq!(world.persons_of("a").await, [Some(person); 3]);
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
}
