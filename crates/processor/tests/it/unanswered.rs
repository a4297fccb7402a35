//! Rows stand once although an insert goes on behind a lost answer, is forgotten by the engine, or takes for ever; and
//! although a look-up fails or is slow, or an equal entry is another's.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::lying::{About, Answer, Liar, Lie};
use crate::once;
use crate::support::letters::{QUICK, event_data, letter, rows};
use crate::support::{GROUP, PROJECT, QUEUE, SOON, STREAM, Worker, World, ask, eventually};

const EVENTS: About = About::InsertsInto("events");
/// What is only in the look-up of rows.
const LOOK_UP: About = About::Statements("arrayZip");
const AT: (&str, &str) = ("timestamp", "2026-11-01T10:00:00.000Z");

async fn start() -> (World, Liar) {
    let world = once::start().await;
    let liar = Liar::start(&world.stack.clickhouse_url().unwrap()).await;
    (world, liar)
}

fn worker(world: &World, liar: &Liar, environment: &[(&str, &str)]) -> Worker {
    let mut environment = environment.to_vec();
    environment.push(("CLICKHOUSE_URL", &liar.url));
    world.worker("one", &environment)
}

/// The rows of what is in the stream are there, and the entries are pending for an instance that is gone.
async fn landed_and_pending(world: &World, liar: &Liar, count: usize) {
    liar.tell(Lie::about(EVENTS, Answer::Truncated).after_the_engine());
    let mut first = worker(world, liar, &[]);
    eventually("the rows are there", SOON, async || {
        let there = world.ch("SELECT uniqExact(event_id) FROM events").await;
        there == count.to_string()
    })
    .await;
    first.kill();
    liar.stop_lying();
    without_deduplication(world).await;
}

/// From here on nothing but the look-up keeps a row from being written twice.
async fn without_deduplication(world: &World) {
    world
        .ch("ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 0")
        .await;
}

/// What is pending for an instance.
async fn pending(world: &World, consumer: &str) -> Vec<String> {
    let pending: redis::RedisResult<redis::streams::StreamPendingCountReply> = redis::cmd("XPENDING")
        .arg(&[STREAM, GROUP, "-", "+", "100000", consumer])
        .query_async(&mut world.redis.clone())
        .await;
    let ids = pending.map(|pending| pending.ids).unwrap_or_default();
    ids.into_iter().map(|entry| entry.id).collect()
}

/// An insert of an instance that is gone, which takes half a minute.
async fn slow_insert(world: &World, database: &str) -> JoinHandle<StatusCode> {
    let table = "CREATE TABLE IF NOT EXISTS slow (number UInt8) ENGINE = MergeTree ORDER BY number";
    world.ch(table).await;
    let clickhouse = world.stack.clickhouse_url().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let insert = client
        .post(format!(
            "{clickhouse}/?database={database}&log_comment=qurvo-processor/dead/1&max_threads=1&max_block_size=1"
        ))
        .header("X-ClickHouse-User", "qurvo")
        .header("X-ClickHouse-Key", "qurvo_secret")
        .body("INSERT INTO qurvo_analytics.slow SELECT sleepEachRow(1) FROM numbers(30)");
    let insert = tokio::spawn(async move { insert.send().await.unwrap().status() });
    let running =
        "SELECT count() FROM system.processes WHERE Settings['log_comment'] = 'qurvo-processor/dead/1'";
    eventually("it runs", SOON, async || world.ch(running).await == "1").await;
    insert
}

/// Two entries of one event.
async fn equals(world: &World, id: &str) -> [String; 2] {
    let fields = [
        ("event_id", id),
        ("project_id", PROJECT),
        ("event_name", "x"),
        ("distinct_id", "d"),
        AT,
    ];
    [world.add(&fields).await, world.add(&fields).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_waits_for_its_own_insert_that_goes_on_behind_a_lost_answer() {
    let (world, liar) = start().await;
    // Each insert takes six seconds.
    for name in ["slow", "slower"] {
        let constraint = format!("ALTER TABLE events ADD CONSTRAINT {name} CHECK sleep(3) = 0");
        world.ch(&constraint).await;
    }
    let ids = [(); 4].map(|()| Uuid::new_v4());
    for id in &ids[..3] {
        letter(&world, &event_data(*id, "d", "")).await;
    }
    let lost = Lie::about(EVENTS, Answer::stranger(502, "Bad Gateway"));
    liar.tell(lost.while_the_engine_works().times(3));
    let away = Lie::about(About::Statements("WHERE 0"), Answer::stranger(502, "Bad Gateway"));
    liar.tell(away.times(1));
    let _worker = worker(&world, &liar, &[QUICK]);
    eventually("it has tried twice", SOON, async || liar.lied() >= 2).await;
    // The next run inserts four together: for the engine that is no repetition.
    letter(&world, &event_data(ids[3], "d", "")).await;
    world.settled(SOON * 2).await;
    for id in ids {
        assert_eq!(rows(&world, id).await, "1");
    }
    assert_eq!(world.ch("SELECT count() FROM events").await, "4");
    assert!(liar.lied() >= 4, "{} lies", liar.lied());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_equal_of_a_row_whose_look_up_fails_is_looked_up_too() {
    let (world, liar) = start().await;
    let id = Uuid::new_v4().to_string();
    equals(&world, &id).await;
    for _ in 0..5 {
        world.event("d", &[]).await;
    }
    landed_and_pending(&world, &liar, 6).await;
    let refused = Answer::refusal(241, "Memory limit exceeded");
    liar.tell(Lie::about(LOOK_UP, refused).holding(id.as_str()));
    let _worker = worker(&world, &liar, &[QUICK]);
    eventually("it is set aside", SOON * 2, async || {
        world.length(QUEUE).await >= Some(1) && world.unsettled().await == Some(0)
    })
    .await;
    liar.stop_lying();
    world.settled(SOON * 2).await;
    assert_eq!(rows(&world, id.parse().unwrap()).await, "1");
    assert_eq!(world.ch("SELECT count() FROM events").await, "6");
    assert!(liar.lied() >= 4, "{} lies", liar.lied());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_with_long_names_are_looked_up_in_pieces_and_with_a_very_long_one_by_its_digest() {
    let (world, liar) = start().await;
    let mut sent = BTreeSet::new();
    for n in 0..900 {
        // Two bytes each in the parameter.
        let name = format!("{n}{}", "'".repeat(190));
        sent.insert(world.event("d", &[("event_name", &name), AT]).await);
    }
    let very_long = "x".repeat(200_000);
    let long = "'\u{fc}".repeat(2000);
    for name in [very_long.clone(), format!("{very_long}y"), long] {
        sent.insert(world.event("d", &[("event_name", &name), AT]).await);
    }
    landed_and_pending(&world, &liar, sent.len()).await;
    let second = worker(&world, &liar, &[]);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    let log = second.log();
    assert!(!log.contains("store is away"), "{log}");
}

#[tokio::test]
async fn an_entry_lands_although_its_equal_before_it_is_another_instances_now() {
    let world = once::start().await;
    // The instance gets no further than to PostgreSQL.
    let blocker = world.pg_client().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE projects, persons IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let id = Uuid::new_v4().to_string();
    let [first, _second] = equals(&world, &id).await;
    let worker = world.worker("one", &[]);
    eventually("it holds both", SOON, async || {
        pending(&world, "one").await.len() == 2
    })
    .await;
    let claim = [STREAM, GROUP, "another", "0", &first, "JUSTID"];
    let claimed: Vec<String> = ask(&world, "XCLAIM", &claim).await;
    assert_eq!(claimed.len(), 1);
    eventually("the instance knows", SOON, async || {
        worker.log().contains("belong to another instance now")
    })
    .await;
    // The other one has set it aside.
    let _: u64 = ask(&world, "XACK", &[STREAM, GROUP, &first]).await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    world.settled(SOON).await;
    assert_eq!(rows(&world, id.parse().unwrap()).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_that_is_repeated_late_is_looked_up_first() {
    let (world, liar) = start().await;
    // As when other inserts have come between, so many that the engine no longer knows the first.
    without_deduplication(&world).await;
    let late = Answer::Late(Duration::from_mins(1));
    liar.tell(Lie::about(EVENTS, late).times(1));
    let _worker = worker(&world, &liar, &[("CLICKHOUSE_REQUEST_TIMEOUT_MS", "11000")]);
    let sent = world.load(50, 10).await;
    world.settled(SOON * 2).await;
    assert_eq!(liar.lied(), 1);
    world.holds_exactly(&sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_of_a_dead_instance_that_goes_on_is_not_waited_for_in_silence() {
    let (world, liar) = start().await;
    let mut sent = world.load(50, 10).await;
    landed_and_pending(&world, &liar, sent.len()).await;
    let goes_on = slow_insert(&world, "qurvo_analytics").await;
    let environment = [QUICK, ("CLICKHOUSE_REQUEST_TIMEOUT_MS", "1000")];
    let second = worker(&world, &liar, &environment);
    eventually("it says what it waits for", SOON, async || {
        let log = second.log();
        log.contains("store is away") && log.contains("`qurvo-processor/dead/1`")
    })
    .await;
    let fresh = world.event("d", &[]).await;
    eventually("what was never sent before lands meanwhile", SOON, async || {
        rows(&world, fresh).await == "1"
    })
    .await;
    assert!(!goes_on.is_finished(), "it was over before");
    sent.insert(fresh);
    world.settled(SOON * 2).await;
    world.holds_exactly(&sent).await;
    assert_eq!(goes_on.await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_into_another_database_is_not_waited_for() {
    let (world, liar) = start().await;
    let sent = world.load(50, 10).await;
    landed_and_pending(&world, &liar, sent.len()).await;
    world.ch("CREATE DATABASE staging").await;
    let goes_on = slow_insert(&world, "staging").await;
    let _second = worker(&world, &liar, &[]);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert!(!goes_on.is_finished(), "it was over before");
    assert_eq!(goes_on.await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_look_up_takes_longer_than_an_answer_of_redis_holds_land_all_the_same() {
    let (world, liar) = start().await;
    let blocker = world.pg_client().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE projects, persons IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let sent = world.load(25_000, 50).await;
    let environment = [
        ("PROCESSOR_CLAIM_IDLE_MS", "20000"),
        ("PROCESSOR_BACKPRESSURE_THRESHOLD", "60000"),
        ("PROCESSOR_READ_COUNT", "5000"),
    ];
    let _worker = worker(&world, &liar, &environment);
    eventually("it holds them all", SOON, async || {
        pending(&world, "one").await.len() == sent.len()
    })
    .await;
    // No instance has them any more: each row is looked up, a thousand in 0.8 s.
    for ids in pending(&world, "one").await.chunks(1000) {
        let ids = ids.iter().map(String::as_str);
        let arguments: Vec<&str> = [STREAM, GROUP].into_iter().chain(ids).collect();
        let _: u64 = ask(&world, "XACK", &arguments).await;
    }
    liar.tell(Lie::about(LOOK_UP, Answer::Late(Duration::from_millis(800))));
    // Longer than what is known of them is believed.
    tokio::time::sleep(Duration::from_secs(11)).await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    eventually("they land", SOON * 4, async || {
        world.ch("SELECT count() FROM events").await == sent.len().to_string()
    })
    .await;
    world.holds_exactly(&sent).await;
}
