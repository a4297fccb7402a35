//! Correcting a letter: what an operator has made of it takes its place in the queue, in one step, and is replayed at once.
//! All of it happens under the lock of those who replay, so nobody lands the old one meanwhile. Whatever ends it, one of
//! the two is in the queue until its event has landed.

use stream_reply::StreamId;

use crate::event::{Field, Reject};
use crate::identity::Projects;
use crate::runtime::lock::Lock;
use crate::runtime::retry::GaveUp;
use crate::runtime::task::Task;
use crate::set_aside::letter::{self, Letter};
use crate::set_aside::{Queue, REJECTED};
use crate::stores::{Postgres, StoreError};

use super::outcome::{Outcome, RunContext, Stopped};
use super::refusals;
use super::replayer::Replayer;
use super::run::Run;
use super::selection::Selection;

/// Letters read in one round trip.
const PAGE: usize = 100;

/// How correcting a letter ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Nothing was changed: the letter is gone.
    Gone,
    /// Nothing was changed: the row of the event as it was is in the warehouse.
    Landed,
    /// Nothing was changed: the entry is pending, and lands with the letter or before it.
    Pending,
    /// Nothing was changed.
    Unchanged(Stopped),
    /// It has taken the letter's place, and was replayed.
    Replayed {
        /// Its own id in the queue.
        id: StreamId,
        /// What came of it.
        outcome: Outcome,
        /// Where it stands now, if a store has refused it.
        refused: Option<Box<Letter>>,
    },
}

/// What the worker would refuse a letter for, by its own rules, without asking a store for more than whether the project
/// exists.
///
/// # Errors
/// [`GaveUp`] when PostgreSQL is away.
pub(crate) async fn refusal(
    letter: &Letter,
    streams: &[String],
    postgres: &Postgres,
    task: &Task,
) -> Result<Option<Reject>, GaveUp<StoreError>> {
    let mut batch = letter::batch(&mut [letter.clone()], streams);
    Projects::default().check(postgres, &mut batch, task).await?;
    Ok(batch.rejects.pop())
}

/// Whether a correction would give a right event another row. Its entry may be delivered again, by a group that was made
/// anew, and its row is looked for by these: it would be there twice.
pub(crate) fn moves_row(old: &Letter, new: &Letter, streams: &[String]) -> bool {
    let [old, new] = [old, new].map(|letter| letter::batch(&mut [letter.clone()], streams));
    let (Some(before), Some(now)) = (old.events.first(), new.events.first()) else {
        return false;
    };
    let name = Field::EventName;
    (before.project, before.timestamp, old.text(before, name))
        != (now.project, now.timestamp, new.text(now, name))
}

impl Replayer {
    /// Corrects a letter.
    ///
    /// # Errors
    /// Redis's.
    pub(crate) async fn correct(
        &mut self,
        old: &Letter,
        new: &Letter,
        context: &RunContext<'_>,
    ) -> Result<Ended, StoreError> {
        let Some(lock) = self.lock().await? else {
            return Ok(Ended::Unchanged(Stopped::Locked));
        };
        let ended = self.correct_under(&lock, old, new, context).await;
        let released = lock.release().await;
        let ended = ended?;
        released?;
        Ok(ended)
    }

    async fn correct_under(
        &mut self,
        lock: &Lock,
        old: &Letter,
        new: &Letter,
        context: &RunContext<'_>,
    ) -> Result<Ended, StoreError> {
        if self.circuit.is_open().await? && !context.ignore_circuit {
            return Ok(Ended::Unchanged(Stopped::CircuitOpen));
        }
        if !self.pending(std::slice::from_ref(old)).await?.is_empty() {
            return Ok(Ended::Pending);
        }
        // A letter that could land may have landed, though its instance did not hear of it: it would be there twice.
        let batch = letter::batch(&mut [old.clone()], &self.streams);
        let within_presets = context.task.within_presets();
        match self.settler.events.is_any_there(&batch, &within_presets).await {
            Ok(false) => {}
            Ok(true) => return Ok(Ended::Landed),
            Err(GaveUp::Away(error) | GaveUp::TakesNone(error) | GaveUp::Poison(error)) => {
                return Ok(Ended::Unchanged(Stopped::Away(error)));
            }
            Err(GaveUp::Abandoned(_)) => return Ok(Ended::Unchanged(Stopped::Stopping)),
        }
        let Some(id) = self.queue.replace(old.id, new).await? else {
            return Ok(Ended::Gone);
        };
        let outcome = self.replay_one(lock, old, id, context).await;
        // From here on an error of Redis's says nothing about where the event is.
        let outcome = outcome.unwrap_or_else(|error| Outcome {
            stopped: Some(Stopped::Away(error)),
            ..Outcome::default()
        });
        let refused = if outcome.rejected > 0 {
            self.refused(id, new).await.unwrap_or(None).map(Box::new)
        } else {
            None
        };
        Ok(Ended::Replayed { id, outcome, refused })
    }

    async fn replay_one(
        &mut self,
        lock: &Lock,
        old: &Letter,
        id: StreamId,
        context: &RunContext<'_>,
    ) -> Result<Outcome, StoreError> {
        refusals::forget(&self.queue.redis, &[old.id]).await?;
        self.resume = before(id);
        let selection = Selection {
            ids: vec![id],
            ..Selection::default()
        };
        Run::new(self, lock, &selection, context)
            .finish(&mut |_| {})
            .await
    }

    /// The newest reject of a letter's event.
    async fn refused(&self, since: StreamId, of: &Letter) -> Result<Option<Letter>, StoreError> {
        let rejected = Queue {
            name: REJECTED,
            ..self.queue.clone()
        };
        let mut behind = before(since);
        let mut newest = None;
        loop {
            let page = rejected.after(behind, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(newest);
            };
            behind = last.id;
            let is_of = |letter: &Letter| self.source(letter) == self.source(of);
            newest = page.into_iter().rfind(is_of).or(newest);
        }
    }
}

/// The id right before another.
fn before(id: StreamId) -> StreamId {
    match (id.ms, id.seq) {
        (0, 0) => StreamId::MIN,
        (ms, 0) => StreamId::new(ms - 1, u64::MAX),
        (ms, seq) => StreamId::new(ms, seq - 1),
    }
}
