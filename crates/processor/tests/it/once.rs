//! Rows stand once, whatever the group forgets, whatever the server has forgotten, and whoever was asleep meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::holding::Holding;
use crate::support::{GROUP, SOON, STREAM, Worker, World, ask, eventually};

/// Other batches than those of an instance before: what is inserted again is no repetition that the engine would know.
const SMALLER: [(&str, &str); 3] = [
    ("PROCESSOR_READ_COUNT", "170"),
    ("PROCESSOR_BATCH_SIZE", "70"),
    ("PROCESSOR_MAX_BATCH_SIZE", "70"),
];

/// A world in which two equal rows stay two.
pub(crate) async fn start() -> World {
    let world = World::start().await;
    world.ch("SYSTEM STOP MERGES events").await;
    world
}

async fn stop(mut worker: Worker) {
    worker.terminate();
    worker.ended(SOON).await;
}

/// The stream, with everything in it, consumed and settled by an instance that is gone.
async fn consumed(world: &World, count: usize) -> BTreeSet<Uuid> {
    let sent = world.load(count, 50).await;
    let worker = world.worker("gone", &[]);
    world.settled(SOON).await;
    stop(worker).await;
    world.holds_exactly(&sent).await;
    sent
}

#[tokio::test]
async fn a_group_that_is_made_again_brings_no_row_twice() {
    let world = start().await;
    let mut sent = consumed(&world, 6000).await;
    let _: u64 = ask(&world, "XGROUP", &["DESTROY", STREAM, GROUP]).await;
    let _fresh = [world.worker("fresh-1", &SMALLER), world.worker("fresh-2", &[])];
    sent.extend(world.load(200, 50).await);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn a_group_that_somebody_else_makes_again_brings_no_row_twice() {
    let world = start().await;
    let sent = consumed(&world, 6000).await;
    let _: u64 = ask(&world, "XGROUP", &["DESTROY", STREAM, GROUP]).await;
    let _: () = ask(&world, "XGROUP", &["CREATE", STREAM, GROUP, "0"]).await;
    let _fresh = [world.worker("fresh-1", &SMALLER), world.worker("fresh-2", &[])];
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn a_group_that_goes_while_instances_run_brings_no_row_twice() {
    let world = start().await;
    let workers = [world.worker("w1", &[]), world.worker("w2", &SMALLER)];
    let mut sent = world.load(3000, 50).await;
    world.settled(SOON).await;
    for made_by_somebody_else in [false, true] {
        let mut forget = redis::pipe();
        forget
            .atomic()
            .cmd("XGROUP")
            .arg("DESTROY")
            .arg(STREAM)
            .arg(GROUP);
        if made_by_somebody_else {
            forget.cmd("XGROUP").arg("CREATE").arg(STREAM).arg(GROUP).arg("0");
        }
        let _forgotten: redis::Value = forget.query_async(&mut world.redis.clone()).await.unwrap();
        sent.extend(world.load(500, 50).await);
        world.settled(SOON).await;
        world.holds_exactly(&sent).await;
    }
    drop(workers);
}

/// Everything in Redis, for a copy that is put back later.
pub(crate) async fn copy(world: &World) -> Vec<(String, Vec<u8>)> {
    let mut copy = Vec::new();
    for key in ask::<Vec<String>>(world, "KEYS", &["*"]).await {
        // What expires is of no use in a copy.
        let value: Vec<u8> = ask(world, "DUMP", &[&key]).await;
        copy.push((key, value));
    }
    copy
}

/// What a promoted replica that was behind, or a restored file, looks like: an older content, another process.
pub(crate) async fn put_back(world: &World, copy: &[(String, Vec<u8>)]) {
    let mut back = redis::pipe();
    back.atomic().cmd("FLUSHALL").ignore();
    for (key, value) in copy {
        back.cmd("RESTORE").arg(key).arg(0).arg(value.as_slice()).ignore();
    }
    back.query_async::<()>(&mut world.redis.clone()).await.unwrap();
    let server = world.stack.redis().unwrap();
    server.stop().await.unwrap();
    server.start().await.unwrap();
    eventually("Redis answers", SOON, async || {
        let ping = redis::cmd("PING")
            .query_async::<()>(&mut world.redis.clone())
            .await;
        ping.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_an_older_copy_of_itself_brings_no_row_twice() {
    let world = start().await;
    let mut sent = consumed(&world, 1000).await;
    sent.extend(world.load(2000, 50).await);
    let before_delivery = copy(&world).await;
    let worker = world.worker("gone", &[]);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    stop(worker).await;
    put_back(&world, &before_delivery).await;
    let _fresh = [
        world.worker("fresh-1", &SMALLER),
        world.worker("fresh-2", &SMALLER),
    ];
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn a_server_that_becomes_an_older_copy_under_an_instance_brings_no_row_twice() {
    let world = start().await;
    let mut sent = consumed(&world, 1000).await;
    sent.extend(world.load(2000, 50).await);
    let before_delivery = copy(&world).await;
    let _workers = [world.worker("w1", &SMALLER), world.worker("w2", &SMALLER)];
    world.settled(SOON).await;
    put_back(&world, &before_delivery).await;
    sent.extend(world.load(500, 50).await);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn a_copy_from_before_there_was_a_group_brings_no_row_twice() {
    let world = start().await;
    let sent = world.load(3000, 50).await;
    let before_everything = copy(&world).await;
    let worker = world.worker("gone", &[]);
    world.settled(SOON).await;
    stop(worker).await;
    put_back(&world, &before_everything).await;
    let _fresh = world.worker("fresh", &SMALLER);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn an_instance_that_was_frozen_writes_no_row_that_another_has_landed() {
    let world = start().await;
    // Each insert takes a second, so batches wait behind others.
    world
        .ch("ALTER TABLE events ADD CONSTRAINT slow CHECK sleep(1) = 0")
        .await;
    let small = [
        ("PROCESSOR_READ_COUNT", "100"),
        ("PROCESSOR_BATCH_SIZE", "100"),
        ("PROCESSOR_MAX_BATCH_SIZE", "100"),
        ("PROCESSOR_BACKPRESSURE_THRESHOLD", "2000"),
    ];
    // Known persons: a process that is stopped in a transaction of PostgreSQL's would hold up the other one there.
    let mut sent = plain(&world, 50).await;
    let known = world.worker("known", &[]);
    world.settled(SOON).await;
    stop(known).await;
    sent.extend(plain(&world, 1500).await);
    let mut frozen = world.worker("frozen", &small);
    eventually("it lands", SOON, async || {
        world.ch("SELECT count() FROM events").await != "50"
    })
    .await;
    // Not between two of them: one that is frozen right before it sends an insert may write rows twice.
    let inserts = "SELECT count() FROM system.processes WHERE query ILIKE 'INSERT%' AND elapsed > 0.2";
    eventually("an insert is under way", SOON, async || {
        world.ch(inserts).await == "1"
    })
    .await;
    frozen.signal(Signal::SIGSTOP);
    let other = world.worker("other", &[]);
    world.settled(Duration::from_mins(1)).await;
    assert!(other.log().contains("took over idle entries"), "{}", other.log());
    world.holds_exactly(&sent).await;
    frozen.signal(Signal::SIGCONT);
    frozen.terminate();
    frozen.ended(SOON).await;
    world.holds_exactly(&sent).await;
    sent.extend(plain(&world, 100).await);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

/// Appends events of fifty distinct ids that ask nothing of identity once these are known.
pub(crate) async fn plain(world: &World, count: usize) -> BTreeSet<Uuid> {
    let mut sent = BTreeSet::new();
    for n in 0..count {
        sent.insert(world.event(&format!("d{}", n % 50), &[]).await);
    }
    sent
}

#[tokio::test]
async fn a_second_process_of_the_same_name_takes_nothing_from_its_twin() {
    let world = start().await;
    let port = world.stack.clickhouse().unwrap().port();
    let slow = Holding::before(port, &["insert_deduplication_token"]).await;
    slow.hold();
    let through = format!("http://{}", slow.address);
    let holds_200 = [
        ("CLICKHOUSE_URL", through.as_str()),
        ("PROCESSOR_BATCH_SIZE", "50"),
        ("PROCESSOR_MAX_BATCH_SIZE", "50"),
        ("PROCESSOR_BACKPRESSURE_THRESHOLD", "200"),
    ];
    let mut sent = plain(&world, 200).await;
    let mut first = world.worker("same", &holds_200);
    slow.caught().await;
    eventually("it holds them all", SOON, async || {
        world.unsettled().await == Some(200)
    })
    .await;
    let second = world.worker("same", &SMALLER);
    sent.extend(plain(&world, 100).await);
    eventually("the second one has taken what is new", SOON, async || {
        let landed = world.ch("SELECT count() FROM events").await;
        landed.parse::<u32>().unwrap() >= 100 && world.unsettled().await == Some(200)
    })
    .await;
    // Nothing is to be taken from the first one, for longer than the three seconds that make an entry another's.
    tokio::time::sleep(Duration::from_secs(4)).await;
    slow.let_go();
    first.terminate();
    let ended = first.ended(SOON).await;
    assert!(ended.success(), "{}", first.log());
    world.settled(Duration::from_mins(1)).await;
    world.holds_exactly(&sent).await;
    assert!(!second.log().contains("took"), "{}", second.log());
}

#[tokio::test]
async fn a_process_takes_over_at_once_what_its_dead_predecessor_of_the_same_name_held() {
    let world = start().await;
    let patient = [("PROCESSOR_CLAIM_IDLE_MS", "3600000")];
    for round in 0..3 {
        let blocker = world.pg_client().await;
        blocker
            .batch_execute("BEGIN; LOCK TABLE projects, persons IN ACCESS EXCLUSIVE MODE")
            .await
            .unwrap();
        world.event(&format!("d{round}"), &[]).await;
        let mut worker = world.worker("same", &patient);
        eventually("it holds one", SOON, async || {
            let pending = redis::cmd("XPENDING")
                .arg(&[STREAM, GROUP, "-", "+", "10", "same"])
                .query_async(&mut world.redis.clone())
                .await;
            matches!(pending, Ok(redis::Value::Array(entries)) if entries.len() == 1)
        })
        .await;
        worker.kill();
        blocker.batch_execute("ROLLBACK").await.unwrap();
        let worker = world.worker("same", &patient);
        world.settled(SOON).await;
        assert_eq!(
            world.ch("SELECT count() FROM events").await,
            (round + 1).to_string()
        );
        assert!(
            !worker.log().contains("another living process"),
            "{}",
            worker.log()
        );
        drop(worker);
    }
}

#[tokio::test]
async fn an_event_lands_although_its_equal_before_it_is_refused() {
    let world = start().await;
    world
        .ch("ALTER TABLE events ADD CONSTRAINT fine CHECK NOT has(JSONExtractKeys(properties), 'bad')")
        .await;
    let id = Uuid::new_v4().to_string();
    let equal = async |properties: &str| {
        world
            .add(&[
                ("event_id", &id),
                ("project_id", crate::support::PROJECT),
                ("event_name", "x"),
                ("distinct_id", "d"),
                ("timestamp", "2026-11-01T10:00:00.000Z"),
                ("properties", properties),
            ])
            .await
    };
    for properties in [r#"{"bad":1}"#, r#"{"bad":2}"#, r#"{"good":1}"#, r#"{"good":2}"#] {
        equal(properties).await;
    }
    world.event("d", &[]).await;
    let _worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    assert_eq!(
        world
            .ch("SELECT properties FROM events WHERE event_name = 'x'")
            .await,
        r#"{"good":1}"#
    );
    assert_eq!(world.length("events:rejected").await, Some(2));
}

#[tokio::test]
async fn what_an_instance_holds_for_long_stays_its_own() {
    const ENTRIES: usize = 300;
    let world = start().await;
    // Nobody gets past PostgreSQL: what is read is held, for longer than makes it another's.
    let blocker = world.pg_client().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE projects, persons IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let sent = plain(&world, ENTRIES).await;
    let _holder = world.worker("holder", &[]);
    let of_holder = async || {
        let pending: redis::RedisResult<redis::streams::StreamPendingCountReply> = redis::cmd("XPENDING")
            .arg(&[STREAM, GROUP, "-", "+", "1000", "holder"])
            .query_async(&mut world.redis.clone())
            .await;
        pending.map_or(0, |pending| pending.ids.len())
    };
    eventually("they are held", SOON, async || of_holder().await == ENTRIES).await;
    let other = world.worker("other", &[]);
    eventually("it runs", SOON, async || other.is_beating()).await;
    // Nothing is to be taken over, for twice as long as makes an entry another's.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(of_holder().await, ENTRIES, "{}", other.log());
    assert!(!other.log().contains("took over"), "{}", other.log());
    blocker.batch_execute("ROLLBACK").await.unwrap();
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn a_stream_that_becomes_an_instances_later_is_not_taken_for_one_without_rows() {
    let world = start().await;
    let shared = [("PROCESSOR_STREAM_SHARE", "auto")];
    let mut instances = ["a", "b"].map(|name| world.worker(name, &shared));
    let reads = |worker: &Worker| {
        worker
            .log()
            .contains("this instance reads the stream from now on")
    };
    eventually("one of them has the stream, and both run", SOON, async || {
        instances.iter().any(reads) && instances.iter().all(Worker::is_beating)
    })
    .await;
    // Both have begun with an empty warehouse.
    let sent = world.load(3000, 50).await;
    world.settled(SOON).await;
    let reader = instances.iter_mut().find(|worker| reads(worker));
    reader.expect("one has it").kill();
    let _: u64 = ask(&world, "XGROUP", &["DESTROY", STREAM, GROUP]).await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}
