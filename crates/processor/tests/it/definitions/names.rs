//! Names that cannot be stored as they come, and the catalogue of their batch.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::json;

use super::{event, recorded};
use crate::support::{PROJECT, SOON, World, eventually};

const EVENTS: &str = "SELECT event_name FROM event_definitions ORDER BY event_name COLLATE \"C\"";
const PROPERTIES: &str =
    "SELECT property_name FROM property_definitions ORDER BY property_name COLLATE \"C\"";
const PAIRS: &str = "SELECT concat_ws('/', event_name, property_name) FROM event_properties
    ORDER BY concat_ws('/', event_name, property_name) COLLATE \"C\"";

/// Puts events into one batch: they are there before the worker is.
async fn twenty_six_events(world: &World) -> BTreeSet<String> {
    let mut names = BTreeSet::from(["checkout".to_owned()]);
    for n in 0..24 {
        let name = format!("event {n}");
        event(world, &name, r#"{"shown":true}"#).await;
        names.insert(name);
    }
    event(world, "checkout", r#"{"paid":1}"#).await;
    event(
        world,
        "checkout\0",
        r#"{"paid\u0000":2,"\u0000paid":3,"by\u0000":"card"}"#,
    )
    .await;
    names
}

#[tokio::test]
async fn a_nul_in_a_name_costs_no_name_of_its_batch() {
    let world = World::start().await;
    let names = twenty_six_events(&world).await;
    let worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    recorded(&world, EVENTS, &names).await;
    recorded(
        &world,
        PROPERTIES,
        &["properties.by", "properties.paid", "properties.shown"],
    )
    .await;
    eventually("all pairs are recorded", SOON, async || {
        let pairs = world.pg(PAIRS).await;
        pairs.len() == 26 && pairs[..2] == ["checkout/properties.by", "checkout/properties.paid"]
    })
    .await;
    assert!(!worker.log().contains("not recorded"), "{}", worker.log());
}

/// Makes one table refuse some names in a way of its own each, and counts how often it was asked for one of them.
async fn refuse_some(world: &World) {
    world
        .pg("ALTER TABLE event_definitions ADD CONSTRAINT c CHECK (event_name NOT LIKE 'bad %');
             CREATE SEQUENCE asked;
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.property_name LIKE '%.bad %' THEN
                     PERFORM nextval('asked');
                     RAISE EXCEPTION 'no such names here';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER t BEFORE INSERT ON event_properties FOR EACH ROW EXECUTE FUNCTION refuse();
             CREATE FUNCTION too_large() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.property_name LIKE '%.bad %' THEN
                     RAISE EXCEPTION 'index row is too large' USING ERRCODE = 'program_limit_exceeded';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER t BEFORE INSERT ON property_definitions FOR EACH ROW EXECUTE FUNCTION too_large()")
        .await;
}

#[tokio::test]
async fn names_that_a_statement_refuses_are_left_out_alone_and_their_owners_are_told() {
    let world = World::start().await;
    refuse_some(&world).await;
    for n in 0..40 {
        let name = if n % 13 == 5 {
            format!("bad {n}")
        } else {
            format!("good {n:02}")
        };
        let key = if n % 17 == 3 { "bad \u{1b}[31mkey" } else { "key" };
        event(&world, &name, &json!({ key: n, "other": 1 }).to_string()).await;
    }
    let mut worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    let good: Vec<String> = (0..40)
        .filter(|n| n % 13 != 5)
        .map(|n| format!("good {n:02}"))
        .collect();
    let good: Vec<&str> = good.iter().map(String::as_str).collect();
    recorded(&world, EVENTS, &good).await;
    recorded(&world, PROPERTIES, &["properties.key", "properties.other"]).await;
    // Of 40 events 3 have the refused key instead.
    eventually("all other pairs are recorded", SOON, async || {
        world.pg(PAIRS).await.len() == 40 + 37
    })
    .await;
    eventually("it is logged", SOON, async || {
        let log = worker.log();
        log.contains("bad 5")
            && log.contains("violates check constraint")
            && log.contains("no such names here")
    })
    .await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success(), "{}", worker.log());
    let told = world
        .ch(&format!(
            "SELECT DISTINCT JSONExtractString(details, 'event_name') FROM ingestion_warnings
             WHERE type = 'name_not_recorded' AND project_id = '{PROJECT}' AND details LIKE '%check constraint%'
             ORDER BY 1"
        ))
        .await;
    assert_eq!(told, "bad 18\nbad 31\nbad 5");
}

#[tokio::test]
async fn a_name_that_is_refused_is_not_asked_for_with_every_event() {
    let world = World::start().await;
    refuse_some(&world).await;
    let worker = world.worker("w1", &[("PROCESSOR_FLUSH_INTERVAL_MS", "50")]);
    event(&world, "e", r#"{"bad key":1,"key":1}"#).await;
    recorded(&world, PAIRS, &["e/properties.key"]).await;
    let asked = async || {
        world.pg("SELECT last_value FROM asked").await[0]
            .parse::<u64>()
            .unwrap()
    };
    let (before, started) = (asked().await, Instant::now());
    for n in 0..40 {
        event(&world, "e", &format!(r#"{{"bad key":1,"key {n:02}":1}}"#)).await;
        let newest = format!("e/properties.key {n:02}");
        eventually("the new name is recorded", SOON, async || {
            world.pg(PAIRS).await.contains(&newest)
        })
        .await;
    }
    let more = asked().await - before;
    // With a neighbour and alone, every ten seconds.
    let most = 3 * (started.elapsed().as_secs() / 10 + 1);
    assert!(
        more <= most,
        "asked {more} times more during 40 batches, {most} at most"
    );
    let told = worker.log().matches("no such names here").count();
    assert_eq!(told, 1, "{}", worker.log());
}

#[tokio::test]
async fn keys_inside_set_are_recorded_and_instructions_are_not() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    let written = json!({
        "$set": {"plan": "pro", "seats": 3}, "$set_once": {"first_seen_at": "2026-01-15"}, "$unset": ["trial"],
        "$group_0": "acme", "age": 41,
    });
    world
        .event("d", &[("user_properties", &written.to_string())])
        .await;
    // Of another type than an object they say nothing.
    let wrong = json!({"$set": "plan", "$set_once": ["x"], "$unset": {"y": 1}, "age": 42});
    world.event("d", &[("user_properties", &wrong.to_string())]).await;
    world.settled(SOON).await;
    let expected =
        ["$group_0", "age", "first_seen_at", "plan", "seats"].map(|key| format!("user_properties.{key}"));
    let expected = expected.each_ref().map(String::as_str);
    recorded(&world, PROPERTIES, &expected).await;
}
