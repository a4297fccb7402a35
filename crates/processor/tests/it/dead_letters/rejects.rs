//! Events that are rejected for good are no dead letters, and hold up nothing.

use std::time::Duration;

use uuid::Uuid;

use crate::support::letters::rows;
use crate::support::{PROJECT, QUEUE, REJECTED, SOON, STREAM, World, ask, entries, eventually};

#[tokio::test]
async fn only_the_rows_that_the_engine_refuses_are_set_aside_found_in_few_inserts() {
    let world = World::start().await;
    world
        .ch("ALTER TABLE events ADD CONSTRAINT no_poison CHECK event_name != 'poison'")
        .await;
    for (poison, most_inserts) in [(1, 25), (10, 170), (100, 900)] {
        let worker = world.worker(
            &format!("w{poison}"),
            &[("LOG_LEVEL", "info,qurvo_processor::warehouse=debug")],
        );
        let before = world.length(REJECTED).await.unwrap();
        let mut pipeline = redis::pipe();
        let mut fine = Vec::new();
        for n in 0..1000 {
            let id = Uuid::new_v4().to_string();
            let name = if n % (1000 / poison) == 7 % (1000 / poison) {
                "poison"
            } else {
                "fine"
            };
            if name == "fine" {
                fine.push(id.clone());
            }
            let fields = [
                ("event_id", id.as_str()),
                ("project_id", PROJECT),
                ("distinct_id", "d"),
                ("event_name", name),
            ];
            pipeline.cmd("XADD").arg(STREAM).arg("*").arg(&fields).ignore();
        }
        pipeline
            .query_async::<()>(&mut world.redis.clone())
            .await
            .unwrap();
        world.settled(Duration::from_mins(2)).await;
        let rejected = entries(&world, REJECTED).await;
        let mine = &rejected[before as usize..];
        assert_eq!(mine.len(), poison);
        for entry in mine {
            let (reason, error): (String, String) =
                (entry.get("reason").unwrap(), entry.get("error").unwrap());
            assert!(
                reason == "refused_by_warehouse" && error.contains("no_poison"),
                "{reason}: {error}"
            );
        }
        let landed = format!(
            "SELECT count() FROM events WHERE event_id IN ('{}')",
            fine.join("','")
        );
        assert_eq!(world.ch(&landed).await, fine.len().to_string());
        let inserts = worker.log().matches("rows not taken").count();
        let taken = worker.log().matches("rows inserted").count();
        assert!(
            (poison..=most_inserts).contains(&inserts) && inserts + taken <= 2 * most_inserts,
            "{inserts} refused inserts and {taken} others for {poison} rows"
        );
        println!("{poison} of 1000 refused: {inserts} refused inserts, {taken} others");
    }
    assert_eq!(world.length(QUEUE).await, Some(0));
}

#[tokio::test]
#[ignore = "takes minutes: ./dev lab"]
async fn a_million_rejected_events_in_a_row_hold_up_nothing() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[("REJECTED_MAXLEN", "5000")]);
    for _ in 0..100 {
        let mut pipeline = redis::pipe();
        for _ in 0..10_000 {
            pipeline
                .cmd("XADD")
                .arg(STREAM)
                .arg("*")
                .arg("project_id")
                .arg("x")
                .arg("event_name")
                .arg("y")
                .ignore();
        }
        pipeline
            .query_async::<()>(&mut world.redis.clone())
            .await
            .unwrap();
    }
    let id = world.event("d", &[]).await;
    eventually("the good one lands", Duration::from_mins(2), async || {
        rows(&world, id).await == "1"
    })
    .await;
    world.settled(SOON).await;
    assert_eq!(world.length(REJECTED).await, Some(5_000));
    assert_eq!(world.length(QUEUE).await, Some(0));
    assert!(worker.is_running() && !worker.log().contains("reading pauses"));
}

#[tokio::test]
async fn rejects_that_redis_does_not_take_yet_leave_every_row_with_its_own_person() {
    let world = World::start().await;
    world
        .ch("ALTER TABLE events ADD CONSTRAINT no_poison CHECK event_name != 'poison'")
        .await;
    let worker = world.worker("w1", &[]);
    world.event("first", &[]).await;
    world.settled(SOON).await;
    worker.signal(nix::sys::signal::Signal::SIGSTOP);
    world.event("poisoned", &[("event_name", "poison")]).await;
    for n in 0..20 {
        world.event(&format!("d{n}"), &[]).await;
    }
    // Redis is full: it goes on handing out entries and takes none.
    ask::<()>(&world, "CONFIG", &["SET", "maxmemory", "1"]).await;
    worker.signal(nix::sys::signal::Signal::SIGCONT);
    let landed = "SELECT count() FROM events";
    eventually("the rows land", SOON, async || world.ch(landed).await == "21").await;
    eventually("Redis refuses the reject", SOON, async || {
        worker.log().contains("store is away")
    })
    .await;
    assert_ne!(
        world.unsettled().await,
        Some(0),
        "nothing is acknowledged before its reject is kept"
    );
    ask::<()>(&world, "CONFIG", &["SET", "maxmemory", "0"]).await;
    world.settled(SOON).await;
    assert_eq!(world.length(REJECTED).await, Some(1));
    assert_eq!(world.ch(landed).await, "21");
    let wrong = world
        .ch("SELECT uniqExact(person_id) = uniqExact(distinct_id) FROM events")
        .await;
    assert_eq!(wrong, "1", "each distinct id has one person, and no two the same");
    let (ok, text) = world.run(&["person", "audit"], &[]);
    assert!(ok, "{text}");
}
