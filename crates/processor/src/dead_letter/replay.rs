//! Replaying: letters go through the whole pipeline again, in order, and leave the queue when they have landed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use stream_reply::StreamId;
use uuid::Uuid;

use crate::event::{Reason, Source};
use crate::identity::{FailedAlone, Identity};
use crate::intake::GROUP;
use crate::pipeline::settle::Settler;
use crate::runtime::gate::Gate;
use crate::runtime::lock::Lock;
use crate::runtime::pulse::Pulse;
use crate::runtime::report;
use crate::runtime::retry::GaveUp;
use crate::runtime::shutdown::Shutdown;
use crate::stores::{Store, StoreError};
use crate::warehouse::plan::Planner;

use super::circuit::Circuit;
use super::letter::{self, Letter};
use super::queue::Queue;
use super::run::Run;

const LOCK: &str = "dlq:replay:lock";
/// Others wait this long for a replayer that has died.
const LOCK_TTL: Duration = Duration::from_secs(30);

/// Which letters are meant. Empty means all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// These ids.
    pub ids: Vec<StreamId>,
    /// This project.
    pub project: Option<Uuid>,
    /// This event name.
    pub event: Option<String>,
    /// This reason.
    pub reason: Option<String>,
    /// Set aside at least this long ago.
    pub older_than: Option<Duration>,
}

impl Selection {
    /// Whether a letter is meant. `now_ms`: milliseconds since the epoch.
    pub fn takes(&self, letter: &Letter, now_ms: u64) -> bool {
        let fields = if self.project.is_some() || self.event.is_some() {
            letter.fields().unwrap_or_default()
        } else {
            HashMap::default()
        };
        let says = |name: &str| fields.get(name).map_or("", String::as_str);
        (self.ids.is_empty() || self.ids.contains(&letter.id))
            && self
                .project
                .is_none_or(|project| Uuid::try_parse(says("project_id")) == Ok(project))
            && self
                .event
                .as_ref()
                .is_none_or(|event| says("event_name") == event)
            && self.reason.as_ref().is_none_or(|reason| letter.reason == *reason)
            && self
                .older_than
                .is_none_or(|age| letter.id.ms.saturating_add(age.as_millis() as u64) <= now_ms)
    }
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Letters that left the queue.
    pub settled: usize,
    /// Of them, those that are rejected now.
    pub rejected: usize,
    /// Letters left where they are, as their entries are still pending: they land with those first.
    pub pending: usize,
    /// Letters left where they are, as stores fail on them: they are tried again after a while, and rejected in the end.
    pub failing: usize,
    /// Why it ended before the end of the queue.
    pub stopped: Option<Stopped>,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// Somebody else replays.
    #[error("another instance replays: its lock is `{LOCK}`")]
    Locked,
    /// Stores have failed too often.
    #[error("the circuit is open: stores failed while replaying, the next try comes by itself")]
    CircuitOpen,
    /// The lock was lost.
    #[error("the lock was lost: somebody else goes on")]
    LockLost,
    /// A store is away.
    #[error(transparent)]
    Away(StoreError),
    /// A store answers and takes none of the letters.
    #[error("a store answers and takes none of the letters: {0}")]
    TakesNone(StoreError),
    /// The process stops.
    #[error("stopping")]
    Stopping,
}

/// What a run works under.
#[derive(Debug)]
pub struct RunContext<'a> {
    /// Try although the circuit is open: the stores have just been seen to answer.
    pub ignore_circuit: bool,
    /// Stores that have taken other work since the last run: what they fail on is at fault itself.
    pub witnesses: BTreeSet<Store>,
    /// How long a letter that stores fail on is left alone.
    pub rest: Duration,
    /// Sign of life.
    pub pulse: &'a Pulse,
    /// When to stop.
    pub shutdown: &'a Shutdown,
}

/// Replays letters of one queue.
pub struct Replayer {
    pub(super) queue: Queue,
    identity: Identity,
    planner: Planner,
    settler: Settler,
    pub(super) circuit: Circuit,
    pub(super) streams: Arc<[String]>,
    pub(super) step: usize,
    /// Where the next run begins, when one has ended after many letters that no store took.
    pub(super) resume: StreamId,
    /// Letters that the last run left, as their time has not come.
    pub(super) waiting: Option<Waiting>,
}

/// Letters at the front of the queue that are not read again before their time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// How many.
    pub(super) letters: usize,
    /// The newest letter that there was; what came later does not wait.
    pub(super) last: StreamId,
    /// When the first of them may be tried, in milliseconds of the epoch.
    pub(super) until_ms: u64,
}

impl Replayer {
    /// A replayer with a pipeline of its own; `step` letters at a time.
    pub fn new(
        queue: Queue,
        (identity, settler): (Identity, Settler),
        streams: Arc<[String]>,
        step: usize,
        (threshold, reset): (u32, Duration),
    ) -> Self {
        let circuit = Circuit {
            redis: queue.redis.clone(),
            threshold,
            reset,
        };
        Self {
            queue,
            identity,
            planner: Planner::default(),
            settler,
            circuit,
            streams,
            step,
            resume: StreamId::MIN,
            waiting: None,
        }
    }

    /// All stores take work again after an outage: nobody needs to wait any longer.
    ///
    /// # Errors
    /// Redis's.
    pub async fn try_again(&mut self) -> Result<(), StoreError> {
        self.circuit.half_open().await
    }

    /// Whether there are letters whose time has come.
    ///
    /// # Errors
    /// Redis's.
    pub async fn has_work(&self) -> Result<bool, StoreError> {
        let waiting = self.waiting(jiff::Timestamp::now().as_millisecond() as u64);
        Ok(match waiting {
            Some(waiting) => self.queue.last().await? > waiting.last,
            None => self.queue.count().await? > 0,
        })
    }

    /// How often the stores have taken live work: of this process as its gate has it now, of other instances as they last
    /// reported.
    pub(super) async fn taken(&self, gate: &Gate) -> HashMap<String, [u64; 2]> {
        let mut taken = match report::taken(&mut self.queue.redis.clone()).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::debug!(%error, "what stores have taken of other instances is not known");
                HashMap::new()
            }
        };
        // No consumer has an empty name.
        taken.insert(String::new(), gate.times_taken());
        taken
    }

    /// Letters that are not to be read before their time.
    pub(super) fn waiting(&self, now_ms: u64) -> Option<Waiting> {
        self.waiting.filter(|waiting| now_ms < waiting.until_ms)
    }

    /// Replays the selected letters until the queue has no more of them. Redis's own trouble is no failure of a replay.
    ///
    /// # Errors
    /// Redis's.
    pub async fn run(
        &mut self,
        selection: &Selection,
        context: &RunContext<'_>,
        mut progress: impl FnMut(usize),
    ) -> Result<Outcome, StoreError> {
        if self.queue.count().await? == 0 {
            return Ok(Outcome::default());
        }
        let stopped = |stopped| Outcome {
            stopped: Some(stopped),
            ..Outcome::default()
        };
        let Some(lock) = Lock::acquire(&self.queue.redis, LOCK, LOCK_TTL).await? else {
            return Ok(stopped(Stopped::Locked));
        };
        self.settler.events.under(lock.hold().clone());
        // Asked under the lock: another instance's failure may just have opened it.
        let ended = match self.circuit.is_open().await {
            Ok(true) if !context.ignore_circuit => Ok(stopped(Stopped::CircuitOpen)),
            Ok(_) => {
                Run::new(self, &lock, selection, context)
                    .finish(&mut progress)
                    .await
            }
            Err(error) => Err(error),
        };
        let released = lock.release().await;
        let outcome = ended?;
        released?;
        Ok(outcome)
    }

    /// The letters whose entries are still pending: whoever set them aside died before it could acknowledge them, or is
    /// about to. They land with their entries, wherever those are; until then nobody else may try.
    pub(super) async fn pending(&self, letters: &[Letter]) -> Result<HashSet<StreamId>, StoreError> {
        let entries: Vec<(&Letter, String)> = letters
            .iter()
            .filter(|letter| self.streams.contains(&letter.stream))
            .filter_map(|letter| Some((letter, letter.stream_id?.to_string())))
            .collect();
        if entries.is_empty() {
            return Ok(HashSet::new());
        }
        let mut pipeline = redis::pipe();
        for (letter, id) in &entries {
            let command = pipeline.cmd("XPENDING").arg(&letter.stream).arg(GROUP);
            command.arg(id).arg(id).arg(1);
        }
        let answers: redis::RedisResult<Vec<Vec<redis::Value>>> =
            pipeline.query_async(&mut self.queue.redis.clone()).await;
        match answers {
            Ok(answers) => {
                let pending = entries
                    .iter()
                    .zip(answers)
                    .filter(|(_, answer)| !answer.is_empty());
                Ok(pending.map(|((letter, _), _)| letter.id).collect())
            }
            // Without the group nothing is pending.
            Err(error) if error.code() == Some("NOGROUP") => Ok(HashSet::new()),
            Err(error) => Err(StoreError::redis(
                "looking for pending entries of dead letters",
                &error,
            )),
        }
    }

    /// Rejects a letter that is never to be replayed again.
    pub(super) async fn refuse(
        &self,
        letter: &Letter,
        reason: Reason,
        context: &RunContext<'_>,
    ) -> Result<(), Stopped> {
        let mut batch = letter::refused(letter, &self.streams, reason);
        self.settler
            .reject(&mut batch, context.pulse, context.shutdown)
            .await
            .map_err(|_gave_up| Stopped::Stopping)
    }

    /// Lands letters together, whose texts are taken; those that a store fails on alone are left out.
    pub(super) async fn replay(
        &mut self,
        letters: &mut [Letter],
        patience: &Shutdown,
        context: &RunContext<'_>,
    ) -> Result<Landed, Stopped> {
        let batch = letter::batch(letters, &self.streams);
        let stopped = |gave_up| match gave_up {
            GaveUp::Away(error) | GaveUp::Poison(error) => Stopped::Away(error),
            GaveUp::TakesNone(error) => Stopped::TakesNone(error),
            GaveUp::Abandoned(_) => Stopped::Stopping,
        };
        let resolve = self.identity.resolve(batch, context.pulse, patience);
        let resolved = Box::pin(resolve).await;
        let mut resolved = resolved.map_err(|(_, gave_up)| stopped(gave_up))?;
        let plan = self.planner.plan(&resolved.batch);
        let inserted = self
            .settler
            .settle(&mut resolved, &plan, context.pulse, (patience, context.shutdown))
            .await
            .map_err(stopped)?;
        self.settler.catalogue.observe(&resolved.batch);
        let mut taken_by = BTreeSet::new();
        taken_by.extend(resolved.wrote.then_some(Store::Postgres));
        taken_by.extend((inserted > 0).then_some(Store::ClickHouse));
        Ok(Landed {
            rejected: resolved.batch.rejects.len(),
            taken_by,
            failed_alone: resolved.failed_alone,
        })
    }

    /// Where a letter's event came from.
    pub(super) fn source(&self, letter: &Letter) -> Source {
        letter::source(letter, &self.streams)
    }
}

/// What became of some letters.
#[derive(Debug)]
pub(super) struct Landed {
    /// How many are rejected now.
    pub(super) rejected: usize,
    /// Stores that were given work and took it.
    pub(super) taken_by: BTreeSet<Store>,
    /// What did not land.
    pub(super) failed_alone: Vec<FailedAlone>,
}
