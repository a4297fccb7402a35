//! Correcting a letter: what an operator has made of it takes its place, in one step, and is replayed at once. All of it
//! happens under the lock of those who replay, so nobody lands the old one meanwhile. Whatever ends it, one of the two is
//! there until its event has landed: a rejected event, once corrected, is a dead letter, so that it is no longer in a ring
//! that drops its oldest, and lands by itself.

use stream_reply::StreamId;
use uuid::Uuid;

use crate::event::{Field, ProjectId, Reject, decode, id};
use crate::identity::Projects;
use crate::runtime::lock::Lock;
use crate::runtime::retry::GaveUp;
use crate::runtime::task::Task;
use crate::set_aside::letter::{self, Letter};
use crate::set_aside::{Queue, REJECTED, Replaced};
use crate::stores::{Postgres, StoreError};
use crate::warehouse::SeenRow;

use super::correction::corrects_a_reject;
use super::outcome::{Outcome, RunContext, Stopped};
use super::refusals;
use super::replayer::Replayer;
use super::run::Run;
use super::selection::Selection;

/// Letters read in one round trip.
const PAGE: usize = 500;

/// How correcting a letter ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Nothing was changed: the letter is gone.
    Gone,
    /// Nothing was changed: the row of the event as it was is in the warehouse…
    Landed,
    /// …or, of a rejected event, any row with its event id.
    IdLanded(SeenRow),
    /// Nothing was changed: whether there is such a row could not be found out.
    IdNotLookedUp(StoreError),
    /// Nothing was changed: the entry is pending, and comes to its end before the letter does.
    Pending,
    /// Nothing was changed: another letter is of the same entry.
    Twin {
        /// The queue that it is in.
        queue: &'static str,
        /// Its id there.
        id: StreamId,
    },
    /// Nothing was changed: the queue of dead letters is full.
    Full,
    /// Nothing was changed.
    Unchanged(Stopped),
    /// It has taken the letter's place, and was replayed.
    Replayed {
        /// Its own id in the queue of dead letters.
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

/// Whether a letter of a queue holds an event that was rejected, as it was or corrected since. It has no row of its own, as
/// its entry is rejected whenever it is delivered.
pub(crate) fn was_rejected(queue: &Queue, letter: &Letter) -> bool {
    queue.name == REJECTED || corrects_a_reject(letter) || letter.fields().is_err()
}

/// How a store's failure ends a correction of which nothing was done.
fn unchanged(gave_up: GaveUp<StoreError>) -> Ended {
    Ended::Unchanged(match gave_up {
        GaveUp::Away(error) | GaveUp::TakesNone(error) | GaveUp::Poison(error) => Stopped::Away(error),
        GaveUp::Abandoned(_) => Stopped::Stopping,
    })
}

impl Replayer {
    /// Corrects a letter, of the dead letters that are replayed here or of the rejected events.
    ///
    /// # Errors
    /// Redis's.
    pub(crate) async fn correct(
        &mut self,
        (from, old): (&Queue, &Letter),
        new: &Letter,
        context: &RunContext<'_>,
    ) -> Result<Ended, StoreError> {
        let Some(lock) = self.lock().await? else {
            return Ok(Ended::Unchanged(Stopped::Locked));
        };
        let ended = self.correct_under(&lock, (from, old), new, context).await;
        let released = lock.release().await;
        let ended = ended?;
        released?;
        Ok(ended)
    }

    async fn correct_under(
        &mut self,
        lock: &Lock,
        (from, old): (&Queue, &Letter),
        new: &Letter,
        context: &RunContext<'_>,
    ) -> Result<Ended, StoreError> {
        if self.circuit.is_open().await? && !context.ignore_circuit {
            return Ok(Ended::Unchanged(Stopped::CircuitOpen));
        }
        if let Some(ended) = self.hindrance((from, old), new, context).await? {
            return Ok(ended);
        }
        let newest_reject = self.rejected().last().await?;
        // What was looked at may have taken longer than the lock lasts without word from us.
        if !lock.is_held().await {
            return Ok(Ended::Unchanged(Stopped::LockLost));
        }
        let id = match self
            .queue
            .put_in_place_of((from, old.id), new, lock.handle())
            .await?
        {
            Replaced::Gone => return Ok(Ended::Gone),
            Replaced::Full => return Ok(Ended::Full),
            Replaced::LockLost => return Ok(Ended::Unchanged(Stopped::LockLost)),
            Replaced::By(id) => id,
        };
        let forgotten = (from.name == self.queue.name).then_some(old.id);
        let outcome = self.replay_one(lock, forgotten, id, context).await;
        // From here on an error of Redis's says nothing about where the event is.
        let outcome = outcome.unwrap_or_else(|error| Outcome {
            stopped: Some(Stopped::Away(error)),
            ..Outcome::default()
        });
        let refused = if outcome.rejected > 0 {
            let refused = self.newest_of(&self.rejected(), newest_reject, new, None).await;
            refused.unwrap_or(None).map(Box::new)
        } else {
            None
        };
        Ok(Ended::Replayed { id, outcome, refused })
    }

    /// Why a letter is not to be corrected: its event is on its way, or there, in another form.
    async fn hindrance(
        &self,
        (from, old): (&Queue, &Letter),
        new: &Letter,
        context: &RunContext<'_>,
    ) -> Result<Option<Ended>, StoreError> {
        if from.get(old.id).await?.is_none() {
            return Ok(Some(Ended::Gone));
        }
        if !self.pending(std::slice::from_ref(old)).await?.is_empty() {
            return Ok(Some(Ended::Pending));
        }
        for queue in [&self.queue, &self.rejected()] {
            let itself = (queue.name == from.name).then_some(old.id);
            let twin = self.newest_of(queue, StreamId::MIN, old, itself).await?;
            if let Some(Letter { id, .. }) = twin {
                let queue = queue.name;
                return Ok(Some(Ended::Twin { queue, id }));
            }
        }
        // A letter that could land may have landed, though its instance did not hear of it: it would be there twice.
        let events = &self.settler.events;
        let as_it_was = letter::batch(&mut [old.clone()], &self.streams);
        let within_presets = context.task.within_presets();
        match events.is_any_there(&as_it_was, &within_presets).await {
            Ok(false) => {}
            Ok(true) => return Ok(Some(Ended::Landed)),
            Err(gave_up) => return Ok(Some(unchanged(gave_up))),
        }
        if !was_rejected(from, old) {
            // It has the row that was looked for, or none.
            return Ok(None);
        }
        // So may another correction of it, or what its client sent again with the same id: of whatever name and time.
        let (projects, ids) = self.known_by(old, new);
        Ok(match events.find_id(&projects, &ids, &within_presets).await {
            Ok(row) => row.map(Ended::IdLanded),
            Err(GaveUp::Abandoned(_)) => Some(Ended::Unchanged(Stopped::Stopping)),
            Err(GaveUp::Away(error) | GaveUp::TakesNone(error) | GaveUp::Poison(error)) => {
                Some(Ended::IdNotLookedUp(error))
            }
        })
    }

    /// The projects and the event ids that a letter's event has, or had before it was corrected.
    fn known_by(&self, old: &Letter, new: &Letter) -> (Vec<ProjectId>, Vec<Uuid>) {
        let source = self.source(old);
        let stream = self.streams.get(source.stream as usize);
        let derived = id::derived_event(stream.map_or("", String::as_str), source.id);
        let (mut projects, mut ids) = (Vec::new(), vec![derived]);
        for fields in [old, new].into_iter().filter_map(|letter| letter.fields().ok()) {
            let given = |field: Field| fields.get(field.name()).and_then(|text| decode::uuid(text));
            projects.extend(given(Field::ProjectId).map(ProjectId));
            ids.extend(given(Field::EventId));
        }
        (projects, ids)
    }

    async fn replay_one(
        &mut self,
        lock: &Lock,
        forgotten: Option<StreamId>,
        id: StreamId,
        context: &RunContext<'_>,
    ) -> Result<Outcome, StoreError> {
        refusals::forget(&self.queue.redis, forgotten.as_slice()).await?;
        self.resume = before(id);
        let selection = Selection {
            ids: vec![id],
            ..Selection::default()
        };
        Run::new(self, lock, &selection, context)
            .finish(&mut |_| {})
            .await
    }

    /// The ring of rejected events.
    fn rejected(&self) -> Queue {
        Queue {
            name: REJECTED,
            ..self.queue.clone()
        }
    }

    /// The newest letter behind an id of a queue that is of the same entry as another, but for one.
    async fn newest_of(
        &self,
        queue: &Queue,
        mut behind: StreamId,
        of: &Letter,
        but: Option<StreamId>,
    ) -> Result<Option<Letter>, StoreError> {
        let source = self.source(of);
        let is_meant = |letter: &Letter| Some(letter.id) != but && self.source(letter) == source;
        let mut newest = None;
        loop {
            let page = queue.after(behind, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(newest);
            };
            behind = last.id;
            newest = page.into_iter().rfind(is_meant).or(newest);
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
