//! An anonymous id that an `$identify` brings along and that nobody had seen has its person from its first row on: no
//! override is kept for it, unless rows of it may stand under somebody else.

use nix::sys::signal::Signal;

use crate::support::{PROJECT, SOON, World, ask};
use crate::truth::{CHECKS, NOBODY, agree_after_traffic};

async fn overrides(world: &World) -> String {
    world
        .ch("SELECT uniqExact(distinct_id) FROM person_distinct_id_overrides")
        .await
}

async fn unpublished(world: &World) -> Vec<String> {
    world
        .pg("SELECT distinct_id FROM processor_person_overrides WHERE NOT published")
        .await
}

fn audited(world: &World) {
    let (ok, said) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{said}");
}

fn key(id: &str) -> String {
    format!("person:{PROJECT}:{id}")
}

/// A row of an id that is under nobody's person, of which PostgreSQL knows nothing.
async fn row_of_nobody(world: &World, id: &str) {
    world
        .ch(&format!(
            "INSERT INTO events (project_id, event_name, distinct_id, person_id, timestamp)
             VALUES ('{PROJECT}', 'before', '{id}', '{NOBODY}', now64(3))"
        ))
        .await;
}

#[tokio::test]
async fn an_id_that_nobody_had_seen_is_attached_without_an_override() {
    let world = World::start().await;
    let _workers = [world.worker("w1", &[]), world.worker("w2", &[])];
    for n in 0..50 {
        world.identify(&format!("user-{n}"), &format!("anon-{n}")).await;
    }
    world.settled(SOON).await;
    for n in 0..50 {
        world.event(&format!("anon-{n}"), &[]).await;
        // The same again, as a client does that identifies at every page.
        world.identify(&format!("user-{n}"), &format!("anon-{n}")).await;
    }
    world.settled(SOON).await;
    assert_eq!(overrides(&world).await, "0");
    assert_eq!(unpublished(&world).await, [""; 0]);
    for n in 0..50 {
        let persons = world.persons_of(&format!("anon-{n}")).await;
        assert_eq!(persons, world.persons_of(&format!("user-{n}")).await, "{n}");
        assert!(persons[0].is_some() && persons[0] == persons[1] && persons[1] == persons[2]);
    }
    audited(&world);
}

#[tokio::test]
async fn an_attached_id_that_is_merged_later_is_told_of_like_any_other() {
    let always = [("PROCESSOR_MERGE_POLICY", "always")];
    let world = World::start().await;
    let _worker = world.worker("w1", &always);
    world.identify("first", "anon").await;
    world.event("anon", &[]).await;
    world.settled(SOON).await;
    assert_eq!(overrides(&world).await, "0");
    world.identify("second", "first").await;
    world.settled(SOON).await;
    assert_eq!(overrides(&world).await, "2");
    assert_eq!(world.persons_of("anon").await, world.persons_of("first").await);
    audited(&world);
}

#[tokio::test]
async fn an_attached_id_whose_person_is_merged_in_the_same_batch_is_told_of() {
    let world = World::start().await;
    world.identify("first", "anon").await;
    world.event("anon", &[]).await;
    world.identify("second", "first").await;
    let _worker = world.worker("w1", &[("PROCESSOR_MERGE_POLICY", "always")]);
    world.settled(SOON).await;
    assert_eq!(overrides(&world).await, "2");
    assert_eq!(world.persons_of("anon").await, world.persons_of("first").await);
    audited(&world);
}

#[tokio::test]
async fn an_attached_id_that_redis_names_somebody_else_for_is_told_of() {
    let world = World::start().await;
    for (id, value) in [("other", NOBODY), ("text", "nobody's"), ("empty", "")] {
        row_of_nobody(&world, id).await;
        ask::<redis::Value>(&world, "SET", &[&key(id), value]).await;
    }
    row_of_nobody(&world, "list").await;
    ask::<redis::Value>(&world, "RPUSH", &[&key("list"), NOBODY]).await;
    let _worker = world.worker("w1", &[]);
    for id in ["other", "text", "empty", "list"] {
        world.identify("user", id).await;
    }
    world.settled(SOON).await;
    assert_eq!(overrides(&world).await, "4");
    audited(&world);
}

#[tokio::test]
async fn an_attached_id_that_clickhouse_has_an_override_of_is_told_of() {
    let world = World::start().await;
    let other = "22222222-2222-2222-2222-222222222222";
    world
        .pg(&format!(
            "INSERT INTO projects (id, name) VALUES ('{other}', 'other')"
        ))
        .await;
    world
        .ch(&format!(
            "INSERT INTO person_distinct_id_overrides VALUES
                 ('{PROJECT}', 'b''e\\\\fore\\t', '{NOBODY}', 7), ('{other}', 'new', '{NOBODY}', 7)"
        ))
        .await;
    let _worker = world.worker("w1", &[]);
    world.identify("user", "b'e\\fore\t").await;
    world.identify("user", "new").await;
    world.settled(SOON).await;
    let told = "SELECT count() FROM person_distinct_id_overrides WHERE version > 7";
    assert_eq!(world.ch(told).await, "1");
    let (ok, said) = world.run(&["person", "audit", "--project", PROJECT], &[]);
    assert!(ok, "{said}");
}

#[tokio::test]
async fn of_many_ids_attached_at_once_those_are_told_of_that_clickhouse_has_overrides_of() {
    const MANY: usize = 1_500;
    for dictionary_answers in [true, false] {
        let world = World::start().await;
        // Some are as long as they may be.
        let ids: Vec<String> = (0..MANY)
            .map(|n| format!("{n}").repeat(if n % 7 == 0 { 400 / n.to_string().len() } else { 1 }))
            .collect();
        for n in [3, 7, 700, 1_400, 1_499] {
            world
                .ch(&format!(
                    "INSERT INTO person_distinct_id_overrides VALUES ('{PROJECT}', '{}', '{NOBODY}', 7)",
                    ids[n]
                ))
                .await;
        }
        let dictionary = if dictionary_answers {
            "SYSTEM RELOAD DICTIONARY person_overrides_dict"
        } else {
            "RENAME DICTIONARY person_overrides_dict TO another"
        };
        world.ch(dictionary).await;
        for id in &ids {
            world.identify("user", id).await;
        }
        let _worker = world.worker("w1", &[]);
        world.settled(SOON).await;
        assert_eq!(overrides(&world).await, "5", "{dictionary_answers}");
        audited(&world);
    }
}

#[tokio::test]
async fn an_attached_id_whose_person_was_deleted_is_told_of() {
    for redis_forgets in [false, true] {
        let world = World::start().await;
        let _worker = world.worker("w1", &[]);
        world.event("anon", &[]).await;
        world.settled(SOON).await;
        world.pg("DELETE FROM persons").await;
        if redis_forgets {
            // What the worker remembers is left.
            world.forget_person_keys().await;
        }
        world.identify("user", "anon").await;
        world.settled(SOON).await;
        assert_eq!(overrides(&world).await, "1", "{redis_forgets}");
        audited(&world);
    }
}

#[tokio::test]
async fn an_attached_id_that_another_instance_remembers_otherwise_is_told_of_once_it_finds_out() {
    let world = World::start().await;
    let frozen = world.worker("w1", &[CHECKS]);
    world.event("anon", &[]).await;
    world.settled(SOON).await;
    frozen.signal(Signal::SIGSTOP);
    world.pg("DELETE FROM persons").await;
    world.forget_person_keys().await;
    let mut other = world.worker("w2", &[CHECKS]);
    world.identify("user", "anon").await;
    world.settled(SOON).await;
    other.terminate();
    other.ended(SOON).await;
    assert_eq!(
        overrides(&world).await,
        "0",
        "no store says that anybody had seen it"
    );
    frozen.signal(Signal::SIGCONT);
    agree_after_traffic(&world, &["anon", "user"], SOON).await;
    assert_eq!(overrides(&world).await, "1");
}

#[tokio::test]
async fn an_audit_finds_an_attached_id_that_lacks_the_override_it_needs() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    world.identify("user", "anon").await;
    world.settled(SOON).await;
    row_of_nobody(&world, "anon").await;
    let (ok, said) = world.run(&["person", "audit"], &[]);
    assert!(!ok && said.contains("anon"), "{said}");
    let (ok, said) = world.run(&["person", "audit", "--repair"], &[]);
    assert!(ok, "{said}");
    assert_eq!(overrides(&world).await, "1");
    audited(&world);
}
