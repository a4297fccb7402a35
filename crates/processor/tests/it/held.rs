//! What an instance holds is not lost and not taken back, whatever the server has forgotten and whoever has it meanwhile.

use std::time::Duration;

use crate::holding::Holding;
use crate::lying::{About, Answer, Liar, Lie};
use crate::once::{copy, plain, put_back, start};
use crate::support::{GROUP, SOON, STREAM, Worker, World, ask, eventually};

/// Nobody gets past PostgreSQL until what is returned rolls back: what is read is held.
async fn hold(world: &World) -> tokio_postgres::Client {
    let blocker = world.pg_client().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE projects, persons IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    blocker
}

async fn let_go(blocker: &tokio_postgres::Client) {
    blocker.batch_execute("ROLLBACK").await.unwrap();
}

async fn holds(world: &World, entries: u64) {
    eventually("it holds them all", SOON, async || {
        world.unsettled().await == Some(entries)
    })
    .await;
}

/// Waits until so many rows are there, and ends the worker.
async fn landed(world: &World, mut worker: Worker, rows: usize) {
    eventually("they land", SOON, async || {
        world.ch("SELECT count() FROM events").await == rows.to_string()
    })
    .await;
    worker.terminate();
    let ended = worker.ended(SOON).await;
    assert!(ended.success(), "{}", worker.log());
}

#[tokio::test]
async fn what_is_held_lands_although_the_server_has_forgotten_everything() {
    let world = start().await;
    let blocker = hold(&world).await;
    let sent = plain(&world, 200).await;
    let worker = world.worker("w1", &[]);
    holds(&world, 200).await;
    let () = ask(&world, "FLUSHALL", &[]).await;
    eventually("it has noticed", SOON, async || {
        worker.log().contains("created again")
    })
    .await;
    let_go(&blocker).await;
    landed(&world, worker, 200).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn what_is_held_lands_once_although_the_server_is_a_copy_that_holds_half_of_it() {
    let world = start().await;
    let blocker = hold(&world).await;
    let mut sent = plain(&world, 100).await;
    let () = ask(&world, "XGROUP", &["CREATE", STREAM, GROUP, "0"]).await;
    let half = copy(&world).await;
    sent.extend(plain(&world, 100).await);
    let worker = world.worker("w1", &[]);
    holds(&world, 200).await;
    put_back(&world, &half).await;
    eventually("it has noticed", SOON, async || {
        worker.log().contains("rows are looked up")
    })
    .await;
    let_go(&blocker).await;
    eventually("the copy is consumed", SOON, async || {
        world.unsettled().await == Some(0)
    })
    .await;
    landed(&world, worker, 200).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn clickhouse_counts_as_away_although_nobody_has_what_it_does_not_take() {
    let world = start().await;
    let liar = Liar::start(&world.stack.clickhouse_url().unwrap()).await;
    let blocker = hold(&world).await;
    let sent = plain(&world, 20).await;
    // The first pause between two attempts is longer than what makes an entry doubtful.
    let quick = [
        ("CLICKHOUSE_URL", liar.url.as_str()),
        ("PROCESSOR_CLAIM_IDLE_MS", "1000"),
    ];
    let worker = world.worker("w1", &quick);
    holds(&world, 20).await;
    let () = ask(&world, "FLUSHALL", &[]).await;
    eventually("it has noticed", SOON, async || {
        worker.log().contains("created again")
    })
    .await;
    liar.tell(Lie::about(
        About::InsertsInto("events"),
        Answer::stranger(503, "busy"),
    ));
    let_go(&blocker).await;
    eventually("it is away", SOON, async || {
        worker.log().contains("store is away")
    })
    .await;
    liar.stop_lying();
    landed(&world, worker, 20).await;
    world.holds_exactly(&sent).await;
}

/// Who has an entry.
async fn owner(world: &World, id: &str) -> String {
    let pending: Vec<(String, String, u64, u64)> =
        ask(world, "XPENDING", &[STREAM, GROUP, id, id, "1"]).await;
    pending
        .into_iter()
        .next()
        .map(|(_, owner, _, _)| owner)
        .unwrap_or_default()
}

#[tokio::test]
async fn what_another_has_claimed_is_not_taken_back_by_who_sets_back_its_count() {
    let world = start().await;
    let port = world.stack.redis().unwrap().port();
    let redis = Holding::before(port, &["RETRYCOUNT"]).await;
    let through = format!("redis://{}", redis.address);
    let blocker = hold(&world).await;
    plain(&world, 20).await;
    let patient = [
        ("REDIS_URL", through.as_str()),
        ("PROCESSOR_CLAIM_IDLE_MS", "3600000"),
    ];
    let worker = world.worker("w1", &patient);
    holds(&world, 20).await;
    redis.hold();
    let _killed: redis::Value = ask(&world, "CLIENT", &["KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    redis.caught().await;
    let pending: Vec<(String, String, u64, u64)> =
        ask(&world, "XPENDING", &[STREAM, GROUP, "-", "+", "1"]).await;
    let id = pending[0].0.as_str();
    let _claimed: redis::Value = ask(&world, "XCLAIM", &[STREAM, GROUP, "other", "0", id, "JUSTID"]).await;
    redis.let_go();
    eventually("it reads again", SOON, async || {
        worker.log().contains("took up own pending entries again")
    })
    .await;
    assert_eq!(owner(&world, id).await, "other");
    let_go(&blocker).await;
}

#[tokio::test]
async fn a_process_of_the_version_before_keeps_what_it_holds_under_the_same_name() {
    let world = start().await;
    let () = ask(&world, "XGROUP", &["CREATE", STREAM, GROUP, "0", "MKSTREAM"]).await;
    plain(&world, 30).await;
    let read = ["GROUP", GROUP, "same", "COUNT", "30", "STREAMS", STREAM, ">"];
    let _read: redis::Value = ask(&world, "XREADGROUP", &read).await;
    let sent = plain(&world, 100).await;
    let patient = [("PROCESSOR_CLAIM_IDLE_MS", "3600000")];
    let mut worker = world.worker("same", &patient);
    eventually("it has taken what is new", SOON, async || {
        world.unsettled().await == Some(30)
    })
    .await;
    worker.terminate();
    let ended = worker.ended(SOON).await;
    assert!(ended.success(), "{}", worker.log());
    world.holds_exactly(&sent).await;
    assert!(
        worker.log().contains("another living process"),
        "{}",
        worker.log()
    );
}

#[tokio::test]
async fn a_process_that_had_to_leave_something_behind_hands_it_to_the_next_of_its_name() {
    let world = start().await;
    let patient = [
        ("PROCESSOR_CLAIM_IDLE_MS", "3600000"),
        ("SHUTDOWN_TIMEOUT_MS", "1000"),
    ];
    let blocker = hold(&world).await;
    let sent = plain(&world, 20).await;
    let mut worker = world.worker("same", &patient);
    holds(&world, 20).await;
    worker.terminate();
    worker.ended(Duration::from_mins(1)).await;
    let_go(&blocker).await;
    let worker = world.worker("same", &patient);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert!(
        !worker.log().contains("another living process"),
        "{}",
        worker.log()
    );
}
