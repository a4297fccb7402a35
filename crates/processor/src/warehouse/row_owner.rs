//! Whether rows are still ours to insert.
//!
//! An instance that stands still for long, with its machine or alone, may wake when another instance has long done its
//! work. So before rows are inserted it is asked whose they are, unless that was known for certain a short while ago.

use std::time::Duration;

use crate::event::{Batch, Source};
use crate::intake::{Foreign, Ownership};
use crate::runtime::lock::LockHandle;
use crate::runtime::moment::Moment;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::task::Task;
use crate::stores::StoreError;

/// Between two attempts to ask, beyond a preset.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What makes rows ours.
#[derive(Default)]
pub(super) enum RowOwner {
    /// No other instance could insert them.
    #[default]
    Undisputed,
    /// They are of entries that are pending for us.
    Entries(Ownership),
    /// They are inserted under a lock.
    Lock(LockHandle),
}

impl RowOwner {
    /// Whether it has to be asked whose these rows are.
    pub(super) fn is_doubtful(&self, batch: &Batch, rows: &[usize]) -> bool {
        match self {
            Self::Undisputed => false,
            Self::Entries(ownership) => {
                let sources = rows.iter().map(|row| batch.events[*row].source);
                ownership.is_doubtful(sources)
            }
            Self::Lock(hold) => hold.is_doubtful(),
        }
    }

    /// Asks whose these rows are, where that has to be asked. Without Redis a batch can be neither settled nor set aside:
    /// trouble there is waited out.
    ///
    /// # Errors
    /// [`GaveUp::Abandoned`] at the drain's limit, or when the lock is lost: then none of the rows is ours.
    pub(super) async fn ask(
        &self,
        batch: &Batch,
        rows: &[usize],
        task: &Task,
    ) -> Result<Foreign, GaveUp<StoreError>> {
        if !self.is_doubtful(batch, rows) {
            return Ok(Foreign::default());
        }
        match self {
            Self::Undisputed => Ok(Foreign::default()),
            Self::Entries(ownership) => {
                let sources: Vec<Source> = rows.iter().map(|row| batch.events[*row].source).collect();
                // Counted on from go to go: it is the answer at last that says that Redis is back.
                let mut failures = 0;
                loop {
                    let ask = || ownership.ask(&sources);
                    let go = task.retry_in_goes(&mut failures, retry::REDIS, |_| true, ask);
                    match go.await {
                        Err(GaveUp::Away(_)) => tokio::time::sleep(ASK_AGAIN).await,
                        answer => return answer,
                    }
                }
            }
            Self::Lock(hold) => {
                confirm(hold, task).await?;
                Ok(Foreign::default())
            }
        }
    }

    /// What was no instance's has been looked up at this moment.
    pub(super) fn looked_up(&self, foreign: &Foreign, at: Moment) {
        if let Self::Entries(ownership) = self {
            ownership.looked_up(foreign, at);
        }
    }
}

/// Asks until the server says that the lock is held. While it cannot be asked, the lock is not lost before its time is
/// over, and not known to be held either.
async fn confirm(hold: &LockHandle, task: &Task) -> Result<(), GaveUp<StoreError>> {
    loop {
        task.pulse.alive_for(retry::REDIS.attempt_limit);
        let is_held = tokio::select! {
            biased;
            () = task.shutdown.abandoned().cancelled() => return Err(GaveUp::Abandoned(None)),
            is_held = hold.is_held() => is_held,
        };
        task.pulse.operation_ended();
        if !is_held {
            return Err(GaveUp::Abandoned(None));
        }
        if !hold.is_doubtful() {
            return Ok(());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
