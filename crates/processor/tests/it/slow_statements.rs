//! Statements that wait for another program's lock, and transactions of a process that stands still.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use qurvo_processor::stores::Postgres;

use crate::lasting_failures::landed;
use crate::support::{QUEUE, SOON, World, eventually};

/// Backends of the worker's that run a statement now.
async fn running(world: &World) -> usize {
    let sql = "SELECT pid::text FROM pg_stat_activity
               WHERE application_name = 'qurvo-processor' AND state = 'active'";
    world.pg(sql).await.len()
}

#[tokio::test]
async fn a_person_that_another_program_has_locked_holds_up_nobody_else_for_long() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    world.event("locked", &[]).await;
    world.settled(SOON).await;
    let mut other = world.pg_client().await;
    let locked = other.transaction().await.unwrap();
    locked
        .execute("SELECT * FROM persons FOR UPDATE", &[])
        .await
        .unwrap();
    let began = Instant::now();
    let mut sent = world.load(100, 20).await;
    let waits = world
        .event("locked", &[("user_properties", r#"{"late":1}"#)])
        .await;
    let after = world.load(100, 20).await;
    sent.extend(after);
    eventually("everybody else lands", Duration::from_secs(50), async || {
        landed(&world, &sent).await == sent.len()
    })
    .await;
    println!("others landed after {:?}", began.elapsed());
    assert!(running(&world).await <= 4, "no backend is left waiting");
    locked.rollback().await.unwrap();
    sent.insert(waits);
    eventually("it lands too", Duration::from_mins(1), async || {
        let _replayed = world.run(&["dlq", "replay"], &[]);
        landed(&world, &sent).await == sent.len()
    })
    .await;
    world.settled(SOON).await;
    assert_eq!(world.length(QUEUE).await, Some(0));
    world
        .holds_exactly(&{
            let first = world
                .ch("SELECT event_id FROM events WHERE distinct_id = 'locked'")
                .await;
            let first: BTreeSet<_> = first.lines().map(|id| id.parse().unwrap()).collect();
            sent.union(&first).copied().collect()
        })
        .await;
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_any_more_is_cancelled() {
    let world = World::start().await;
    let other = world.pg_client().await;
    other
        .batch_execute("BEGIN; LOCK TABLE persons IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let postgres = Postgres::new(&world.stack.database_url().unwrap().parse().unwrap()).unwrap();
    for _ in 0..3 {
        let probe = postgres.takes_writes();
        tokio::time::timeout(Duration::from_millis(500), probe)
            .await
            .unwrap_err();
    }
    eventually("no backend waits", SOON, async || running(&world).await == 0).await;
}

#[tokio::test]
async fn a_process_that_stands_still_inside_a_transaction_does_not_keep_its_locks() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    world.event("d", &[]).await;
    world.settled(SOON).await;
    let postgres = Postgres::new(&world.stack.database_url().unwrap().parse().unwrap()).unwrap();
    let transaction = postgres.begin("standing still").await.unwrap();
    transaction.start().await.unwrap();
    transaction
        .query("SELECT id FROM persons FOR UPDATE", &[])
        .await
        .unwrap();
    let other = world.pg_client().await;
    let free = "SELECT id::text FROM persons FOR UPDATE SKIP LOCKED";
    assert!(other.query(free, &[]).await.unwrap().is_empty());
    eventually("the lock is free", Duration::from_secs(45), async || {
        other.query(free, &[]).await.unwrap().len() == 1
    })
    .await;
    assert!(transaction.commit().await.is_err());
}

#[tokio::test]
async fn a_migration_may_take_longer_than_other_statements() {
    let world = World::start().await;
    world
        .pg(
            "DELETE FROM processor_migrations WHERE name = '0004_unfinished_merges';
             CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_sleep(32); RETURN NEW; END $$;
             CREATE TRIGGER slow BEFORE INSERT ON processor_migrations FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await;
    let (done, told) = world.run(&["migrate"], &[]);
    assert!(done, "{told}");
}
