//! What an instance does now, in a word: for its heartbeat, its numbers and its report.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::gate::Gate;
use super::outages;
use super::shutdown::Shutdown;
use crate::stores::Store;

/// Stores that have not answered for so long after the start are waited for.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has just begun.
    Starting,
    /// Nothing was read yet: a store has not answered, or cannot be used as it is.
    Waiting,
    /// All stores have answered, and everything runs.
    Serving,
    /// It has served, and a store is away or leaves requests without an answer.
    Paused,
    /// It drains.
    Stopping,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Starting,
        Self::Waiting,
        Self::Serving,
        Self::Paused,
        Self::Stopping,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Serving => "serving",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
        }
    }
}

/// Knows what an instance does. Cloning shares it.
#[derive(Clone)]
pub struct Life {
    began: Instant,
    serving: Arc<AtomicBool>,
    waited_for: Arc<Mutex<BTreeSet<Store>>>,
    gate: Arc<Gate>,
    shutdown: Shutdown,
}

impl Life {
    /// Of an instance that begins now.
    pub fn new(gate: Arc<Gate>, shutdown: &Shutdown) -> Self {
        Self {
            began: Instant::now(),
            serving: Arc::default(),
            waited_for: Arc::new(Mutex::new(Store::ALL.into())),
            gate,
            shutdown: shutdown.clone(),
        }
    }

    /// A store has answered, and can be used as it is.
    pub fn has_answered(&self, store: Store) {
        self.waiting().remove(&store);
    }

    /// Everything runs.
    pub fn serves(&self) {
        self.serving.store(true, Ordering::Relaxed);
    }

    /// What it does now.
    pub fn state(&self) -> State {
        if self.shutdown.draining().is_cancelled() {
            State::Stopping
        } else if self.serving.load(Ordering::Relaxed) {
            if self.gate.is_shut() || !outages::away().is_empty() || !outages::unanswered().is_empty() {
                State::Paused
            } else {
                State::Serving
            }
        } else if self.waited_for().is_empty()
            || (self.began.elapsed() < AT_ONCE && outages::away().is_empty())
        {
            State::Starting
        } else {
            State::Waiting
        }
    }

    /// Whether a store that is away keeps this instance from reading.
    pub fn reading_is_paused(&self) -> bool {
        self.gate.is_shut()
    }

    /// Stores that have not answered since the start.
    pub fn waited_for(&self) -> Vec<Store> {
        self.waiting().iter().copied().collect()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeSet<Store>> {
        self.waited_for.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
