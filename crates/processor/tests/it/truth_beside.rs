//! Beside the stories of one truth: what costs nothing, who is only seen, and work on persons that fails without holding up
//! others.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use crate::holding::Holding;
use crate::support::{PROJECT, SOON, World, ask, eventually};
use crate::truth::{CHECKS, NOBODY};

#[tokio::test]
async fn events_of_remembered_persons_land_while_postgres_does_not_answer_for_them() {
    for check in [&[][..], &[CHECKS]] {
        let world = World::start().await;
        let _worker = world.worker("w1", check);
        let mut sent: BTreeSet<Uuid> = [world.event("k", &[]).await, world.event("u", &[]).await].into();
        sent.insert(world.identify("u", "k").await);
        world.settled(SOON).await;
        let remembered = std::time::Instant::now();
        let blocker = world.pg_client().await;
        let lock = "BEGIN; LOCK TABLE person_distinct_ids IN ACCESS EXCLUSIVE MODE";
        blocker.batch_execute(lock).await.unwrap();
        if !check.is_empty() {
            eventually("they are due", SOON, async || {
                remembered.elapsed() > Duration::from_secs(1)
            })
            .await;
        }
        sent.extend([world.event("k", &[]).await, world.identify("u", "k").await]);
        world.settled(Duration::from_secs(20)).await;
        blocker.batch_execute("ROLLBACK").await.unwrap();
        world.holds_exactly(&sent).await;
    }
}

#[tokio::test]
async fn a_person_who_is_only_seen_is_touched_once_an_hour() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[CHECKS]);
    world.event("k", &[]).await;
    world.settled(SOON).await;
    let hour = "SELECT (updated_at >= date_trunc('hour', now(), 'UTC'))::text FROM persons";
    world
        .pg("UPDATE persons SET updated_at = now() - interval '3 h'")
        .await;
    eventually("it has been seen this hour", SOON, async || {
        world.event("k", &[]).await;
        world.settled(SOON).await;
        world.pg(hour).await == ["true"]
    })
    .await;
    let version =
        "SELECT xmin::text || ' ' || extract(minute from updated_at AT TIME ZONE 'UTC')::int FROM persons";
    let before = world.pg(version).await;
    assert!(before[0].ends_with(" 0"), "{before:?}");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    world.event("k", &[("user_properties", "{}")]).await;
    world.settled(SOON).await;
    let hour_is_the_same = world.pg(hour).await == ["true"];
    assert!(
        !hour_is_the_same || world.pg(version).await == before,
        "written again"
    );
}

#[tokio::test]
async fn redis_away_while_publishing_does_not_take_a_later_outage_of_clickhouse_from_its_gate() {
    let world = World::start().await;
    let holding = Holding::before(
        world.stack.clickhouse().unwrap().port(),
        &["person_distinct_id_overrides"],
    )
    .await;
    let through = format!("http://{}", holding.address);
    let worker = world.worker("w1", &[("CLICKHOUSE_URL", &through)]);
    let mut sent: BTreeSet<Uuid> = [world.event("a", &[]).await, world.event("u", &[]).await].into();
    world.settled(SOON).await;
    holding.hold();
    sent.insert(world.identify("u", "a").await);
    holding.caught().await;
    // Redis answers, and takes no more.
    ask::<redis::Value>(&world, "CONFIG", &["SET", "maxmemory", "1"]).await;
    holding.let_go();
    eventually("Redis counts as away", SOON, async || {
        worker.log().contains("store is away")
    })
    .await;
    world.stack.clickhouse().unwrap().stop().await.unwrap();
    ask::<redis::Value>(&world, "CONFIG", &["SET", "maxmemory", "0"]).await;
    eventually("the batch is set aside", SOON, async || {
        world.length("events:dlq").await == Some(1)
    })
    .await;
    world.stack.clickhouse().unwrap().start().await.unwrap();
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&sent).await;
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
}

#[tokio::test]
async fn inherited_merges_that_fail_hold_up_no_others() {
    let world = World::start().await;
    world
        .pg("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON processor_merges FOR EACH ROW
             WHEN (NEW.from_person::text LIKE '%dead') EXECUTE FUNCTION refuse()")
        .await;
    let person = |n: usize, end: &str| format!("00000000-0000-0000-0000-{n:08}{end}");
    let into = person(99, "0000");
    let mut entries = Vec::new();
    for (n, end) in (0..15).map(|n| (n, "dead")).chain([(50, "0000")]) {
        let from = person(n, end);
        for id in [&from, &into] {
            world
                .pg(&format!(
                    "INSERT INTO persons (id, project_id) VALUES ('{id}', '{PROJECT}') ON CONFLICT DO NOTHING;
                     INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
                     VALUES ('{PROJECT}', '{id}', 'id {id}') ON CONFLICT DO NOTHING"
                ))
                .await;
        }
        entries.push(format!(
            r#"{{"projectId":"{PROJECT}","fromPersonId":"{from}","intoPersonId":"{into}"}}"#
        ));
    }
    for entry in &entries {
        ask::<redis::Value>(&world, "LPUSH", &["processor:failed_merges", entry]).await;
    }
    let worker = world.worker("w1", &[]);
    eventually(
        "the one that can be taken over is",
        Duration::from_secs(25),
        async || world.pg("SELECT count(*) FROM processor_merges").await == ["1"],
    )
    .await;
    assert!(
        worker
            .log()
            .contains("an inherited merge could not be taken over"),
        "{}",
        worker.log()
    );
    eventually("the others are left", SOON, async || {
        ask::<u64>(&world, "LLEN", &["processor:failed_merges"]).await == 15
    })
    .await;
}

#[tokio::test]
async fn a_survivor_that_the_platform_deletes_while_ids_are_still_moving_holds_up_nobody() {
    let world = World::start().await;
    let from = "00000000-0000-0000-0000-00000000000a";
    world
        .pg(&format!(
            "INSERT INTO persons (id, project_id) VALUES ('{from}', '{PROJECT}');
             INSERT INTO person_distinct_ids (project_id, person_id, distinct_id) VALUES ('{PROJECT}', '{from}', 'k');
             INSERT INTO processor_person_redirects (project_id, from_person, into_person, unfinished)
             VALUES ('{PROJECT}', '{from}', '{NOBODY}', true);
             CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
             CREATE TRIGGER keep BEFORE UPDATE ON processor_person_redirects FOR EACH ROW EXECUTE FUNCTION keep()"
        ))
        .await;
    let _worker = world.worker("w1", &[]);
    let sent = [
        world.event("k", &[("user_properties", r#"{"a":1}"#)]).await,
        world.event("k", &[]).await,
    ];
    world.settled(SOON).await;
    world.holds_exactly(&sent.into()).await;
    assert_eq!(
        world.pg("SELECT properties::text FROM persons").await,
        [r#"{"a": 1}"#]
    );
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
}

#[tokio::test]
async fn a_mapping_that_moves_while_it_is_told_again_is_never_told_as_it_was() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    world.event("k", &[]).await;
    world.event("u", &[]).await;
    world.settled(SOON).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    let [of_k, of_u] =
        [world.persons_of("k").await, world.persons_of("u").await].map(|[person, ..]| person.unwrap());
    ask::<redis::Value>(&world, "SET", &[&format!("person:{PROJECT}:k"), NOBODY]).await;
    // A merge, as instances do it: persons under lock, the mapping, the outbox.
    let merging = world.pg_client().await;
    merging
        .batch_execute(&format!(
            "BEGIN;
             SELECT FROM persons WHERE id IN ('{of_k}', '{of_u}') ORDER BY id FOR UPDATE;
             UPDATE person_distinct_ids SET person_id = '{of_u}' WHERE distinct_id = 'k';
             INSERT INTO processor_person_overrides (project_id, distinct_id, person_id, version)
             VALUES ('{PROJECT}', 'k', '{of_u}', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)"
        ))
        .await
        .unwrap();
    let mut repair = world
        .command(&["person", "audit", "--repair"], &[])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the repair waits for the merge", SOON, async || {
        world
            .pg("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            .await
            == ["1"]
    })
    .await;
    merging.batch_execute("COMMIT").await.unwrap();
    assert!(repair.wait().unwrap().success());
    let told = "SELECT person_id FROM processor_person_overrides WHERE distinct_id = 'k'";
    assert_eq!(world.pg(told).await, [of_u.to_string()]);
    let (ok, text) = world.run(&["person", "audit", "--repair"], &[]);
    assert!(ok, "{text}");
    assert_eq!(world.persons_of("k").await, [Some(of_u); 3]);
}
