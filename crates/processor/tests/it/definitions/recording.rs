//! What is recorded of names that are seen, and which cached lists that drops.

use super::{EVENT_PROPERTIES, EVENTS, PROPERTIES, event, recorded};
use crate::support::{PROJECT, SOON, World, ask, eventually};

/// Two lists of a project that others keep in Redis.
const CACHES: [&str; 2] = ["event_names", "event_property_names"];

async fn cache_both(world: &World) {
    for key in CACHES {
        let () = ask(world, "SET", &[&format!("{key}:{PROJECT}"), "[]"]).await;
    }
}

async fn is_cached(world: &World, key: &str) -> bool {
    ask(world, "EXISTS", &[&format!("{key}:{PROJECT}")]).await
}

async fn both_are_dropped(world: &World) {
    for key in CACHES {
        eventually("the cached list is dropped", SOON, async || {
            !is_cached(world, key).await
        })
        .await;
    }
}

#[tokio::test]
async fn names_and_types_of_what_lands_are_recorded_and_cached_lists_are_dropped_when_they_change() {
    let world = World::start().await;
    cache_both(&world).await;
    let mut worker = world.worker("w1", &[]);
    world
        .event(
            "d",
            &[
                ("event_name", "bought"),
                (
                    "properties",
                    r#"{"price":"9.99","tags":[],"$set":{"plan":"pro"},"$groups":{}}"#,
                ),
                ("user_properties", r#"{"age":41,"$set":{"x":1}}"#),
            ],
        )
        .await;
    event(&world, "opened", r#"{"price":"free","tags":null}"#).await;
    recorded(&world, EVENTS, &["bought", "opened"]).await;
    recorded(
        &world,
        PROPERTIES,
        &[
            "properties.price event Numeric t",
            "properties.tags event ? f",
            "user_properties.age person Numeric t",
            "user_properties.plan person String f",
            "user_properties.x person Numeric t",
        ],
    )
    .await;
    recorded(
        &world,
        EVENT_PROPERTIES,
        &[
            "bought properties.price event",
            "bought properties.tags event",
            "bought user_properties.age person",
            "bought user_properties.plan person",
            "bought user_properties.x person",
            "opened properties.price event",
            "opened properties.tags event",
        ],
    )
    .await;
    both_are_dropped(&world).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
}

#[tokio::test]
async fn a_repeat_within_the_hour_keeps_cached_lists_and_a_type_that_was_missing_drops_the_properties() {
    let world = World::start().await;
    cache_both(&world).await;
    let mut worker = world.worker("w1", &[]);
    event(&world, "opened", r#"{"price":"free","tags":null}"#).await;
    let opened = ["properties.price event String f", "properties.tags event ? f"];
    recorded(&world, PROPERTIES, &opened).await;
    both_are_dropped(&world).await;

    cache_both(&world).await;
    event(&world, "opened", r#"{"price":1,"tags":null}"#).await;
    world.settled(SOON).await;
    event(&world, "opened", r#"{"tags":"2026-01-15"}"#).await;
    eventually("the type is filled", SOON, async || {
        world
            .pg(PROPERTIES)
            .await
            .contains(&"properties.tags event DateTime f".to_owned())
    })
    .await;
    eventually("the properties' list is dropped", SOON, async || {
        !is_cached(&world, "event_property_names").await
    })
    .await;
    assert!(
        is_cached(&world, "event_names").await,
        "no event name has changed"
    );
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
}

#[tokio::test]
async fn what_is_stored_changes_as_the_contract_says_and_what_people_wrote_stays() {
    let world = World::start().await;
    world
        .pg(&format!(
            "INSERT INTO event_definitions (project_id, event_name, description, tags, verified, last_seen_at)
             VALUES ('{PROJECT}', 'old', 'theirs', '{{a,b}}', true, now() - interval '3 hours'),
                    ('{PROJECT}', 'of the future', 'theirs', '{{}}', false, now() + interval '3 hours');
             INSERT INTO property_definitions
                 (project_id, property_name, property_type, description, tags, verified, value_type, is_numerical, last_seen_at)
             VALUES ('{PROJECT}', 'properties.typed', 'event', 'theirs', '{{a}}', true, 'String', false, now() - interval '3 hours'),
                    ('{PROJECT}', 'properties.untyped', 'event', 'theirs', '{{a}}', true, NULL, false, now() + interval '3 hours'),
                    ('{PROJECT}', 'properties.numeric', 'event', NULL, '{{}}', false, 'Numeric', true, now() - interval '3 hours');
             INSERT INTO event_properties (project_id, event_name, property_name, property_type, last_seen_at)
             VALUES ('{PROJECT}', 'old', 'properties.typed', 'event', now() - interval '3 hours')"
        ))
        .await;
    let mut worker = world.worker("w1", &[]);
    event(&world, "old", r#"{"typed":1,"untyped":2,"numeric":null}"#).await;
    event(&world, "of the future", "{}").await;
    world.settled(SOON).await;
    worker.terminate();
    assert!(
        worker.ended(SOON).await.success(),
        "the last names are written before the end"
    );

    let hour = "last_seen_at = date_trunc('hour', now(), 'UTC')";
    assert_eq!(
        world
            .pg(&format!(
                "SELECT concat_ws(' ', event_name, description, tags::text, verified, {hour}, last_seen_at > now())
                 FROM event_definitions ORDER BY event_name"
            ))
            .await,
        ["of the future theirs {} f f t", "old theirs {a,b} t t f"]
    );
    assert_eq!(
        world
            .pg(&format!(
                "SELECT concat_ws(' ', property_name, coalesce(description, '-'), tags::text, verified, value_type,
                                  is_numerical, {hour}, last_seen_at > now())
                 FROM property_definitions ORDER BY property_name"
            ))
            .await,
        [
            "properties.numeric - {} f Numeric t t f",
            "properties.typed theirs {a} t String f t f",
            "properties.untyped theirs {a} t Numeric t f t",
        ],
        "the first type stays, a missing one is filled, dates never go back"
    );
    assert_eq!(
        world
            .pg(&format!(
                "SELECT concat_ws(' ', property_name, {hour}) FROM event_properties ORDER BY 1"
            ))
            .await,
        [
            "properties.numeric t",
            "properties.typed t",
            "properties.untyped t"
        ]
    );
}
