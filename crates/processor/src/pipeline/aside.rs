//! Where batches go that a store does not take. Where it is away for longer than its preset, a batch is set aside as dead
//! letters, and all batches wait at the gate. A batch that was let through as the trial of a store is held when it fails:
//! the queue has been told of the outage already.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::event::{Batch, PersonId, Source};
use crate::identity::Resolved;
use crate::intake::Intake;
use crate::runtime::gate::{self, Admission, Fate, Gate, Trials};
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::task::Task;
use crate::set_aside::{Letters, Queue, Unavailable};
use crate::stores::StoreError;
use crate::warehouse::STILL_RUNS;
use crate::{metrics, traces};

use super::settle::Settler;

/// What has more events is held, like a trial, rather than set aside at once: letters are replayed a few at a time, and
/// before anything else is read. A batch that is no pack has fewer.
const MOST_LETTERS: usize = 12_000;
/// Pause between two attempts to add an event to a queue that is full.
const FULL_QUEUE_PAUSE: Duration = Duration::from_secs(1);

/// Sets batches aside, and acknowledges those that have reached their end.
pub(crate) struct Aside {
    /// Writes the rejects of what is set aside.
    pub settler: Arc<Settler>,
    /// The end of an entry.
    pub intake: Intake,
    /// Where batches go that a store does not take.
    pub dead_letters: Queue,
    /// Shut while a store is away.
    pub gate: Arc<Gate>,
    /// It was said that batches are held, as they cannot be set aside.
    pub holding: AtomicBool,
}

impl Aside {
    /// Decides what becomes of a batch that a store did not take, and sets it aside if that is what is decided and it can
    /// be.
    ///
    /// # Errors
    /// [`GaveUp`] at the drain's limit, or when a store refuses a statement as such: the batch stays pending.
    #[allow(
        clippy::too_many_arguments,
        reason = "the batch, its failure, and what every loop works under"
    )]
    pub(super) async fn not_taken(
        &self,
        batch: &mut Batch,
        persons: Option<&[PersonId]>,
        failure: GaveUp<StoreError>,
        admission: Admission<'_>,
        trials: &mut Trials,
        task: &Task,
    ) -> Result<Fate, GaveUp<StoreError>> {
        let (error, answers) = match failure {
            // What waits for another insert keeps the others waiting no longer than what is not taken.
            GaveUp::Away(error) if error.code == STILL_RUNS => (error, true),
            GaveUp::Away(error) => (error, false),
            GaveUp::TakesNone(error) => (error, true),
            other => return Err(other),
        };
        let was_trial = admission.failed();
        let is_large = batch.len() > MOST_LETTERS && !task.is_draining();
        if is_large && !was_trial {
            self.gate.shut(error.store);
        }
        let held = trials.failed(was_trial || is_large);
        if gate::fate(was_trial || is_large, answers, held) == Fate::Held {
            return Ok(Fate::Held);
        }
        let span = batch.trace.span(traces::SET_ASIDE);
        let set_aside = span.around(self.add(batch, persons, &error, task)).await?;
        Ok(if set_aside { Fate::SetAside } else { Fate::Held })
    }

    /// Makes dead letters of events that a store fails on although it takes their neighbours, and acknowledges them. The
    /// gate stays as it is.
    pub(super) async fn add_alone(
        &self,
        resolved: &mut Resolved,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        for failed in std::mem::take(&mut resolved.failed_alone) {
            let why = Unavailable {
                store: failed.error.store,
                error: failed.error.to_string(),
                attempts: failed.attempts,
                alone: true,
            };
            let only = resolved.batch.only(&failed.event);
            let person = failed.person.as_slice();
            let persons = failed.person.is_some().then_some(person);
            let span = resolved.batch.trace.span(traces::SET_ASIDE);
            let setting_aside = async {
                while !self.add_letters(&only, persons, &why, task).await? {
                    task.pulse.beat();
                    tokio::time::sleep(FULL_QUEUE_PAUSE).await;
                }
                self.acknowledge(&only, task).await
            };
            span.around(setting_aside).await?;
            drop(span);
            let trace = &resolved.batch.trace;
            trace.failed(&why.error);
            trace.scope(|| {
                tracing::warn!(
                    id = %failed.event.source.id, reason = why.code(), attempts = why.attempts, error = why.error,
                    "an event was set aside alone: the store fails on it and takes its neighbours"
                );
            });
        }
        Ok(())
    }

    /// Makes dead letters of a batch, whose persons may be known, and acknowledges it. `false` when the queue is full, or
    /// cannot be reached: then the batch is to be held and tried again. The gate is shut either way.
    ///
    /// # Errors
    /// [`GaveUp`] at the drain's limit: what was not acknowledged stays pending.
    async fn add(
        &self,
        batch: &mut Batch,
        persons: Option<&[PersonId]>,
        error: &StoreError,
        task: &Task,
    ) -> Result<bool, GaveUp<StoreError>> {
        self.gate.shut(error.store);
        let why = Unavailable {
            store: error.store,
            error: error.to_string(),
            attempts: retry::attempts_at(error.store),
            alone: false,
        };
        if !self.add_letters(batch, persons, &why, task).await? {
            return Ok(false);
        }
        // What the letters are warned about is said when they land.
        batch.warnings.clear();
        self.settler.reject(batch, task).await?;
        self.acknowledge(batch, task).await?;
        batch.trace.failed(error);
        let [first, last] = batch.id_range();
        batch.trace.scope(|| {
            tracing::warn!(
                events = batch.events.len(),
                reason = why.code(),
                first_entry = first,
                last_entry = last,
                "batch set aside as dead letters: it is replayed when the store is back"
            );
        });
        Ok(true)
    }

    /// Adds the events of a batch to the dead letters. `false` when the queue is full or cannot be reached: then they are
    /// to be held and tried again.
    async fn add_letters(
        &self,
        batch: &Batch,
        persons: Option<&[PersonId]>,
        why: &Unavailable,
        task: &Task,
    ) -> Result<bool, GaveUp<StoreError>> {
        let letters = Letters {
            batch,
            persons,
            enrichment: self.settler.events.enrichment(),
        };
        task.pulse.alive_for(Duration::from_secs(30));
        let added = self
            .dead_letters
            .add(&letters, why, &self.settler.streams, &self.settler.consumer)
            .await;
        task.pulse.operation_ended();
        let is_news = !matches!(added, Ok(true)) && !self.holding.swap(true, Ordering::Relaxed);
        match added {
            Ok(true) => {
                self.holding.store(false, Ordering::Relaxed);
                metrics::set_aside(why.code(), batch.events.len());
                return Ok(true);
            }
            Ok(false) if is_news => tracing::error!(
                queue = self.dead_letters.name,
                capacity = self.dead_letters.capacity,
                events = batch.events.len(),
                "dead-letter queue is full: holding what is in memory, nothing is read"
            ),
            Err(error) if is_news => {
                tracing::error!(%error, "dead letters could not be written: holding what is in memory");
            }
            _ => {}
        }
        self.hold(task).await
    }

    /// While running, a held batch goes back to the gate; when draining, there is nothing left to wait for but the limit.
    async fn hold(&self, task: &Task) -> Result<bool, GaveUp<StoreError>> {
        if task.is_draining() {
            tokio::select! {
                () = task.shutdown.abandoned().cancelled() => return Err(GaveUp::Abandoned(None)),
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
        Ok(false)
    }

    /// Acknowledges what is still ours. Returns how many entries are not.
    pub(super) async fn acknowledge(&self, batch: &Batch, task: &Task) -> Result<usize, GaveUp<StoreError>> {
        if !batch.gone.is_empty() {
            metrics::lost_upstream(batch.gone.len());
            tracing::error!(
                entries = batch.gone.len(),
                first = %batch.gone[0].id,
                "entries were trimmed off the stream while pending: their events are lost upstream"
            );
        }
        let sources: Vec<Source> = batch.sources().collect();
        let left = self.intake.acknowledge(&sources, task).await?;
        if batch.solitary {
            self.intake.forget_suspects(&sources).await;
        }
        Ok(left)
    }
}
