//! Beginning a run: one instance at a time, and none while the circuit is open.

use std::time::Duration;

use crate::runtime::lock::Lock;
use crate::stores::StoreError;

use super::outcome::{LOCK, Outcome, RunContext, Stopped};
use super::replayer::Replayer;
use super::run::Run;
use super::selection::Selection;

/// Others wait this long for a replayer that has died.
const LOCK_TTL: Duration = Duration::from_secs(30);

impl Replayer {
    /// Replays the selected letters until the queue has no more of them. Redis's own trouble is no failure of a replay.
    ///
    /// # Errors
    /// Redis's.
    pub(crate) async fn run(
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
        let Some(lock) = self.lock().await? else {
            return Ok(stopped(Stopped::Locked));
        };
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

    /// Takes the lock of those who replay, under which rows are inserted from then on; nothing when another instance has it.
    ///
    /// # Errors
    /// Redis's.
    pub(super) async fn lock(&mut self) -> Result<Option<Lock>, StoreError> {
        let lock = Lock::acquire(&self.queue.redis, LOCK, LOCK_TTL).await?;
        if let Some(lock) = &lock {
            self.settler.events.under(lock.handle().clone());
        }
        Ok(lock)
    }
}
