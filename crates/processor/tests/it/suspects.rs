//! Entries that were delivered too often: many innocent ones are no burden, a guilty one is found, order is kept.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::holding::Holding;
use crate::support::{GROUP, PROJECT, REJECTED, SOON, STREAM, World, entries, eventually};

/// Makes the group, and events of `distinct_id(n)` that carry their number.
async fn numbered(world: &World, count: usize, distinct_id: impl Fn(usize) -> String) -> Vec<Uuid> {
    make_group(world).await;
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::new_v4()).collect();
    for (some, first) in ids.chunks(500).zip((0..).step_by(500)) {
        let mut pipeline = redis::pipe();
        for (id, n) in some.iter().zip(first..) {
            pipeline.cmd("XADD").arg(STREAM).arg("*");
            for (name, value) in [
                ("event_id", id.to_string()),
                ("project_id", PROJECT.to_owned()),
                ("event_name", "numbered".to_owned()),
                ("distinct_id", distinct_id(n)),
                ("properties", format!(r#"{{"n":{n}}}"#)),
            ] {
                pipeline.arg(name).arg(value);
            }
            pipeline.ignore();
        }
        pipeline
            .query_async::<()>(&mut world.redis.clone())
            .await
            .unwrap();
    }
    ids
}

async fn make_group(world: &World) {
    let _: () = redis::cmd("XGROUP")
        .arg("CREATE")
        .arg(STREAM)
        .arg(GROUP)
        .arg("0")
        .arg("MKSTREAM")
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
}

/// Has `consumer` read everything there is. Returns the entries' ids.
async fn read_by(world: &World, consumer: &str) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let read: Option<redis::streams::StreamReadReply> = redis::cmd("XREADGROUP")
            .arg("GROUP")
            .arg(GROUP)
            .arg(consumer)
            .arg("COUNT")
            .arg(500)
            .arg("STREAMS")
            .arg(STREAM)
            .arg(">")
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
        let Some(read) = read else { return ids };
        let entries = read.keys.into_iter().flat_map(|key| key.ids);
        ids.extend(entries.map(|entry| entry.id));
    }
}

/// Makes it look as if these had been delivered to `consumer` this often, the last time an hour ago.
async fn delivered(world: &World, consumer: &str, ids: &[String], times: u32) {
    for ids in ids.chunks(1000) {
        let _claimed: redis::Value = redis::cmd("XCLAIM")
            .arg(STREAM)
            .arg(GROUP)
            .arg(consumer)
            .arg(0)
            .arg(ids)
            .arg("IDLE")
            .arg(3_600_000)
            .arg("RETRYCOUNT")
            .arg(times)
            .arg("JUSTID")
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
    }
}

/// How many numbered rows were written before a row of a smaller number.
async fn out_of_order(world: &World) -> String {
    world
        .ch("SELECT countIf(ingested_at < before) FROM (
                 SELECT ingested_at, max(ingested_at) OVER (
                     ORDER BY JSONExtractInt(properties, 'n') ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                 FROM events WHERE event_name = 'numbered')")
        .await
}

async fn noted(world: &World) -> u64 {
    let mut redis = world.redis.clone();
    redis::cmd("HLEN")
        .arg("processor:suspects")
        .query_async(&mut redis)
        .await
        .unwrap()
}

async fn rejected(world: &World) -> Vec<(String, String)> {
    let entries = entries(world, REJECTED).await;
    let text = |entry: &redis::streams::StreamId, field| entry.get::<String>(field).unwrap();
    let both = |entry| (text(entry, "reason"), text(entry, "stream_id"));
    entries.iter().map(both).collect()
}

#[tokio::test]
async fn twenty_thousand_innocent_suspects_cost_little_more_than_any_backlog() {
    const ENTRIES: usize = 20_000;
    let world = World::start().await;
    let sent = numbered(&world, ENTRIES, |n| format!("d{}", n % 500)).await;
    let ids = read_by(&world, "dead").await;
    delivered(&world, "dead", &ids, 6).await;
    // What an instance that is gone has noted of some of them.
    for id in &ids[7_000..7_010] {
        let _: () = redis::cmd("HSET")
            .arg("processor:suspects")
            .arg(format!("{STREAM} {id}"))
            .arg(2)
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
    }
    let started = Instant::now();
    let worker = world.worker("w1", &[("LOG_LEVEL", "info,qurvo_processor::pipeline=debug")]);
    let batches = || worker.log().matches("batch settled").count();
    let landing = Duration::from_mins(1);
    while started.elapsed() < landing && world.unsettled().await != Some(0) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let landed = world.ch("SELECT count() FROM events").await;
    assert_eq!(
        landed,
        ENTRIES.to_string(),
        "landed within {:?}, in {} batches",
        started.elapsed(),
        batches()
    );
    println!(
        "{landed} within {:?}, in {} batches",
        started.elapsed(),
        batches()
    );
    world.holds_exactly(&sent.into_iter().collect()).await;
    assert!(batches() < 100, "{} batches", batches());
    assert_eq!(out_of_order(&world).await, "0");
    assert_eq!(rejected(&world).await, []);
    eventually("nothing is noted of what has landed", SOON, async || {
        noted(&world).await == 0
    })
    .await;
}

#[tokio::test]
async fn what_stands_between_suspects_keeps_its_place() {
    const PAIRS: usize = 100;
    let world = World::start().await;
    make_group(&world).await;
    for n in 0..PAIRS {
        world
            .identify(&format!("first {n}"), &format!("shared {n}"))
            .await;
        world
            .identify(&format!("second {n}"), &format!("shared {n}"))
            .await;
    }
    let ids = read_by(&world, "dead").await;
    for (n, id) in ids.iter().enumerate() {
        let times = if n % 2 == 0 { 1 } else { 6 };
        delivered(&world, "dead", std::slice::from_ref(id), times).await;
    }
    let _worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    let client = world.pg_client().await;
    let pairs = client
        .query(
            "SELECT count(*) FROM person_distinct_ids s JOIN person_distinct_ids f
                 ON f.person_id = s.person_id AND f.distinct_id = 'first ' || substr(s.distinct_id, 8)
             WHERE s.distinct_id LIKE 'shared %'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(
        pairs[0].get::<_, i64>(0),
        PAIRS as i64,
        "the first to identify an id has it"
    );
}

/// The worker is killed whenever PostgreSQL is about to store what the guilty entry asks for.
#[tokio::test]
async fn of_a_thousand_suspects_the_guilty_one_is_found_by_halving() {
    const ENTRIES: usize = 1_000;
    const GUILTY: usize = 777;
    let world = World::start().await;
    let sent = numbered(&world, ENTRIES, |n| format!("d{n}")).await;
    world.is_dead("w1").await;
    let ids = read_by(&world, "w1").await;
    delivered(&world, "w1", &ids, 6).await;
    let judge = world.pg_client().await;
    judge
        .batch_execute(&format!(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END';
             CREATE TRIGGER wait BEFORE INSERT ON person_distinct_ids FOR EACH ROW
                 WHEN (NEW.distinct_id = 'd{GUILTY}') EXECUTE FUNCTION wait();
             SELECT pg_advisory_lock(42)"
        ))
        .await
        .unwrap();
    let mut ended = 0;
    loop {
        let mut worker = world.worker("w1", &[]);
        let mut at_fault = 0;
        eventually("it is at the guilty one, or through", SOON, async || {
            let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
            at_fault = judge.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0);
            at_fault > 0 || world.unsettled().await == Some(0)
        })
        .await;
        if at_fault == 0 {
            break;
        }
        worker.kill();
        let let_go =
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        // A server's process that is to end may still be seen to wait: it must not be taken for the next worker's.
        eventually("nobody waits any more", SOON, async || {
            judge.execute(let_go, &[]).await.unwrap() == 0
        })
        .await;
        ended += 1;
        assert!(ended <= 14, "log2 of 1,000, and three times alone");
        if noted(&world).await > 0 {
            let expires: i64 = redis::cmd("TTL")
                .arg("processor:suspects")
                .query_async(&mut world.redis.clone())
                .await
                .unwrap();
            assert!(expires > 0, "what is noted does not stay for ever");
        }
    }
    println!("the worker ended {ended} times");
    assert!(ended >= 3, "three times alone at least");
    assert_eq!(
        rejected(&world).await,
        [("crash_loop".to_owned(), ids[GUILTY].clone())],
        "nobody but the guilty one"
    );
    let mut innocent: BTreeSet<Uuid> = sent.iter().copied().collect();
    innocent.remove(&sent[GUILTY]);
    world.holds_exactly(&innocent).await;
    assert_eq!(out_of_order(&world).await, "0");
    assert_eq!(noted(&world).await, 0);
}

#[tokio::test]
async fn a_connection_that_breaks_again_and_again_makes_no_suspects() {
    let world = World::start().await;
    let worker = world.worker("w1", &[("PROCESSOR_CLAIM_IDLE_MS", "60000")]);
    world.load(100, 10).await;
    world.settled(SOON).await;
    // Nobody gets past PostgreSQL while the table is locked: what is read is held.
    let blocker = world.pg_client().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE projects, persons, person_distinct_ids IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    for n in 0..50 {
        world.event(&format!("new {n}"), &[]).await;
    }
    eventually("they are held", SOON, async || {
        world.unsettled().await == Some(50)
    })
    .await;
    for broken in 1..=5 {
        let _killed: redis::Value = redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("normal")
            .arg("SKIPME")
            .arg("yes")
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
        eventually("it reads again", SOON, async || {
            worker.log().matches("took up own pending entries again").count() >= broken
        })
        .await;
    }
    let pending: redis::streams::StreamPendingCountReply = redis::cmd("XPENDING")
        .arg(STREAM)
        .arg(GROUP)
        .arg("-")
        .arg("+")
        .arg(100)
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    let most = pending.ids.iter().map(|entry| entry.times_delivered).max();
    assert_eq!(pending.ids.len(), 50);
    // One that is cut between reading and setting back may count.
    assert!(most <= Some(2), "delivered {most:?} times\n{}", worker.log());
    blocker.batch_execute("ROLLBACK").await.unwrap();
    world.settled(SOON).await;
}

#[tokio::test]
async fn what_is_noted_of_suspects_that_nobody_has_any_more_goes() {
    let world = World::start().await;
    numbered(&world, 20, |n| format!("d{n}")).await;
    let ids = read_by(&world, "dead").await;
    // One is held by an instance that lives elsewhere; the others were settled by one that could not say so.
    let _acknowledged: u64 = redis::cmd("XACK")
        .arg(STREAM)
        .arg(GROUP)
        .arg(&ids[1..])
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    for id in &ids {
        let _: () = redis::cmd("HSET")
            .arg("processor:suspects")
            .arg(format!("{STREAM} {id}"))
            .arg(2)
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
    }
    let _worker = world.worker("w1", &[("PROCESSOR_CLAIM_IDLE_MS", "3600000")]);
    eventually("only the one that is held is noted", SOON, async || {
        noted(&world).await == 1
    })
    .await;
    let left: Vec<String> = redis::cmd("HKEYS")
        .arg("processor:suspects")
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    assert_eq!(left, [format!("{STREAM} {}", ids[0])]);
}

#[tokio::test]
async fn a_drain_that_cannot_finish_ends_at_its_limit_also_while_a_suspect_is_processed_apart() {
    let world = World::start().await;
    let sent = numbered(&world, 20, |n| format!("d{n}")).await;
    let suspects = read_by(&world, "dead").await;
    delivered(&world, "dead", &suspects, 8).await;
    let port = world.stack.clickhouse().unwrap().port();
    let clickhouse = Holding::before(port, &["INSERT"]).await;
    clickhouse.hold();
    let url = format!("http://{}", clickhouse.address);
    let environment = [("CLICKHOUSE_URL", url.as_str()), ("SHUTDOWN_TIMEOUT_MS", "1500")];
    let mut worker = world.worker("w1", &environment);
    clickhouse.caught().await;
    worker.terminate();
    // A loop that has to be given up takes five seconds more.
    let status = worker.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(1), "{}", worker.log());
    let _successor = world.worker("w1", &[]);
    world.settled(SOON).await;
    world.holds_exactly(&sent.into_iter().collect()).await;
}
