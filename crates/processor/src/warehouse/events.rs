//! Writing a batch's rows to `events`, each once, whatever was tried before.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustc_hash::FxHashSet;
use uuid::Uuid;

use crate::event::decode::refuse;
use crate::event::{Batch, PersonId, ProjectId, Reason};
use crate::intake::Ownership;
use crate::runtime::failed_alone::FailedAlone;
use crate::runtime::halving::AtFault;
use crate::runtime::lock::LockHandle;
use crate::runtime::retry::GaveUp;
use crate::runtime::search::Search;
use crate::runtime::task::{Patience, Task};
use crate::stores::{ClickHouse, FailureKind, StoreError};

use super::enriched::Enrichment;
use super::insert::{Attributed, RowInserter};
use super::landed::{self, SeenRow};
use super::months::by_months;
use super::parts::by_bytes;
use super::plan::Plan;
use super::row_owner::RowOwner;

/// Rows that are looked up in one operation: it ends within the time in which its loop has to show life.
const LOOKED_UP_TOGETHER: usize = 10_000;

/// Writes rows.
pub(crate) struct EventWriter {
    inserter: RowInserter,
    request_timeout: Duration,
}

/// What came of writing a batch's rows.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Rows that were inserted.
    pub inserted: usize,
    /// Events whose rows the engine fails on although it takes their neighbours: out of the batch.
    pub failed_alone: Vec<FailedAlone>,
}

impl EventWriter {
    /// A writer whose inserts can be recognised as `consumer`'s in the server.
    pub(crate) fn new(
        clickhouse: ClickHouse,
        enrichment: Enrichment,
        consumer: &str,
        request_timeout: Duration,
    ) -> Self {
        let inserter = RowInserter::new(clickhouse, enrichment, consumer, request_timeout);
        Self {
            inserter,
            request_timeout,
        }
    }

    /// The same, for rows of entries that others may take over.
    #[must_use]
    pub(crate) fn of_stream(mut self, ownership: Ownership) -> Self {
        self.inserter.owner = RowOwner::Entries(ownership);
        self
    }

    /// From now on rows are inserted under this lock: none when it turns out to be lost.
    pub(crate) fn under(&mut self, lock: LockHandle) {
        self.inserter.owner = RowOwner::Lock(lock);
    }

    /// What rows are enriched with.
    pub(crate) fn enrichment(&self) -> &Enrichment {
        &self.inserter.enrichment
    }

    /// Inserts the planned rows; the engine's word for each is in when this returns. Rows it refuses as data become
    /// rejects of the batch, those that it fails on alone leave it; `persons` has one for each event of the batch, before and
    /// after.
    ///
    /// # Errors
    /// [`GaveUp`] at the drain's limit, when the lock that rows are inserted under is lost, or when the engine is away or
    /// takes no row and operations are kept within their presets: some of the rows may have been inserted.
    pub(crate) async fn write(
        &self,
        batch: &mut Batch,
        persons: &mut Vec<PersonId>,
        plan: &Plan,
        task: &Task,
    ) -> Result<Written, GaveUp<StoreError>> {
        let from = Attributed { batch, persons };
        let mut rows = plan.rows.clone();
        let mut looked_up = Tried::default();
        if !plan.look_up.is_empty() {
            if plan.redelivered {
                self.inserter.wait_for_others(task).await?;
            } else {
                self.inserter.wait_for_unanswered(task).await?;
            }
            looked_up = self.try_rows(Step::LookUp, &plan.look_up, from, task).await?;
        }
        let mut at_fault = looked_up.at_fault;
        let is_left =
            |row: &usize| !looked_up.rows.contains(row) && !at_fault.iter().any(|item| item.index == *row);
        rows.retain(is_left);
        let (mut inserted, mut theirs) = (0, FxHashSet::default());
        let parts = by_months(from.batch, rows).into_iter();
        let parts: Vec<_> = parts.flat_map(|rows| by_bytes(from.batch, rows)).collect();
        for rows in parts {
            let tried = self.try_rows(Step::Insert, &rows, from, task).await?;
            inserted += rows.len() - tried.at_fault.len() - tried.rows.len();
            at_fault.extend(tried.at_fault);
            theirs.extend(tried.rows);
        }
        // A row that is not taken, or is left to another instance, does not stand for others that would have equalled it.
        let not_ours = at_fault.iter().map(|item| item.index).chain(theirs);
        let mut others: Vec<_> = not_ours
            .filter_map(|row| plan.equal_rows.get(&row).cloned())
            .collect();
        while !others.is_empty() {
            let rows: Vec<usize> = others.iter_mut().map(|equal| equal.remove(0)).collect();
            let tried = self.try_rows(Step::InsertAbsent, &rows, from, task).await?;
            inserted += rows.len() - tried.at_fault.len() - tried.rows.len();
            let is_in =
                |row| !tried.rows.contains(&row) && !tried.at_fault.iter().any(|item| item.index == row);
            let mut rows = rows.into_iter();
            others.retain(|equal| !rows.next().is_some_and(is_in) && !equal.is_empty());
            at_fault.extend(tried.at_fault);
        }
        Ok(Written {
            inserted,
            failed_alone: take_out(batch, persons, at_fault),
        })
    }

    /// Whether the row of any event of a batch is there, once inserts that have begun before now are over.
    ///
    /// # Errors
    /// [`GaveUp`] as for [`EventWriter::write`].
    pub(crate) async fn is_any_there(&self, batch: &Batch, task: &Task) -> Result<bool, GaveUp<StoreError>> {
        if batch.events.is_empty() {
            return Ok(false);
        }
        self.inserter.wait_for_others(task).await?;
        let rows: Vec<usize> = (0..batch.events.len()).collect();
        let look_up = || landed::among(&self.inserter.clickhouse, batch, &rows);
        let found = task.retry(self.inserter.preset, look_up).await?;
        Ok(!found.is_empty())
    }

    /// A row of one of these projects with one of these event ids, whatever its name and time, once inserts that have begun
    /// before now are over. Asked a single time, and for no longer than a request may take: it may have to read a column of
    /// a whole project.
    ///
    /// # Errors
    /// [`GaveUp`] as for [`EventWriter::write`].
    pub(crate) async fn find_id(
        &self,
        projects: &[ProjectId],
        ids: &[Uuid],
        task: &Task,
    ) -> Result<Option<SeenRow>, GaveUp<StoreError>> {
        self.inserter.wait_for_others(task).await?;
        let find = || landed::of_ids(&self.inserter.clickhouse, projects, ids, self.request_timeout);
        task.once().retry(self.inserter.preset, find).await
    }

    /// Does a step for some rows together; where that fails although the engine works, piece by piece, until those that
    /// it fails for stand alone.
    fn try_rows<'a>(
        &'a self,
        step: Step,
        rows: &'a [usize],
        from: Attributed<'a>,
        task: &'a Task,
    ) -> BoxFuture<'a, Result<Tried, GaveUp<StoreError>>> {
        self.search_among(step, rows, from, task).boxed()
    }

    async fn search_among(
        &self,
        step: Step,
        rows: &[usize],
        from: Attributed<'_>,
        task: &Task,
    ) -> Result<Tried, GaveUp<StoreError>> {
        let mut tried = Tried::default();
        if rows.is_empty() {
            return Ok(tried);
        }
        let failure = match self.attempt(step, rows, from, task).await {
            Ok(rows) => {
                tried.rows.extend(rows);
                return Ok(tried);
            }
            Err(failure) => failure,
        };
        tracing::debug!(rows = rows.len(), %failure, "rows not taken together: looking for those at fault");
        let attempts = match (&failure, task.patience) {
            (GaveUp::Away(_), Patience::Preset) => self.inserter.preset.attempts,
            _ => 1,
        };
        let mut search = Search::begin(rows.len(), failure, attempts, is_refused)?;
        if search.needs_probe() && !self.takes_writes(task).await {
            return Err(search.store_is_away());
        }
        let once = task.once();
        while let Some(range) = search.next() {
            let some = &rows[range];
            let attempt = self.attempt(step, some, from, &once).await;
            if let Err(failure) = &attempt {
                tracing::debug!(rows = some.len(), %failure, "rows not taken");
            }
            let attempt = attempt.map(|rows| tried.rows.extend(rows));
            if search.answered(attempt.map(|()| true))? && !self.takes_writes(task).await {
                return Err(search.store_is_away());
            }
        }
        let of_row = |item: AtFault<StoreError>| AtFault {
            index: rows[item.index],
            ..item
        };
        tried.at_fault = search.end()?.into_iter().map(of_row).collect();
        Ok(tried)
    }

    /// Returns, of rows that are looked up, those that are there, and of rows to insert those that are another instance's.
    async fn attempt(
        &self,
        step: Step,
        rows: &[usize],
        from: Attributed<'_>,
        task: &Task,
    ) -> Result<Vec<usize>, GaveUp<StoreError>> {
        match step {
            Step::LookUp => {
                let mut there = Vec::new();
                for some in rows.chunks(LOOKED_UP_TOGETHER) {
                    let look_up = || landed::among(&self.inserter.clickhouse, from.batch, some);
                    there.extend(task.retry(self.inserter.preset, look_up).await?);
                }
                Ok(there)
            }
            Step::Insert => self.inserter.insert_ours(rows, false, from, task).await,
            Step::InsertAbsent => self.inserter.insert_ours(rows, true, from, task).await,
        }
    }

    async fn takes_writes(&self, task: &Task) -> bool {
        task.pulse.alive_for(self.inserter.preset.attempt_limit);
        let takes = self.inserter.clickhouse.takes_writes().await;
        task.pulse.operation_ended();
        takes.is_ok()
    }
}

/// What is done for rows.
#[derive(Debug, Clone, Copy)]
enum Step {
    LookUp,
    Insert,
    /// Looked up and inserted where they are not there.
    InsertAbsent,
}

/// What came of it.
#[derive(Debug, Default)]
struct Tried {
    /// Rows that were looked up and found; or rows that were to be inserted and are another instance's.
    rows: FxHashSet<usize>,
    /// Rows for which it failed alone.
    at_fault: Vec<AtFault<StoreError>>,
}

/// Whether the engine refuses rows as data.
fn is_refused(error: &StoreError) -> bool {
    error.kind == FailureKind::Poison
}

/// Takes the events of rows that the engine does not take out of their batch: as rejects, or, returned, to be set aside.
fn take_out(
    batch: &mut Batch,
    persons: &mut Vec<PersonId>,
    at_fault: Vec<AtFault<StoreError>>,
) -> Vec<FailedAlone> {
    let mut failed_alone = Vec::new();
    if at_fault.is_empty() {
        return failed_alone;
    }
    let gone: FxHashSet<usize> = at_fault.iter().map(|item| item.index).collect();
    for item in at_fault {
        let event = batch.events[item.index].clone();
        if item.for_good {
            let reason = Reason::RefusedByWarehouse(item.error.message);
            let reject = refuse(event.source, batch.entry(&event), reason);
            batch.rejects.push(reject);
        } else {
            failed_alone.push(FailedAlone {
                person: Some(persons[item.index]),
                event,
                error: item.error,
                attempts: item.attempts,
            });
        }
    }
    keep_others(&mut batch.events, &gone);
    keep_others(persons, &gone);
    failed_alone
}

fn keep_others<T>(items: &mut Vec<T>, gone: &FxHashSet<usize>) {
    let mut index = 0;
    items.retain(|_| {
        index += 1;
        !gone.contains(&(index - 1))
    });
}
