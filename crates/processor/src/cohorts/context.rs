//! What a run works with and under.

use crate::runtime::lock::Lock;
use crate::runtime::task::Task;

use super::members::Members;
use super::progress::Progress;
use super::registry::{Cohort, Registry};

/// Where cohorts are read from, where their members go, and who watches.
pub(super) struct Tables {
    pub(super) registry: Registry,
    pub(super) members: Members,
    pub(super) progress: Progress,
}

/// Tells somebody that a cohort has failed.
pub(super) type Tell<'a> = &'a (dyn Fn(&Cohort, &str) + Sync);

/// What a run goes on under.
#[derive(Clone, Copy)]
pub(super) struct RunContext<'a> {
    pub(super) lock: &'a Lock,
    pub(super) task: &'a Task,
    /// Told of each cohort that fails, and why.
    pub(super) tell: Tell<'a>,
}

impl RunContext<'_> {
    /// Waits for something, but not beyond the drain's limit.
    pub(super) async fn unless_abandoned<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.task.shutdown.abandoned().cancelled() => None,
            done = work => Some(done),
        }
    }
}
