//! A replay of dead letters that stood still between its look-up and its insert asks whether its lock is still its own.
//!
//! In a suspended machine the clock of whoever renews the lock stands still as well, so that the loss is not noticed
//! there. A stopped process's clock goes on: so that it does not notice either, its renewals are held on their way.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;
use uuid::Uuid;

use crate::holding::Holding;
use crate::once::start;
use crate::support::letters::{QUICK, event_data, letter};
use crate::support::{QUEUE, SOON, Worker, World, ask, eventually};

const LOCK: &str = "dlq:replay:lock";
const LETTERS: u64 = 20;
/// What a replay says that has lost its lock.
const LEFT_TO_OTHERS: &str = "the lock was lost: another instance goes on";
/// A lock lives for 30 s: whoever knows of none of the last 15 asks.
const ASKS_AFTER: Duration = Duration::from_secs(15);

const REPLAYS: [(&str, &str); 3] = [
    QUICK,
    ("PROCESSOR_ROLES", "dlq"),
    ("LOG_LEVEL", "info,qurvo_processor::replay=debug"),
];

/// A process that has looked up the rows of its letters, has found none, and was stopped before it could insert them.
struct Frozen {
    worker: Worker,
    since: Instant,
    /// Holds back what renews locks.
    redis: Holding,
    letters: BTreeSet<Uuid>,
}

impl Frozen {
    async fn start(world: &World) -> Self {
        let [redis, clickhouse] = [world.stack.redis(), world.stack.clickhouse()].map(|s| s.unwrap().port());
        let redis = Holding::before(redis, &["PEXPIRE"]).await;
        let clickhouse = Holding::answers(clickhouse, &["arrayZip"]).await;
        let mut letters = BTreeSet::new();
        for _ in 0..LETTERS {
            let id = Uuid::new_v4();
            letter(world, &event_data(id, "d", "")).await;
            letters.insert(id);
        }
        clickhouse.hold();
        let through = [
            ("CLICKHOUSE_URL", &*format!("http://{}", clickhouse.address)),
            ("REDIS_URL", &*format!("redis://{}", redis.address)),
        ];
        let worker = world.worker("frozen", &[&REPLAYS[..], &through].concat());
        clickhouse.caught().await;
        worker.signal(Signal::SIGSTOP);
        eventually("it stands still", SOON, async || stands_still(&worker)).await;
        let since = Instant::now();
        redis.hold();
        clickhouse.let_go();
        Self {
            worker,
            since,
            redis,
            letters,
        }
    }

    /// Lets it go on, after it has stood still for long enough, and hear of its lock only when it would have inserted.
    async fn wakes(&self) {
        tokio::time::sleep_until(self.since + ASKS_AFTER).await;
        self.worker.signal(Signal::SIGCONT);
        self.redis.caught().await;
        // Nothing must be inserted now: whoever does not ask does it within milliseconds.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.redis.let_go();
    }

    /// Waits until its run is over.
    async fn has_stopped(&self) {
        eventually("its run is over", SOON, async || {
            let log = self.worker.log();
            log.contains(LEFT_TO_OTHERS) || log.contains("dead letters replayed")
        })
        .await;
    }
}

/// Whether each of its threads has stopped, which takes a while on a busy machine.
fn stands_still(worker: &Worker) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", worker.pid())).unwrap();
    threads.into_iter().all(|thread| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    })
}

async fn rows(world: &World) -> String {
    world.ch("SELECT count() FROM events").await
}

async fn queue_is_empty(world: &World) {
    eventually("all letters are replayed", SOON, async || {
        world.length(QUEUE).await == Some(0)
    })
    .await;
}

#[tokio::test]
async fn a_replay_that_was_frozen_inserts_nothing_that_another_has_replayed() {
    let world = start().await;
    let frozen = Frozen::start(&world).await;
    let _: u64 = ask(&world, "DEL", &[LOCK]).await;
    // Other pieces than the frozen one's: what is inserted again is no repetition that the engine would know.
    let smaller = [&REPLAYS[..], &[("DLQ_REPLAY_BATCH", "7")]].concat();
    let _other = world.worker("other", &smaller);
    queue_is_empty(&world).await;
    frozen.wakes().await;
    frozen.has_stopped().await;
    world.holds_exactly(&frozen.letters).await;
    let log = frozen.worker.log();
    assert!(log.contains(LEFT_TO_OTHERS), "{log}");
}

#[tokio::test]
async fn a_replay_that_was_frozen_leaves_its_letters_to_whoever_has_its_lock() {
    let world = start().await;
    let frozen = Frozen::start(&world).await;
    let _: () = ask(&world, "SET", &[LOCK, "a stranger"]).await;
    frozen.wakes().await;
    frozen.has_stopped().await;
    assert_eq!(rows(&world).await, "0", "{}", frozen.worker.log());
    assert_eq!(world.length(QUEUE).await, Some(LETTERS));
    let _: u64 = ask(&world, "DEL", &[LOCK]).await;
    queue_is_empty(&world).await;
    world.holds_exactly(&frozen.letters).await;
}

#[tokio::test]
async fn a_replay_that_was_frozen_and_still_has_its_lock_goes_on() {
    let world = start().await;
    let frozen = Frozen::start(&world).await;
    let _: u64 = ask(&world, "PEXPIRE", &[LOCK, "600000"]).await;
    frozen.wakes().await;
    queue_is_empty(&world).await;
    world.holds_exactly(&frozen.letters).await;
    let log = frozen.worker.log();
    assert!(!log.contains(LEFT_TO_OTHERS), "{log}");
}
