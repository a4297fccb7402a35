//! Batches whose persons are too much to be held at once: they are committed in parts, in stream order.
//!
//! A part that is committed stays so when a later one fails: doing it again changes nothing.

use crate::event::Batch;
use crate::runtime::retry::GaveUp;
use crate::runtime::task::Task;
use crate::stores::StoreError;

use super::attempt::Committer;
use super::committed::{Attempt, Committed};

impl Committer {
    /// Commits a batch, in as many parts as it takes.
    ///
    /// # Errors
    /// [`GaveUp`], with the events of the batch as they were, except for those that have become rejects.
    pub(crate) async fn commit(
        &mut self,
        batch: &mut Batch,
        task: &Task,
    ) -> Result<Committed, GaveUp<StoreError>> {
        let too_much = match self.try_commit(batch, task).await? {
            Attempt::Committed(committed) => return Ok(committed),
            Attempt::TooMuch(too_much) => too_much,
        };
        let mut waiting = std::mem::take(&mut batch.events);
        let mut sizes = too_much.parts(&waiting);
        sizes.reverse();
        tracing::debug!(
            events = waiting.len(),
            parts = sizes.len(),
            "persons are large: committing in parts"
        );
        let mut done = Vec::new();
        let mut committed = Committed::default();
        while let Some(size) = sizes.pop() {
            let behind = waiting.split_off(size);
            batch.events = std::mem::replace(&mut waiting, behind);
            match self.try_commit(batch, task).await {
                Ok(Attempt::Committed(part)) => {
                    self.remember_part(batch, &part);
                    committed.append(part);
                    done.append(&mut batch.events);
                }
                Ok(Attempt::TooMuch(too_much)) => {
                    let again = too_much.parts(&batch.events);
                    sizes.extend(again.iter().rev());
                    batch.events.append(&mut waiting);
                    waiting = std::mem::take(&mut batch.events);
                }
                Err(gave_up) => {
                    done.append(&mut batch.events);
                    done.append(&mut waiting);
                    batch.events = done;
                    return Err(gave_up);
                }
            }
        }
        batch.events = done;
        Ok(committed)
    }
}
