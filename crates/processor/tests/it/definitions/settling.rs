//! Many instances and very many names: types settle, memory stays bounded.

use std::time::Duration;

use super::event;
use crate::support::{PROJECT, SOON, STREAM, World, eventually};

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
#[ignore = "takes minutes: ./dev lab"]
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
