//! While more is waiting, the next read is asked for before the reply to the one before is at its end. What is on its way
//! then is read, whatever comes, and read again where the connection breaks.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::streams::{StreamInfoConsumersReply, StreamInfoGroup, StreamInfoGroupsReply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;

use crate::once;
use crate::support::{GROUP, PROJECT, SOON, STREAM, Worker, World, ask, eventually};

/// Entries of a read, as configured.
const READ: usize = 2000;
/// What makes up most of an entry.
const TEXT_BYTES: usize = 700;
/// More than half of a reply, and less than all of it. It makes two blocks, which the stages behind take at once.
const PART_OF_A_REPLY: usize = READ * TEXT_BYTES * 9 / 10;

/// What becomes of a reply of which a part has come.
#[derive(Clone, Copy, PartialEq)]
enum Rest {
    Waits,
    Comes,
    IsCutOff,
}

/// A proxy before Redis that stops a connection that reads what is new in the middle of a reply.
struct Tap {
    url: String,
    rest: watch::Sender<Rest>,
}

impl Tap {
    async fn before(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, taps) = (
            world.stack.redis().unwrap().port(),
            listener.local_addr().unwrap().port(),
        );
        let (rest, changes) = watch::channel(Rest::Waits);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let ((commands, answers), (replies, asks)) = (client.into_split(), server.into_split());
                let (reads, is_reading) = watch::channel(false);
                tokio::spawn(pass_commands_on(commands, asks, reads));
                tokio::spawn(pass_replies_on(replies, answers, is_reading, changes.clone()));
            }
        });
        Self {
            url: format!("redis://127.0.0.1:{taps}"),
            rest,
        }
    }
}

async fn pass_commands_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, reads: watch::Sender<bool>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let words = buffer[..read].split(u8::is_ascii_whitespace);
        if words.clone().any(|word| word == b"XREADGROUP") && words.clone().any(|word| word == b">") {
            reads.send_replace(true);
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn pass_replies_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_reading: watch::Receiver<bool>,
    mut rest: watch::Receiver<Rest>,
) {
    let (mut buffer, mut passed) = (vec![0; 1 << 16], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        if *is_reading.borrow() {
            passed += read;
        }
        if passed < PART_OF_A_REPLY {
            continue;
        }
        let rest = rest.wait_for(|rest| *rest != Rest::Waits).await;
        if rest.is_ok_and(|rest| *rest == Rest::IsCutOff) {
            return;
        }
    }
}

/// Large entries, so many that they take several reads.
pub(crate) async fn load(world: &World, count: usize) -> BTreeSet<Uuid> {
    let properties = format!(r#"{{"text":"{}"}}"#, "x".repeat(TEXT_BYTES));
    let mut ids = BTreeSet::new();
    let mut pipeline = redis::pipe();
    for _ in 0..count {
        let id = Uuid::new_v4();
        ids.insert(id);
        let fields = [
            ("event_id", id.to_string()),
            ("project_id", PROJECT.to_owned()),
            ("event_name", "wide".to_owned()),
            ("distinct_id", "somebody".to_owned()),
            ("properties", properties.clone()),
        ];
        let command = pipeline.cmd("XADD").arg(STREAM).arg("*");
        command.arg(&fields[..]).ignore();
    }
    pipeline
        .query_async::<()>(&mut world.redis.clone())
        .await
        .unwrap();
    ids
}

async fn group(world: &World) -> Option<StreamInfoGroup> {
    let groups: StreamInfoGroupsReply = ask(world, "XINFO", &["GROUPS", STREAM]).await;
    groups.groups.into_iter().find(|group| group.name == GROUP)
}

/// Entries that the group has given out.
async fn given_out(world: &World) -> Option<usize> {
    group(world).await?.entries_read
}

/// Of those, entries that are not acknowledged.
async fn pending(world: &World) -> usize {
    group(world).await.unwrap().pending
}

/// Nothing that waits in a reply counts as left behind meanwhile.
const WAITS_LONG: (&str, &str) = ("PROCESSOR_CLAIM_IDLE_MS", "60000");

/// A worker stands in the middle of a reply, and the next one has been made meanwhile.
async fn stopped_in_a_reply(world: &World, tap: &Tap, more: &[(&str, &str)]) -> (Worker, BTreeSet<Uuid>) {
    let sent = load(world, 3 * READ).await;
    // Where a look for entries of dead consumers is due, nothing is read ahead.
    let never = ("PROCESSOR_CLAIM_INTERVAL_MS", "3600000");
    let environment = [&[("REDIS_URL", tap.url.as_str()), WAITS_LONG, never], more].concat();
    let worker = world.worker("w1", &environment);
    let asked_for = async || given_out(world).await == Some(2 * READ);
    eventually("the next read has been asked for", SOON, asked_for).await;
    let has_landed = async || pending(world).await < 2 * READ - READ / 2;
    eventually("what has come of the reply has landed", SOON, has_landed).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        asked_for().await,
        "there is no third one before the first is at its end"
    );
    assert!(!worker.log().contains("reading failed"), "{}", worker.log());
    (worker, sent)
}

#[tokio::test]
async fn the_next_read_is_asked_for_while_a_reply_is_still_to_come() {
    let world = once::start().await;
    let tap = Tap::before(&world).await;
    let (mut worker, sent) = stopped_in_a_reply(&world, &tap, &[]).await;
    tap.rest.send_replace(Rest::Comes);
    // The drain takes what was asked for.
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    let unsettled = world.unsettled().await.unwrap();
    assert!(
        unsettled <= 1,
        "{unsettled} entries were read and left: {}",
        worker.log()
    );
    let _next = world.worker("w2", &[]);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn where_the_connection_breaks_within_two_replies_both_are_read_again() {
    let world = once::start().await;
    let tap = Tap::before(&world).await;
    let (mut worker, sent) = stopped_in_a_reply(&world, &tap, &[]).await;
    tap.rest.send_replace(Rest::IsCutOff);
    let is_told = async || worker.log().contains("reading failed: connecting again");
    eventually("the worker has lost its connection", SOON, is_told).await;
    tap.rest.send_replace(Rest::Comes);
    let all_read = async || given_out(&world).await == Some(sent.len());
    eventually("the rest is read by another connection", SOON, all_read).await;
    worker.terminate();
    assert!(worker.ended(SOON).await.success());
    assert_eq!(world.unsettled().await, Some(0), "{}", worker.log());
    world.holds_exactly(&sent).await;
}

#[tokio::test]
async fn a_stream_changes_hands_only_once_what_a_broken_connection_kept_back_has_landed() {
    let world = once::start().await;
    let tap = Tap::before(&world).await;
    let shared = ("PROCESSOR_STREAM_SHARE", "auto");
    let (worker, mut sent) = stopped_in_a_reply(&world, &tap, &[shared]).await;
    // By its name it is the one to read the stream.
    let other = world.worker("w2", &[shared, WAITS_LONG]);
    let knows = async || worker.log().contains(r#""came":"w2""#);
    eventually("it knows of the other one", SOON, knows).await;
    sent.extend(load(&world, 500).await);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    tap.rest.send_replace(Rest::IsCutOff);
    let is_told = async || worker.log().contains("reading failed: connecting again");
    eventually("the worker has lost its connection", SOON, is_told).await;
    tap.rest.send_replace(Rest::Comes);
    let is_others = async || other.log().contains("this instance reads the stream from now on");
    eventually("the stream is the other one's", SOON, is_others).await;
    let consumers: StreamInfoConsumersReply = ask(&world, "XINFO", &["CONSUMERS", STREAM, GROUP]).await;
    let left = consumers.consumers.iter().find(|consumer| consumer.name == "w1");
    assert_eq!(left.map_or(0, |consumer| consumer.pending), 0, "{}", worker.log());
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

/// How often groups have been looked at.
async fn looks(world: &World) -> u64 {
    let info: String = ask(world, "INFO", &["commandstats"]).await;
    let mut lines = info.lines();
    let calls = lines.find_map(|line| {
        line.strip_prefix("cmdstat_xinfo|groups:calls=")?
            .split(',')
            .next()
    });
    calls.map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test]
async fn what_waits_in_replies_while_the_group_is_made_again_brings_no_row_twice() {
    let world = once::start().await;
    let tap = Tap::before(&world).await;
    let (_worker, mut sent) = stopped_in_a_reply(&world, &tap, &[]).await;
    sent.extend(load(&world, 1).await);
    made_again_while_it_waits(&world, &tap, sent).await;
}

#[tokio::test]
async fn what_waits_in_replies_while_the_group_is_made_again_up_to_the_same_entry_brings_no_row_twice() {
    let world = once::start().await;
    let tap = Tap::before(&world).await;
    let (_worker, sent) = stopped_in_a_reply(&world, &tap, &[]).await;
    made_again_while_it_waits(&world, &tap, sent).await;
}

/// Another instance makes the group again and consumes everything. Then the rest of the reply comes.
async fn made_again_while_it_waits(world: &World, tap: &Tap, mut sent: BTreeSet<Uuid>) {
    let _: u64 = ask(world, "XGROUP", &["DESTROY", STREAM, GROUP]).await;
    let other = world.worker("w2", &[]);
    eventually("the other instance has landed everything", SOON, async || {
        world.unsettled().await == Some(0)
    })
    .await;
    drop(other);
    // The instance looks at the group beside its reading, and finds that it is another one.
    let before = looks(world).await;
    eventually("it has looked at the group", SOON, async || {
        looks(world).await > before + 3
    })
    .await;
    tap.rest.send_replace(Rest::Comes);
    sent.extend(load(world, READ).await);
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}
