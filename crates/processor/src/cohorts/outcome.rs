//! How a run ended.

use std::time::Duration;

use uuid::Uuid;

use crate::stores::StoreError;

/// One instance at a time.
pub const LOCK: &str = "cohort_membership:lock";

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Cohorts whose members are new.
    pub computed: Vec<Uuid>,
    /// Cohorts that failed, and why.
    pub failed: Vec<(Uuid, String)>,
    /// Cohorts that refer to one that was never computed.
    pub waiting: Vec<Uuid>,
    /// Why it ended before its end.
    pub stopped: Option<Stopped>,
    /// How long it took.
    pub took: Duration,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// Another instance computes.
    #[error("another instance computes cohorts: its lock is `{LOCK}`")]
    Locked,
    /// The lock was lost.
    #[error("the lock was lost: what was not finished is computed by the instance that has it")]
    LockLost,
    /// A store is away. No cohort is to blame.
    #[error(transparent)]
    Away(StoreError),
    /// The process stops.
    #[error("stopping")]
    Stopping,
}

impl Outcome {
    /// Nothing was done.
    pub(super) fn stopped(why: Stopped) -> Self {
        Self {
            stopped: Some(why),
            ..Self::default()
        }
    }

    /// Says what is worth saying.
    pub fn log(&self) {
        match &self.stopped {
            Some(Stopped::Locked | Stopped::Stopping) => {}
            Some(stopped) => {
                tracing::warn!(reason = %stopped, computed = self.computed.len(), "cohort run ended early");
            }
            None if self.computed.is_empty() && self.failed.is_empty() => {}
            None => tracing::info!(
                computed = self.computed.len(),
                failed = self.failed.len(),
                waiting = self.waiting.len(),
                took_ms = self.took.as_millis() as u64,
                "cohort memberships computed"
            ),
        }
    }
}
