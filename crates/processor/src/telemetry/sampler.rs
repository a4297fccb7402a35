//! What is not counted where it happens but looked at: the streams, the queues, and this instance's own state.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::intake::Ledger;
use crate::metrics::{self, StreamState};
use crate::runtime::gate::Gate;
use crate::runtime::life::{Life, State};
use crate::set_aside::Queue;
use crate::stores::{Redis, StoreError};

use super::heartbeat::LastBeat;
use super::queues::{self, DeadLetters};
use super::streams::{self, Stream};

/// Knows where to look.
pub(crate) struct Sampler {
    /// For the streams.
    pub redis: Redis,
    /// The dead letters.
    pub dead_letters: Queue,
    /// Stream names.
    pub streams: Arc<[String]>,
    /// Shut while a store is away.
    pub gate: Arc<Gate>,
    /// What is held.
    pub ledger: Arc<Ledger>,
    /// When the heartbeat was written.
    pub heartbeat: LastBeat,
    /// What this instance does.
    pub life: Life,
    /// When the oldest unread entry of each stream was sent, as far as Redis said last.
    pub unread: Mutex<Vec<Unread>>,
}

/// The oldest entry of a stream that no instance has read.
#[derive(Debug)]
pub(crate) struct Unread {
    stream: String,
    /// How old it was; nothing when all entries are read.
    age: Option<Duration>,
    /// When Redis said so.
    at: Instant,
}

/// How often Redis is asked…
const ASKED: Duration = Duration::from_secs(5);
/// …and how often this process is looked at.
const LOOKED_AT: Duration = Duration::from_secs(1);

impl Sampler {
    /// Looks until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let own = async {
            let mut ticks = tokio::time::interval(LOOKED_AT);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.instance();
            }
        };
        let redis = async {
            let mut ticks = tokio::time::interval(ASKED);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.redis().await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            never = own => match never {},
            never = redis => match never {},
        }
    }

    /// Looks at this process; asks no store.
    pub(super) fn instance(&self) {
        metrics::instance(self.ledger.held(), self.gate.is_shut(), self.heartbeat.age());
        for unread in self.unread().iter() {
            let lag = unread.age.map(|age| age + unread.at.elapsed());
            metrics::stream_lag(&unread.stream, lag.unwrap_or_default());
        }
        metrics::state(
            self.life.state().name(),
            State::ALL.iter().map(|state| state.name()),
        );
    }

    fn unread(&self) -> MutexGuard<'_, Vec<Unread>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks Redis. What it does not answer stays as it was.
    pub(super) async fn redis(&self) {
        let mut errors = Vec::new();
        match self.redis.now_ms().await {
            Ok(now) => {
                errors.extend(self.ask_streams(now).await);
                errors.extend(self.ask_queues().await);
                self.ask_slots().await;
            }
            Err(error) => errors.push(error),
        }
        for error in &errors {
            tracing::debug!(%error, "the streams could not be looked at");
        }
        metrics::sampled(errors.len());
    }

    async fn ask_streams(&self, now: u64) -> Vec<StoreError> {
        let mut errors = Vec::new();
        let mut all = Vec::new();
        for name in self.streams.iter() {
            match streams::read(&self.redis, name).await {
                Ok(Some(Stream {
                    length,
                    group: Some(group),
                })) => {
                    let state = StreamState {
                        length,
                        lag: group.lag,
                        pending: group.pending,
                        oldest_pending_ms: group.oldest_pending.map(|id| id.ms),
                    };
                    metrics::stream(name, &state);
                    let age = group.oldest_unread.map(|id| now.saturating_sub(id.ms));
                    all.push(Unread {
                        stream: name.clone(),
                        age: age.map(Duration::from_millis),
                        at: Instant::now(),
                    });
                }
                Ok(_) => tracing::debug!(stream = name, "the stream or its group is not there"),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            *self.unread() = all;
        }
        errors
    }

    /// What is known of it says nothing of the streams: where nobody tells, the rest is as new as ever.
    async fn ask_slots(&self) {
        if !self.redis.is_cluster() {
            return;
        }
        let open = self.redis.open_slots().await;
        metrics::open_slots(open.ok().map(|open| open.len()));
    }

    async fn ask_queues(&self) -> Vec<StoreError> {
        let queues = queues::read(&self.dead_letters).await;
        let answers = [
            queues.dead_letters.map(|DeadLetters { count, oldest }| {
                metrics::dead_letters(count, oldest.map(|id| id.ms));
            }),
            queues.rejected.map(metrics::ring),
            queues.open.map(|open| metrics::circuit(open.is_some())),
            queues.failures.map(metrics::replay_failures),
        ];
        answers.into_iter().filter_map(Result::err).collect()
    }
}
