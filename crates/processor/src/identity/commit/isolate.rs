//! Finding the events that PostgreSQL does not take, so that their neighbours land without them.

use rustc_hash::FxHashSet;

use crate::event::decode::refuse;
use crate::event::{Batch, Event, Reason, Source};
use crate::runtime::failed_alone::FailedAlone;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::search::Search;
use crate::runtime::task::{Patience, Task};
use crate::stores::{SqlClass, StoreError};

use super::attempt::{Committer, UNREADABLE_PERSON};
use super::committed::Committed;

/// Whether a refusal is about data, or about a stored person that cannot be read. Others are about the statement or the
/// schema.
fn is_about_data(error: &StoreError) -> bool {
    let class = error.sql_class();
    error.code == UNREADABLE_PERSON
        || matches!(
            class,
            Some(
                SqlClass::DataException
                    | SqlClass::IntegrityConstraintViolation
                    | SqlClass::ProgramLimitExceeded
            )
        )
}

/// The pieces that PostgreSQL took, in order.
#[derive(Default)]
struct Pieces {
    events: Vec<Event>,
    committed: Committed,
}

impl Committer {
    /// Commits a batch that PostgreSQL did not take together piece by piece, in order. Events that it refuses as data
    /// become rejects, those that it fails on alone are left out.
    ///
    /// # Errors
    /// [`GaveUp`], with the batch as it was: PostgreSQL takes no writes at all, or took none of the batch.
    pub(crate) async fn isolate(
        &mut self,
        batch: &mut Batch,
        failure: GaveUp<StoreError>,
        task: &Task,
    ) -> Result<(Committed, Vec<FailedAlone>), GaveUp<StoreError>> {
        let all = std::mem::take(&mut batch.events);
        let pieces = self.commit_pieces(batch, &all, failure, task).await;
        let found = match pieces {
            Ok((pieces, search)) => search.end().map(|at_fault| (pieces, at_fault)),
            Err(gave_up) => Err(gave_up),
        };
        let (pieces, at_fault) = match found {
            Ok(found) => found,
            Err(gave_up) => {
                batch.events = without_rejects(batch, &all);
                return Err(gave_up);
            }
        };
        let mut failed_alone = Vec::new();
        for item in at_fault {
            let event = all[item.index].clone();
            if item.for_good {
                let reason = Reason::RefusedByPostgres(item.error.message);
                batch
                    .rejects
                    .push(refuse(event.source, batch.entry(&event), reason));
            } else {
                failed_alone.push(FailedAlone {
                    event,
                    person: None,
                    error: item.error,
                    attempts: item.attempts,
                });
            }
        }
        batch.events = pieces.events;
        Ok((pieces.committed, failed_alone))
    }

    async fn commit_pieces(
        &mut self,
        batch: &mut Batch,
        all: &[Event],
        failure: GaveUp<StoreError>,
        task: &Task,
    ) -> Result<(Pieces, Search), GaveUp<StoreError>> {
        let attempts = match (&failure, task.patience) {
            (GaveUp::Away(_), Patience::Preset) => retry::POSTGRES.attempts,
            _ => 1,
        };
        let mut search = Search::begin(all.len(), failure, attempts, is_about_data)?;
        if search.needs_probe() && !self.takes_writes(task).await {
            return Err(search.store_is_away());
        }
        let mut pieces = Pieces::default();
        let once = task.once();
        while let Some(range) = search.next() {
            batch.events = without_rejects(batch, &all[range]);
            let tried = match self.commit(batch, &once).await {
                Ok(committed) => {
                    self.remember_part(batch, &committed);
                    let wrote = committed.wrote;
                    pieces.events.append(&mut batch.events);
                    pieces.committed.append(committed);
                    Ok(wrote)
                }
                Err(gave_up) => Err(gave_up),
            };
            if search.answered(tried)? && !self.takes_writes(task).await {
                return Err(search.store_is_away());
            }
        }
        Ok((pieces, search))
    }

    async fn takes_writes(&self, task: &Task) -> bool {
        task.pulse.alive_for(retry::POSTGRES.attempt_limit);
        let takes = self.recall.postgres.takes_writes().await;
        task.pulse.operation_ended();
        takes.is_ok()
    }
}

/// The events that have not become rejects on the way.
fn without_rejects(batch: &Batch, events: &[Event]) -> Vec<Event> {
    let rejected: FxHashSet<Source> = batch.rejects.iter().map(|reject| reject.source).collect();
    let is_left = |event: &&Event| !rejected.contains(&event.source);
    events.iter().filter(is_left).cloned().collect()
}
