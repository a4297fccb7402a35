//! What a run works under, and how it ended.

use std::collections::BTreeSet;
use std::time::Duration;

use stream_reply::StreamId;

use crate::runtime::failed_alone::FailedAlone;
use crate::runtime::task::Task;
use crate::stores::{Store, StoreError};

/// Held by the instance that replays.
pub(crate) const LOCK: &str = "dlq:replay:lock";

/// How a run ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Letters that left the queue.
    pub left_queue: usize,
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
pub(crate) enum Stopped {
    /// Another instance replays.
    #[error("another instance replays: its lock is `{LOCK}`")]
    Locked,
    /// Stores have failed too often.
    #[error("the circuit is open: stores failed while replaying, the next try comes by itself")]
    CircuitOpen,
    /// The lock was lost.
    #[error("the lock was lost: another instance goes on")]
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
pub(crate) struct RunContext<'a> {
    /// Try although the circuit is open: the stores have just been seen to answer.
    pub ignore_circuit: bool,
    /// Stores that have taken other work since the last run: what they fail on is at fault itself.
    pub witnesses: BTreeSet<Store>,
    /// How long a letter that stores fail on is left alone.
    pub rest: Duration,
    /// The loop that replays, or the command.
    pub task: &'a Task,
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
