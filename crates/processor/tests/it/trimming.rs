//! The newest consumed entries of the stream stay, and nothing goes that somebody needs.

use std::time::Duration;

use crate::support::metrics::{address, number, scrape};
use crate::support::{GROUP, SOON, STREAM, World, ask, eventually};

const KEPT: u64 = 10_000;
/// What may be left over between two marks.
const KEPT_AT_MOST: u64 = 11_000;
const OTHERS: &str = "other-group";

async fn length(world: &World) -> u64 {
    world.length(STREAM).await.unwrap()
}

/// Waits until the stream is as short as it may be, and checks that it is not shorter.
async fn trimmed(world: &World) {
    let mut left = 0;
    let limit = std::time::Instant::now() + SOON;
    while left == 0 || left > KEPT_AT_MOST {
        left = length(world).await;
        assert!(std::time::Instant::now() < limit, "{left} entries are left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(left >= KEPT, "{left} entries are left");
}

/// A stream that shows whether a pass was made: it is longer than it may be, and consumed.
const CONTROL: &str = "events:control";
/// What a worker reads whose passes are to be seen: it looks after the first stream first.
const BOTH: (&str, &str) = ("PROCESSOR_STREAM", "events:incoming,events:control");

/// Puts entries without an event into a stream.
async fn fill(world: &World, stream: &str, entries: &str) {
    let fill = "for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'a', '') end";
    let _filled: redis::Value = ask(world, "EVAL", &[fill, "1", stream, entries]).await;
}

async fn a_control(world: &World) {
    fill(world, CONTROL, "11000").await;
    let () = ask(world, "XGROUP", &["CREATE", CONTROL, GROUP, "$"]).await;
}

/// Waits for a pass of a worker that reads the control.
async fn a_pass_was_made(world: &World) {
    eventually("a pass has trimmed the other stream", SOON, async || {
        world.length(CONTROL).await < Some(11_000)
    })
    .await;
}

#[tokio::test]
async fn the_newest_consumed_entries_of_the_stream_stay_whoever_consumed_them() {
    let world = World::start().await;
    let sent = world.load(40_000, 200).await;
    let workers = ["w1", "w2", "w3"].map(|name| world.worker(name, &[("PROCESSOR_READ_COUNT", "200")]));
    world.settled(Duration::from_mins(1)).await;
    trimmed(&world).await;
    drop(workers);
    // A restart forgets nothing: as many more as there are go for those that come.
    let _fresh = world.worker("fresh", &[]);
    world.load(3_000, 200).await;
    world.settled(SOON).await;
    trimmed(&world).await;
    assert_eq!(
        world.ch("SELECT uniqExact(event_id) FROM events").await,
        (sent.len() + 3_000).to_string()
    );
}

#[tokio::test]
async fn a_stream_gone_quiet_is_trimmed_once_nobody_needs_it() {
    let world = World::start().await;
    let _: () = ask(&world, "XGROUP", &["CREATE", STREAM, OTHERS, "0", "MKSTREAM"]).await;
    // The stream can be cut where a read has ended.
    let mut gone = world.worker("gone", &[("PROCESSOR_READ_COUNT", "500")]);
    world.load(30_000, 200).await;
    world.settled(Duration::from_mins(1)).await;
    gone.terminate();
    gone.ended(SOON).await;
    a_control(&world).await;
    let _worker = world.worker("w1", &[BOTH]);
    a_pass_was_made(&world).await;
    assert_eq!(length(&world).await, 30_000, "the other group has read nothing");
    let mut ids = Vec::new();
    while ids.len() < 15_000 {
        let read: redis::streams::StreamReadReply = ask(
            &world,
            "XREADGROUP",
            &["GROUP", OTHERS, "c", "COUNT", "500", "STREAMS", STREAM, ">"],
        )
        .await;
        ids.extend(read.keys[0].ids.iter().map(|entry| entry.id.clone()));
    }
    for ids in ids[..14_999].chunks(500) {
        let mut arguments = vec![STREAM, OTHERS];
        arguments.extend(ids.iter().map(String::as_str));
        let _: u64 = ask(&world, "XACK", &arguments).await;
    }
    // The fifteen thousandth is pending: it stays, and so do the ten thousand before it.
    eventually("some entries go", SOON, async || length(&world).await < 27_500).await;
    assert!(length(&world).await >= 25_000, "{}", length(&world).await);
    let pending: Vec<redis::Value> = ask(&world, "XRANGE", &[STREAM, &ids[14_999], &ids[14_999]]).await;
    assert_eq!(pending.len(), 1, "what is pending is there");
    let _: u64 = ask(&world, "XACK", &[STREAM, OTHERS, &ids[14_999]]).await;
    let _: () = ask(&world, "XGROUP", &["SETID", STREAM, OTHERS, "$"]).await;
    trimmed(&world).await;
}

#[tokio::test]
async fn where_trimming_is_off_everything_stays() {
    let world = World::start().await;
    let worker = world.worker("w1", &[("PROCESSOR_TRIM", "off")]);
    // One that reads nothing takes nothing off either.
    let replays = world.worker("d1", &[("PROCESSOR_ROLES", "dlq")]);
    world.load(15_000, 200).await;
    world.settled(SOON).await;
    eventually("both run", SOON, async || {
        worker.is_beating() && replays.is_beating()
    })
    .await;
    // The others have had as much time as one that begins now and trims.
    a_control(&world).await;
    let control = world.worker("c1", &[("PROCESSOR_STREAM", CONTROL)]);
    a_pass_was_made(&world).await;
    assert_eq!(length(&world).await, 15_000);
    // The same stream, consumed and without any mark, where it is on.
    drop((worker, replays, control));
    let _worker = world.worker("w2", &[]);
    trimmed(&world).await;
}

/// How often entries were read off some stream.
async fn ranges_read(world: &World) -> u64 {
    let stats: String = ask(world, "INFO", &["commandstats"]).await;
    let of_ranges = stats
        .lines()
        .filter(|line| line.starts_with("cmdstat_xrange:") || line.starts_with("cmdstat_xrevrange:"));
    let calls = of_ranges.map(|line| {
        let (_, calls) = line.split_once("calls=").unwrap();
        calls.split(',').next().unwrap().parse::<u64>().unwrap()
    });
    calls.sum()
}

#[tokio::test]
async fn trimming_reads_no_entries_although_it_does_not_know_where_they_stand() {
    let world = World::start().await;
    let mut without_marks = world.worker("w1", &[("PROCESSOR_TRIM", "off")]);
    world.load(11_000, 200).await;
    world.settled(SOON).await;
    without_marks.terminate();
    without_marks.ended(SOON).await;
    let () = ask(&world, "CONFIG", &["RESETSTAT"]).await;
    let _worker = world.worker("w2", &[("PROCESSOR_ROLES", "consume")]);
    eventually("the stream is short", SOON, async || {
        length(&world).await < KEPT + 200
    })
    .await;
    assert!(length(&world).await >= KEPT);
    // It may look whether there is an entry that nobody has read.
    let read = ranges_read(&world).await;
    assert!(read < 20, "entries were read {read} times");
}

#[tokio::test]
async fn what_a_group_has_not_read_stays_although_its_counter_says_that_it_has() {
    let world = World::start().await;
    let mut consumer = world.worker("w1", &[("PROCESSOR_TRIM", "off")]);
    world.load(12_000, 200).await;
    world.settled(SOON).await;
    consumer.terminate();
    consumer.ended(SOON).await;
    let lies = ["CREATE", STREAM, OTHERS, "0", "ENTRIESREAD", "12000"];
    let () = ask(&world, "XGROUP", &lies).await;
    a_control(&world).await;
    let _worker = world.worker("w2", &[BOTH]);
    a_pass_was_made(&world).await;
    assert_eq!(length(&world).await, 12_000);
}

#[tokio::test]
async fn unread_entries_that_somebody_trims_are_counted_and_said() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    world.load(500, 20).await;
    world.settled(SOON).await;
    worker.terminate();
    worker.ended(SOON).await;
    for round in 1..=2 {
        world.load(5_000, 20).await;
        let _: u64 = ask(&world, "XTRIM", &[STREAM, "MAXLEN", "=", "1000"]).await;
        let address = address();
        let mut worker = world.worker("w1", &[("METRICS_LISTEN", &address)]);
        world.settled(SOON).await;
        eventually("what is lost is counted", SOON, async || {
            number(&scrape(&address).await, "entries_lost_upstream_total") == Some(4_000.0)
        })
        .await;
        let said = "before they were read";
        assert_eq!(
            worker.log().matches(said).count(),
            1,
            "round {round}: {}",
            worker.log()
        );
        assert!(worker.log().contains("\"entries\":4000"), "{}", worker.log());
        worker.terminate();
        worker.ended(SOON).await;
    }
    assert_eq!(
        world.ch("SELECT uniqExact(event_id) FROM events").await,
        "2500",
        "what was left has landed"
    );
    let pending: redis::Value = ask(&world, "XPENDING", &[STREAM, GROUP]).await;
    assert!(format!("{pending:?}").contains("int(0)"), "{pending:?}");
}

#[tokio::test]
async fn many_unread_entries_are_said_before_they_are_lost() {
    let world = World::start().await;
    for _ in 0..145 {
        fill(&world, STREAM, "5000").await;
    }
    // Nothing is consumed while PostgreSQL does not answer.
    let blocker = world.pg_client().await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE projects, persons IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let worker = world.worker("w1", &[]);
    let said = || worker.log().matches("over 80 % of what the stream holds").count();
    eventually("it is said", SOON, async || said() > 0).await;
    // Nothing more is to be said by the looks that follow, one a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(said(), 1, "{}", worker.log());
}
