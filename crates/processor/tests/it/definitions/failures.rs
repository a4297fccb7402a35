//! Names that could not be written come again; what is gone takes only its own along.

use std::time::Duration;

use super::{EVENT_PROPERTIES, EVENTS, PROPERTIES, event, recorded};
use crate::support::{SOON, World, eventually, stop_for};

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
