//! Replaying: letters go through the whole pipeline again, in order, and leave the queue when they have landed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use stream_reply::StreamId;
use uuid::Uuid;

use crate::identity::Identity;
use crate::intake::GROUP;
use crate::pipeline::settle::Settler;
use crate::runtime::lock::Lock;
use crate::runtime::metrics;
use crate::runtime::pulse::Pulse;
use crate::runtime::retry::GaveUp;
use crate::runtime::shutdown::Shutdown;
use crate::stores::{Store, StoreError};
use crate::warehouse::events::Planner;

use super::attempts::{self, Caution};
use super::circuit::Circuit;
use super::letter::{self, Letter};
use super::queue::Queue;

const LOCK: &str = "dlq:replay:lock";
/// Others wait this long for a replayer that has died.
const LOCK_TTL: Duration = Duration::from_secs(30);
/// Live events go first: between two steps the machine is theirs for a moment.
const YIELD: Duration = Duration::from_millis(10);

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
                .is_none_or(|age| letter.id.ms + age.as_millis() as u64 <= now_ms)
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
    /// The process stops.
    #[error("stopping")]
    Stopping,
}

/// Replays letters of one queue.
pub struct Replayer {
    queue: Queue,
    identity: Identity,
    planner: Planner,
    settler: Settler,
    circuit: Circuit,
    streams: Arc<[String]>,
    step: usize,
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
        }
    }

    /// All stores take work again after an outage: nobody needs to wait any longer.
    ///
    /// # Errors
    /// Redis's.
    pub async fn try_again(&mut self) -> Result<(), StoreError> {
        self.circuit.half_open().await
    }

    /// Letters held.
    ///
    /// # Errors
    /// Redis's.
    pub async fn waiting(&self) -> Result<u64, StoreError> {
        self.queue.count().await
    }

    /// Replays what is meant until the queue has no more of it. Redis's own trouble is no failure of a replay. Whoever
    /// `knows_better`, having just seen the stores answer, is the one try that an open circuit lets through.
    ///
    /// # Errors
    /// Redis's.
    pub async fn run(
        &mut self,
        selection: &Selection,
        knows_better: bool,
        pulse: &Pulse,
        shutdown: &Shutdown,
        mut progress: impl FnMut(usize),
    ) -> Result<Outcome, StoreError> {
        let mut outcome = Outcome::default();
        if self.queue.count().await? == 0 {
            return Ok(outcome);
        }
        let Some(lock) = Lock::acquire(&self.queue.redis, LOCK, LOCK_TTL).await? else {
            outcome.stopped = Some(Stopped::Locked);
            return Ok(outcome);
        };
        // Asked under the lock: somebody else's failure may just have opened it.
        let ended = match self.circuit.is_open().await {
            Ok(true) if !knows_better => {
                outcome.stopped = Some(Stopped::CircuitOpen);
                Ok(())
            }
            Ok(_) => {
                self.steps(selection, &lock, &mut outcome, pulse, shutdown, &mut progress)
                    .await
            }
            Err(error) => Err(error),
        };
        let released = lock.release().await;
        ended?;
        released?;
        Ok(outcome)
    }

    async fn steps(
        &mut self,
        selection: &Selection,
        lock: &Lock,
        outcome: &mut Outcome,
        pulse: &Pulse,
        shutdown: &Shutdown,
        progress: &mut impl FnMut(usize),
    ) -> Result<(), StoreError> {
        let mut redis = self.queue.redis.clone();
        let mut behind = StreamId::MIN;
        let mut one_by_one_until = StreamId::MIN;
        // What is rejected again stands behind the others: a run ends where the queue ended when it began.
        let last = self.queue.last().await?;
        let now = now_ms();
        while behind < last {
            pulse.alive_for(Duration::from_mins(1));
            let page = self.queue.after(behind, self.step).await?;
            let Some(end) = page.last() else { return Ok(()) };
            behind = end.id;
            let mut letters: Vec<Letter> = page
                .into_iter()
                .filter(|letter| letter.id <= last && selection.takes(letter, now))
                .collect();
            let Some(first) = letters.first().map(|letter| letter.id) else {
                continue;
            };
            if shutdown.draining().is_cancelled() {
                outcome.stopped = Some(Stopped::Stopping);
                return Ok(());
            }
            if !lock.is_held().await {
                outcome.stopped = Some(Stopped::LockLost);
                return Ok(());
            }
            let caution = attempts::begins(&mut redis, first).await?;
            if caution != Caution::None {
                one_by_one_until = one_by_one_until.max(behind);
            }
            if first <= one_by_one_until {
                letters.truncate(1);
                behind = first;
            }
            let meant = letters.len();
            let replayed = tokio::select! {
                biased;
                () = lock.lost().cancelled() => Err(Stopped::LockLost),
                replayed = self.step(&mut letters, caution, pulse, shutdown) => replayed,
            };
            // A lost lock is an orderly end too: no letter is to blame for it.
            attempts::ended(&mut redis, first).await?;
            match replayed {
                Ok(rejected) => outcome.rejected += rejected,
                // Neither this run nor anybody's circuit is to blame Redis's trouble on the other stores.
                Err(Stopped::Away(error)) if error.store == Store::Redis => return Err(error),
                Err(stopped) => {
                    if matches!(stopped, Stopped::Away(_)) && self.circuit.failed().await? {
                        tracing::warn!("dead letters rest: stores failed too often while replaying");
                    }
                    outcome.stopped = Some(stopped);
                    return Ok(());
                }
            }
            outcome.pending += meant - letters.len();
            if letters.is_empty() {
                continue;
            }
            let ids: Vec<StreamId> = letters.iter().map(|letter| letter.id).collect();
            self.queue.remove(&ids).await?;
            metrics::replayed(ids.len());
            self.circuit.succeeded().await?;
            outcome.settled += ids.len();
            progress(ids.len());
            tokio::time::sleep(YIELD).await;
        }
        Ok(())
    }

    /// Lands letters as cautiously as they have deserved. Returns how many are rejected now; letters whose entries are
    /// still pending are left out.
    async fn step(
        &mut self,
        letters: &mut Vec<Letter>,
        caution: Caution,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<usize, Stopped> {
        let pending = self.pending(letters).await.map_err(Stopped::Away)?;
        letters.retain(|letter| !pending.contains(&letter.id));
        if letters.is_empty() {
            return Ok(0);
        }
        if caution == Caution::Refuse {
            return self.refuse(letters, pulse, shutdown).await;
        }
        self.replay(letters, pulse, shutdown).await
    }

    /// The letters whose entries are still pending: whoever set them aside died before it could acknowledge them, or is
    /// about to. They land with their entries, wherever those are; until then nobody else may try.
    async fn pending(&self, letters: &[Letter]) -> Result<HashSet<StreamId>, StoreError> {
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

    /// Rejects letters that have ended the process again and again.
    async fn refuse(&self, letters: &[Letter], pulse: &Pulse, shutdown: &Shutdown) -> Result<usize, Stopped> {
        let mut batch = letter::refused(letters, &self.streams);
        self.settler
            .reject(&mut batch, pulse, shutdown)
            .await
            .map_err(|_gave_up| Stopped::Stopping)?;
        Ok(letters.len())
    }

    /// Lands letters. Returns how many are rejected now.
    async fn replay(
        &mut self,
        letters: &[Letter],
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<usize, Stopped> {
        let batch = letter::batch(letters, &self.streams);
        let impatient = shutdown.within_presets();
        let stopped = |gave_up| match gave_up {
            GaveUp::Away(error) | GaveUp::Poison(error) => Stopped::Away(error),
            GaveUp::Abandoned(_) => Stopped::Stopping,
        };
        let mut resolved = self
            .identity
            .resolve(batch, pulse, &impatient)
            .await
            .map_err(|(_, gave_up)| stopped(gave_up))?;
        let plan = self.planner.plan(&resolved.batch);
        self.settler
            .settle(&mut resolved, &plan, pulse, shutdown)
            .await
            .map_err(stopped)?;
        self.settler.catalogue.observe(&resolved.batch);
        Ok(resolved.batch.rejects.len())
    }
}

fn now_ms() -> u64 {
    jiff::Timestamp::now().as_millisecond() as u64
}
