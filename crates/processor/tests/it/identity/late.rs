//! Property writes and merges that arrive in another order than they happened in, on the real stores.

use crate::support::{SOON, World};

/// An event of minute `minute` of an hour that is over.
async fn at(world: &World, minute: u32, who: &str, fields: &[(&str, &str)]) {
    let time = format!("2026-11-01T{:02}:{:02}:00.000Z", minute / 60, minute % 60);
    let time = [("timestamp", time.as_str())];
    world.event(who, &[&time, fields].concat()).await;
}

async fn identifies(world: &World, minute: u32, user: &str, anonymous: &str) {
    let fields = [("event_name", "$identify"), ("anonymous_id", anonymous)];
    at(world, minute, user, &fields).await;
}

async fn properties(world: &World, who: &str) -> String {
    let sql = format!(
        "SELECT p.properties::text FROM persons p JOIN person_distinct_ids m ON m.person_id = p.id
         WHERE m.distinct_id = '{who}'"
    );
    world.pg(&sql).await.concat()
}

#[tokio::test]
async fn an_unset_that_comes_late_leaves_the_set_once_behind_it_however_many_there_were() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    for minute in (0..60).chain([70]) {
        let once = format!(r#"{{"$set_once":{{"k":{}}}}}"#, minute / 3);
        at(&world, minute, "u", &[("user_properties", &once)]).await;
    }
    world.settled(SOON).await;
    assert_eq!(properties(&world, "u").await, r#"{"k": 0}"#);
    // Each batch for itself: the newest comes first.
    for (minute, left) in [(5, 2), (41, 14), (30, 14), (59, 23), (60, 23)] {
        at(&world, minute, "u", &[("user_properties", r#"{"$unset":["k"]}"#)]).await;
        world.settled(SOON).await;
        assert_eq!(
            properties(&world, "u").await,
            format!(r#"{{"k": {left}}}"#),
            "{minute}"
        );
    }
}

#[tokio::test]
async fn three_hundred_ids_identified_from_the_last_to_the_first_end_with_the_value_of_the_first() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    for n in 0..300 {
        let id = format!("visitor {n}");
        let values = format!(r#"{{"k":{n},"$set_once":{{"first":"{n}"}}}}"#);
        at(&world, n, &id, &[("user_properties", &values)]).await;
    }
    world.settled(SOON).await;
    for n in (0..300).rev() {
        identifies(&world, 400 + n, "u", &format!("visitor {n}")).await;
        if n % 75 == 0 {
            world.settled(SOON).await;
            assert_eq!(
                properties(&world, "u").await,
                format!(r#"{{"k": {n}, "first": "{n}"}}"#)
            );
        }
    }
    let late = r#"{"k":"late","$set_once":{"first":"late"}}"#;
    at(&world, 310, "visitor 150", &[("user_properties", late)]).await;
    at(
        &world,
        450,
        "u",
        &[("user_properties", r#"{"$unset":["k","first"]}"#)],
    )
    .await;
    world.settled(SOON).await;
    assert_eq!(properties(&world, "u").await, r#"{"k": 51, "first": "51"}"#);
    at(
        &world,
        549,
        "u",
        &[("user_properties", r#"{"$unset":["k","first"]}"#)],
    )
    .await;
    world.settled(SOON).await;
    assert_eq!(properties(&world, "u").await, r#"{"k": "late", "first": "150"}"#);
}

#[tokio::test]
async fn who_came_to_a_person_behind_its_merge_is_not_moved_by_that_merge() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[("PROCESSOR_MERGE_POLICY", "always")]);
    for who in ["a", "b", "c"] {
        at(&world, 1, who, &[]).await;
    }
    world.settled(SOON).await;
    identifies(&world, 11, "b", "c").await;
    world.settled(SOON).await;
    identifies(&world, 8, "a", "b").await;
    world.settled(SOON).await;
    let moves = "SELECT distinct_id, (array_length(string_to_array(trim(moves), ' '), 1))::text
                 FROM processor_person_overrides ORDER BY 1";
    let moves = format!(
        "SELECT string_agg(distinct_id || ': ' || count, ', ') FROM ({moves}) AS m (distinct_id, count)"
    );
    assert_eq!(world.pg(&moves).await, ["b: 1, c: 1"]);
    identifies(&world, 20, "d", "a").await;
    world.settled(SOON).await;
    assert_eq!(world.pg(&moves).await, ["a: 1, b: 2, c: 2"]);
}
