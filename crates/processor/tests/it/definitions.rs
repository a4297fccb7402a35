//! The catalogue of event and property names in PostgreSQL.

use std::time::Duration;

use crate::support::{PROJECT, SOON, STREAM, World, eventually, stop_for};

const EVENTS: &str = "SELECT event_name FROM event_definitions ORDER BY 1";
const PROPERTIES: &str =
    "SELECT concat_ws(' ', property_name, property_type, coalesce(value_type, '?'), is_numerical)
    FROM property_definitions ORDER BY property_name COLLATE \"C\", property_type";
const EVENT_PROPERTIES: &str = "SELECT concat_ws(' ', event_name, property_name, property_type)
    FROM event_properties ORDER BY event_name, property_name COLLATE \"C\"";

async fn recorded(world: &World, sql: &str, expected: &[&str]) {
    let mut found = Vec::new();
    for _ in 0..300 {
        found = world.pg(sql).await;
        if found == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(found, expected, "{sql}");
}

async fn event(world: &World, name: &str, properties: &str) {
    world
        .event("d", &[("event_name", name), ("properties", properties)])
        .await;
}

async fn cache(world: &World, key: &str) {
    let key = format!("{key}:{PROJECT}");
    let mut redis = world.redis.clone();
    redis::cmd("SET")
        .arg(key)
        .arg("[]")
        .query_async::<()>(&mut redis)
        .await
        .unwrap();
}

async fn is_cached(world: &World, key: &str) -> bool {
    let key = format!("{key}:{PROJECT}");
    redis::cmd("EXISTS")
        .arg(key)
        .query_async(&mut world.redis.clone())
        .await
        .unwrap()
}

#[tokio::test]
async fn names_and_types_of_what_lands_are_recorded_and_cached_lists_are_dropped_when_they_change() {
    let world = World::start().await;
    for key in ["event_names", "event_property_names"] {
        cache(&world, key).await;
    }
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
    for key in ["event_names", "event_property_names"] {
        eventually("the cached list is dropped", SOON, async || {
            !is_cached(&world, key).await
        })
        .await;
    }

    // A repeat within the hour changes nothing and keeps the caches; a type that was missing is filled.
    for key in ["event_names", "event_property_names"] {
        cache(&world, key).await;
    }
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

#[tokio::test]
async fn instances_that_see_one_property_with_several_types_settle_on_the_first() {
    let world = World::start().await;
    let small = [
        ("PROCESSOR_READ_COUNT", "5"),
        ("PROCESSOR_BATCH_SIZE", "5"),
        ("PROCESSOR_MAX_BATCH_SIZE", "5"),
    ];
    let _workers = [
        world.worker("w1", &small),
        world.worker("w2", &small),
        world.worker("w3", &small),
    ];
    for round in 0..40 {
        for value in ["1", r#""x""#, "true", "null", r#""2026-01-15""#] {
            let names: Vec<String> = (0..20)
                .map(|n| format!(r#""p{}":{value}"#, (n * 7 + round) % 20))
                .collect();
            event(
                &world,
                &format!("e{}", round % 3),
                &format!("{{{}}}", names.join(",")),
            )
            .await;
        }
    }
    world.settled(SOON).await;
    let complete = "SELECT count(*) FROM property_definitions WHERE value_type IS NOT NULL";
    eventually("all properties have a type", SOON, async || {
        world.pg(complete).await == ["20"]
    })
    .await;
    let wrong = "SELECT count(*) FROM property_definitions WHERE is_numerical <> (value_type = 'Numeric')";
    assert_eq!(world.pg(wrong).await, ["0"]);
    eventually("events have their properties", SOON, async || {
        world.pg("SELECT count(*) FROM event_properties").await == ["60"]
    })
    .await;

    // Settled means that nothing that comes later changes it.
    let types = "SELECT concat_ws(' ', property_name, value_type) FROM property_definitions ORDER BY 1";
    let before = world.pg(types).await;
    for value in ["true", "1", r#""x""#] {
        let names: Vec<String> = (0..20).map(|n| format!(r#""p{n}":{value}"#)).collect();
        event(&world, "another", &format!("{{{}}}", names.join(","))).await;
        world.settled(SOON).await;
    }
    eventually("the last event has its properties", SOON, async || {
        world
            .pg("SELECT count(*) FROM event_properties WHERE event_name = 'another'")
            .await
            == ["20"]
    })
    .await;
    assert_eq!(world.pg(types).await, before);
}

#[tokio::test]
async fn names_that_could_not_be_written_come_again_and_hold_up_nobody() {
    let world = World::start().await;
    world.event("d", &[]).await;
    let worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    // Only the catalogue is in trouble: its tables cannot be written.
    world
        .pg("ALTER TABLE property_definitions ADD CONSTRAINT closed CHECK (property_name NOT LIKE '%late%')")
        .await;
    for n in 0..5 {
        event(&world, "e", &format!(r#"{{"late":{n},"other":1}}"#)).await;
        world.settled(SOON).await;
    }
    recorded(&world, EVENTS, &["e", "test"]).await;
    recorded(
        &world,
        EVENT_PROPERTIES,
        &["e properties.late event", "e properties.other event"],
    )
    .await;
    recorded(&world, PROPERTIES, &["properties.other event Numeric t"]).await;
    eventually("it is said", SOON, async || {
        worker.log().contains("refuses names")
    })
    .await;
    assert_eq!(
        worker.log().matches("refuses names").count(),
        1,
        "once, not with every batch"
    );
    world
        .pg("ALTER TABLE property_definitions DROP CONSTRAINT closed")
        .await;
    eventually("a later event brings the name again", SOON, async || {
        event(&world, "e", r#"{"late":1,"other":1}"#).await;
        world.settled(SOON).await;
        world.pg(PROPERTIES).await
            == [
                "properties.late event Numeric t",
                "properties.other event Numeric t",
            ]
    })
    .await;
}

#[tokio::test]
async fn postgres_away_and_back_leaves_a_complete_catalogue() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    let load = async {
        for n in 0..100 {
            event(
                &world,
                &format!("e{}", n % 10),
                &format!(r#"{{"p{}":{n}}}"#, n % 10),
            )
            .await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let trouble = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        stop_for(world.stack.postgres().unwrap(), Duration::from_secs(4)).await;
    };
    tokio::join!(load, trouble);
    world.settled(SOON).await;
    for n in 0..10 {
        event(&world, &format!("e{n}"), &format!(r#"{{"p{n}":{n}}}"#)).await;
    }
    world.settled(SOON).await;
    for (table, count) in [
        ("event_definitions", "10"),
        ("property_definitions", "10"),
        ("event_properties", "10"),
    ] {
        eventually("the catalogue is complete", SOON, async || {
            world.pg(&format!("SELECT count(*) FROM {table}")).await == [count]
        })
        .await;
    }
}

#[tokio::test]
async fn a_project_that_is_deleted_takes_only_its_own_names_along() {
    let world = World::start().await;
    let gone = "22222222-2222-2222-2222-222222222222";
    world
        .pg(&format!(
            "INSERT INTO projects (id, name) VALUES ('{gone}', 'soon gone')"
        ))
        .await;
    let _worker = world.worker("w1", &[]);
    world
        .add(&[
            ("project_id", gone),
            ("distinct_id", "d"),
            ("event_name", "first"),
            ("properties", r#"{"a":1}"#),
        ])
        .await;
    world.settled(SOON).await;
    recorded(&world, EVENTS, &["first"]).await;
    world
        .pg(&format!("DELETE FROM projects WHERE id = '{gone}'"))
        .await;
    // The worker still believes in the project and its person.
    world
        .add(&[
            ("project_id", gone),
            ("distinct_id", "d"),
            ("event_name", "second"),
            ("properties", r#"{"b":1}"#),
        ])
        .await;
    event(&world, "neighbour", r#"{"c":1}"#).await;
    recorded(&world, EVENTS, &["neighbour"]).await;
    recorded(&world, PROPERTIES, &["properties.c event Numeric t"]).await;
}

/// 125 events with 200 properties each that no other wave has.
async fn wave(world: &World, wave: usize) {
    let mut pipeline = redis::pipe();
    for event in 0..125 {
        let names: Vec<String> = (0..200)
            .map(|n| format!(r#""property {wave}/{event}/{n}":{n}"#))
            .collect();
        let command = pipeline.cmd("XADD").arg(STREAM).arg("*");
        command.arg("project_id").arg(PROJECT).arg("distinct_id").arg("d");
        command
            .arg("event_name")
            .arg("e")
            .arg("properties")
            .arg(format!("{{{}}}", names.join(",")));
        command.ignore();
    }
    pipeline
        .query_async::<()>(&mut world.redis.clone())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_million_property_names_in_an_hour_are_recorded_in_bounded_memory() {
    let world = World::start().await;
    let worker = world.worker("w1", &[]);
    let complete = async |waves: usize| {
        let expected = (waves * 25_000).to_string();
        for table in ["property_definitions", "event_properties"] {
            eventually("the wave is recorded", Duration::from_mins(1), async || {
                world.pg(&format!("SELECT count(*) FROM {table}")).await == [expected.clone()]
            })
            .await;
        }
    };
    for n in 0..40 {
        wave(&world, n).await;
        complete(n + 1).await;
    }
    // The first wave has long fallen out of memory: it is written once more, and nothing changes.
    wave(&world, 0).await;
    event(
        &world,
        "e",
        r#"{"property 0/0/0":"no number","property 0/0/0 more":1}"#,
    )
    .await;
    eventually(
        "the name behind the wave is recorded",
        Duration::from_mins(1),
        async || world.pg("SELECT count(*) FROM event_properties").await == ["1000001"],
    )
    .await;
    let numeric = "SELECT count(*) FROM property_definitions WHERE value_type = 'Numeric' AND is_numerical";
    assert_eq!(world.pg(numeric).await, ["1000001"]);
    let peak = worker.peak_memory() >> 20;
    assert!(peak < 160, "{peak} MB");
    assert!(!worker.log().contains("than can wait"), "{}", worker.log());
}
