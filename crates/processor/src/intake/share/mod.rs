//! Sharing streams out among instances: who is there, who reads what, and how a stream changes hands.
//!
//! Each instance says every second in Redis that it is there, works out from who else is which streams are its own
//! (`assignment.rs`), and takes a lease on each. The lease is what counts: a stream is read by the instance that has it, and
//! by no other, whatever instances believe of each other. An instance that is to give a stream up stops reading it, waits
//! until all it has of it is settled, and only then lets go of the lease: what follows in the stream is read after what came
//! before it has landed. What a broken connection kept back is read again first. Where an instance dies, its leases end with
//! their time.

mod assignment;
mod turn;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use self::assignment::assign;
use self::turn::Reading;
pub(crate) use self::turn::Turn;
use super::Ledger;
use crate::metrics;
use crate::runtime::complaint::Complaint;
use crate::runtime::gate::Gate;
use crate::runtime::lock::{Lock, LockHandle, Noted};
use crate::runtime::task::Task;
use crate::stores::{Redis, StoreError, script};

/// Between two looks at who is there.
const INTERVAL: Duration = Duration::from_secs(1);
/// An instance that has not been seen for so long is gone, and a lease that was not renewed.
const GONE_AFTER: Duration = Duration::from_secs(6);
/// Longest that one look takes.
const LONGEST_LOOK: Duration = Duration::from_mins(1);
/// Between two looks at whether a stream that is given up is settled.
const SETTLED_EVERY: Duration = Duration::from_millis(50);

/// For so many rounds a reader goes on with a stream that is given up and of which nothing is held, to read what a broken
/// connection kept back. Should that not do, the instance that has the stream then takes those entries over, once they count
/// as left behind.
const MOST_ROUNDS: u32 = 30;

/// Who is there.
const MEMBERS: &str = "processor:sharing";

/// Says that an instance is there for so many milliseconds, and returns all that are.
const MEET: &str = r"#!lua flags=allow-oom
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('EXPIRE', KEYS[1], 86400)
return redis.call('ZRANGE', KEYS[1], 0, -1)";

/// The key of a stream's lease: it has the stream's hash tag, if there is one.
fn lease_key(stream: &str) -> String {
    format!("processor:reader:{stream}")
}

/// Who has a stream's lease.
///
/// # Errors
/// Redis's, or when the key holds what no lease is.
pub(crate) async fn reader_of(redis: &Redis, stream: &str) -> Result<Noted, StoreError> {
    Lock::noted(redis, &lease_key(stream)).await
}

/// The name of an instance that shares streams.
fn name(member: &str) -> &str {
    member.split_once(' ').map_or(member, |(_list, name)| name)
}

/// One stream, as far as this instance is concerned.
struct Part {
    stream: String,
    lease: Option<Lock>,
    turn: watch::Sender<Option<LockHandle>>,
    reading: watch::Receiver<Reading>,
    /// Rounds in which the reader went on although the stream is given up.
    rounds: u32,
    /// What is wrong with its lease, as the log has said last.
    complaint: Complaint,
}

impl Part {
    /// What its reader is at; one that has ended, however it did, stands.
    fn is_at(&self) -> Reading {
        let is_gone = self.reading.has_changed().is_err();
        if is_gone {
            Reading::Stands
        } else {
            *self.reading.borrow()
        }
    }
}

/// The loop of one instance.
pub(crate) struct Share {
    redis: Redis,
    /// As it is called.
    consumer: String,
    /// The same, and which streams it knows: only instances with the same list share it out.
    member: String,
    sorted: Vec<String>,
    /// All instances that share these streams, this one among them, as last seen.
    members: Vec<String>,
    parts: Vec<Part>,
    ledger: Arc<Ledger>,
    gate: Arc<Gate>,
    /// Since when nothing is read, because a store is away.
    shut_since: Option<Instant>,
}

impl Share {
    /// The loop, and a turn for the reader of each stream.
    pub(crate) fn new(
        redis: Redis,
        consumer: &str,
        streams: &[String],
        (ledger, gate): (Arc<Ledger>, Arc<Gate>),
    ) -> (Self, Vec<Turn>) {
        let (mut parts, mut turns) = (Vec::new(), Vec::new());
        for stream in streams {
            metrics::lock_held(&lease_key(stream), false);
            let (turn, lease) = watch::channel(None);
            let (reading, is_reading) = watch::channel(Reading::Owes);
            parts.push(Part {
                stream: stream.clone(),
                lease: None,
                turn,
                reading: is_reading,
                rounds: 0,
                complaint: Complaint::new(),
            });
            turns.push(Turn::Shared { lease, reading });
        }
        // However a list is ordered, it is the same.
        let mut sorted = streams.to_vec();
        sorted.sort_unstable();
        let share = Self {
            redis,
            consumer: consumer.to_owned(),
            member: format!("{:016x} {consumer}", xxh3_64(sorted.join("\n").as_bytes())),
            sorted,
            members: Vec::new(),
            parts,
            ledger,
            gate,
            shut_since: None,
        };
        (share, turns)
    }

    /// Takes and gives up streams until the drain begins; then gives up all of them, each once it is settled.
    pub(crate) async fn run(mut self, task: Task) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            task.pulse.alive_for(LONGEST_LOOK);
            tokio::select! {
                () = task.shutdown.draining().cancelled() => break,
                _ = ticks.tick() => {}
            }
            // Redis being away is no fault of this loop; the readers report it. Leases run out meanwhile.
            if let Err(error) = self.round(&task).await {
                tracing::debug!(%error, "streams could not be shared out");
            }
        }
        if let Err(error) = self.leave().await {
            tracing::debug!(%error, "this instance could not be taken off the list of those that share streams");
        }
        while self.parts.iter().any(|part| part.lease.is_some()) {
            task.pulse.beat();
            tokio::select! {
                () = task.shutdown.abandoned().cancelled() => return,
                () = tokio::time::sleep(SETTLED_EVERY) => {}
            }
            for index in 0..self.parts.len() {
                self.give_up(index, &task).await;
            }
        }
    }

    async fn round(&mut self, task: &Task) -> Result<(), StoreError> {
        let owned = if self.reads_nothing() {
            // Others may have the stores that this instance has not.
            self.leave().await?;
            Vec::new()
        } else {
            self.owned().await?
        };
        for index in 0..self.parts.len() {
            self.drop_lost(index);
            let is_ours = owned.contains(&self.parts[index].stream);
            match (is_ours, self.parts[index].lease.is_some()) {
                (true, false) => self.take(index).await,
                (true, true) => {
                    self.parts[index].rounds = 0;
                    self.read(index);
                }
                (false, true) => self.give_up(index, task).await,
                (false, false) => {}
            }
        }
        Ok(())
    }

    /// Whether a store has been away for so long that the streams are better read by others.
    fn reads_nothing(&mut self) -> bool {
        if !self.gate.holds_reading() {
            self.shut_since = None;
            return false;
        }
        self.shut_since.get_or_insert_with(Instant::now);
        self.is_away()
    }

    fn is_away(&self) -> bool {
        self.shut_since.is_some_and(|since| since.elapsed() > GONE_AFTER)
    }

    /// Says that this instance is there, and returns the streams that are its own.
    async fn owned(&mut self) -> Result<Vec<String>, StoreError> {
        let mut meet = script(MEET, &[MEMBERS]);
        meet.arg(&self.member).arg(GONE_AFTER.as_millis() as u64);
        let all: Vec<String> = self.redis.ask("sharing streams out", &meet).await?;
        let (list, _) = self.member.split_once(' ').unwrap_or_default();
        let mut members: Vec<String> = all
            .into_iter()
            .filter(|member| member.starts_with(list))
            .collect();
        members.sort_unstable();
        self.meet(members);
        let owners = assign(&self.sorted, &self.members);
        let ours = self.sorted.iter().zip(owners);
        let ours = ours.filter(|(_, owner)| *owner == self.member);
        Ok(ours.map(|(stream, _)| stream.clone()).collect())
    }

    /// Says who has come, and who is gone whose streams the others take over.
    fn meet(&mut self, members: Vec<String>) {
        let not_in = |some: &[String], others: &[String]| {
            let some = some.iter().filter(|member| !others.contains(member));
            some.map(|member| name(member)).collect::<Vec<_>>().join(", ")
        };
        let came = not_in(&members, &self.members);
        let gone = not_in(&self.members, &members);
        if !(came.is_empty() && gone.is_empty()) {
            tracing::info!(
                instances = members.len(),
                came,
                gone,
                "the instances that share the streams have changed"
            );
        }
        self.members = members;
    }

    /// Why a stream is given up, and what becomes of it.
    fn whose_next(&self, task: &Task) -> &'static str {
        let is_ending = task.shutdown.draining().is_cancelled();
        let has_others = self.members.iter().any(|member| *member != self.member);
        match (is_ending, has_others) {
            (true, true) => "it is ending, another instance takes it over",
            (true, false) => "it is ending, and no other instance is there to take it over",
            (false, true) if self.shut_since.is_none() => "it is another instance's now",
            (false, _) => "a store is away, and an instance that has it may take it over",
        }
    }

    /// A lease that has run out is another's, perhaps: the reader has stopped by itself.
    fn drop_lost(&mut self, index: usize) {
        let part = &mut self.parts[index];
        if part
            .lease
            .as_ref()
            .is_some_and(|lease| lease.lost().is_cancelled())
        {
            tracing::warn!(
                stream = part.stream,
                "the lease of a stream was lost: reading it only once it is had again"
            );
            part.turn.send_replace(None);
            part.lease = None;
        }
    }

    async fn take(&mut self, index: usize) {
        let part = &mut self.parts[index];
        let key = lease_key(&part.stream);
        match Lock::acquire_as(&self.redis, &key, GONE_AFTER, &self.consumer).await {
            Ok(None) => {}
            Ok(lease) => {
                part.lease = lease;
                tracing::info!(stream = part.stream, "this instance reads the stream from now on");
                part.rounds = 0;
                self.read(index);
            }
            Err(error) if part.complaint.is_news(&error.message) => {
                tracing::warn!(stream = part.stream, %error, "the lease of a stream cannot be taken: it is not read");
            }
            Err(_) => {}
        }
    }

    fn read(&mut self, index: usize) {
        let part = &self.parts[index];
        if part.turn.borrow().is_none() {
            part.turn
                .send_replace(part.lease.as_ref().map(|lease| lease.handle().clone()));
        }
    }

    /// One step: stop reading, then wait until all is settled, then let go.
    async fn give_up(&mut self, index: usize, task: &Task) {
        let next = self.whose_next(task);
        let is_ending = task.shutdown.draining().is_cancelled();
        let is_away = self.is_away();
        let part = &mut self.parts[index];
        let holds = self.ledger.holds_of(index as u16);
        let may_read = !is_ending && !is_away && (holds || part.rounds < MOST_ROUNDS);
        if may_read && part.is_at().owes() {
            part.rounds += u32::from(!holds);
            self.read(index);
            return;
        }
        part.turn.send_replace(None);
        // From here on no read begins.
        let has_stopped = match part.is_at() {
            Reading::Stands => true,
            Reading::Owes => !may_read,
            Reading::Reads | Reading::ReadsAgain => false,
        };
        if !has_stopped || self.ledger.holds_of(index as u16) {
            return;
        }
        let Some(lease) = part.lease.take() else { return };
        tracing::info!(
            stream = part.stream,
            "this instance reads the stream no more: {next}"
        );
        if let Err(error) = lease.release().await {
            tracing::debug!(%error, stream = part.stream, "the lease of a stream could not be released: it ends by itself");
        }
    }

    async fn leave(&self) -> Result<(), StoreError> {
        let mut leave = redis::cmd("ZREM");
        leave.arg(MEMBERS).arg(&self.member);
        self.redis.ask("leaving those that share streams", &leave).await
    }
}
