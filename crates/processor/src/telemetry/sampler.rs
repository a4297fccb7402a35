//! What is not counted where it happens but looked at: the streams, the queues, and this instance's own state.

use std::sync::Arc;

use stream_reply::StreamId;

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
}

impl Sampler {
    /// Looks at this process; asks no store.
    pub(super) fn instance(&self) {
        let heartbeat = self.heartbeat.age().map(|age| age.as_secs_f64());
        metrics::instance(self.ledger.held(), self.gate.is_shut(), heartbeat);
        metrics::state(
            self.life.state().name(),
            State::ALL.iter().map(|state| state.name()),
        );
    }

    /// Asks Redis. What it does not answer stays as it was.
    pub(super) async fn redis(&self) {
        match self.redis.now_ms().await {
            Ok(now) => {
                self.ask_streams(now).await;
                self.ask_queues(now).await;
            }
            Err(error) => unknown(&error),
        }
    }

    async fn ask_streams(&self, now: u64) {
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
                        oldest_pending_s: group.oldest_pending.map_or(0.0, |id| seconds_since(id, now)),
                    };
                    metrics::stream(name, &state);
                }
                Ok(_) => tracing::debug!(stream = name, "the stream or its group is not there"),
                Err(error) => unknown(&error),
            }
        }
    }

    async fn ask_queues(&self, now: u64) {
        let queues = queues::read(&self.dead_letters).await;
        match queues.dead_letters {
            Ok(DeadLetters { count, oldest }) => {
                metrics::dead_letters(count, oldest.map_or(0.0, |id| seconds_since(id, now)));
            }
            Err(error) => unknown(&error),
        }
        match queues.rejected {
            Ok(entries) => metrics::ring(entries),
            Err(error) => unknown(&error),
        }
        match queues.open {
            Ok(open) => metrics::circuit(open.is_some()),
            Err(error) => unknown(&error),
        }
    }
}

fn unknown(error: &StoreError) {
    tracing::debug!(%error, "the streams could not be looked at");
}

fn seconds_since(id: StreamId, now_ms: u64) -> f64 {
    now_ms.saturating_sub(id.ms) as f64 / 1000.0
}
