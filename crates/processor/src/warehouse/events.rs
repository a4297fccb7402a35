//! Writing a batch's rows to `events`, each once, whatever was tried before.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

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
use super::insert::{Attributed, LOOKED_UP_TOGETHER, RowInserter, STILL_RUNS};
use super::landed::{self, SeenRow};
use super::months::by_months;
use super::parts::by_bytes;
use super::plan::Plan;
use super::row_owner::RowOwner;

/// How long equal rows are tried one after another where the first ones are not taken; those that are left then are set
/// aside untried.
const LONGEST_AMONG_EQUALS: Duration = Duration::from_mins(1);

/// Writes rows.
pub(crate) struct EventWriter {
    inserter: RowInserter,
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
        Self { inserter }
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
        let mut tried = Tried::default();
        if !plan.look_up.is_empty() {
            if plan.redelivered {
                self.inserter.wait_for_others(&mut 0, task).await?;
            } else {
                self.inserter.wait_for_unanswered(&mut 0, task).await?;
            }
            tried = self
                .try_rows(Step::LookUp, &plan.look_up, from, false, task)
                .await?;
        }
        rows.retain(|row| !tried.there.contains(row) && !tried.is_at_fault(*row));
        self.insert(Step::Insert, rows, from, &mut tried, task).await?;
        self.insert_equals(plan, from, &mut tried, task).await?;
        Ok(Written {
            inserted: tried.inserted,
            failed_alone: take_out(batch, persons, tried.at_fault),
        })
    }

    /// A row that is not taken, or is left to another instance, does not stand for others that would have equalled it: they
    /// are tried one after another.
    async fn insert_equals(
        &self,
        plan: &Plan,
        from: Attributed<'_>,
        tried: &mut Tried,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        let not_in = tried.at_fault.iter().map(|item| item.index);
        let not_in = not_in.chain(tried.theirs.iter().copied());
        let equal = not_in.filter_map(|row| plan.equal_rows.get(&row).cloned());
        let mut equal: Vec<_> = equal.collect();
        // The presets were spent on the first ones.
        let (once, began) = (task.once(), Instant::now());
        while !equal.is_empty() {
            if let Some(last) = tried.at_fault.last()
                && began.elapsed() > LONGEST_AMONG_EQUALS
            {
                let like_last = |index| AtFault {
                    index,
                    error: last.error.clone(),
                    for_good: false,
                    attempts: 0,
                };
                let untried: Vec<_> = equal.into_iter().flatten().map(like_last).collect();
                tried.at_fault.extend(untried);
                return Ok(());
            }
            let rows: Vec<usize> = equal.iter_mut().map(|equal| equal.remove(0)).collect();
            self.insert(Step::InsertAbsent, rows.clone(), from, tried, &once)
                .await?;
            let is_in = |row| !tried.theirs.contains(&row) && !tried.is_at_fault(row);
            let mut rows = rows.into_iter();
            equal.retain(|equal| !rows.next().is_some_and(is_in) && !equal.is_empty());
        }
        Ok(())
    }

    /// Inserts rows in as many parts as it takes, and adds what comes of it to what was `tried` before.
    async fn insert(
        &self,
        step: Step,
        rows: Vec<usize>,
        from: Attributed<'_>,
        tried: &mut Tried,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        let months = by_months(from.batch, rows).into_iter();
        let mut parts: Vec<_> = months.flat_map(|rows| by_bytes(from.batch, rows)).collect();
        // What fails alone is at fault where others were taken: the part that is most likely to have some comes first.
        parts.sort_by_key(|rows| Reverse(rows.len()));
        for rows in parts {
            let others_were_taken = tried.inserted > 0;
            tried.add(self.try_rows(step, &rows, from, others_were_taken, task).await?);
        }
        Ok(())
    }

    /// Whether the row of any event of a batch is there, once inserts that have begun before now are over.
    ///
    /// # Errors
    /// [`GaveUp`] as for [`EventWriter::write`].
    pub(crate) async fn is_any_there(&self, batch: &Batch, task: &Task) -> Result<bool, GaveUp<StoreError>> {
        if batch.events.is_empty() {
            return Ok(false);
        }
        self.inserter.wait_for_others(&mut 0, task).await?;
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
        self.inserter.wait_for_others(&mut 0, task).await?;
        let find = || {
            landed::of_ids(
                &self.inserter.clickhouse,
                projects,
                ids,
                self.inserter.request_timeout,
            )
        };
        task.once().retry(self.inserter.preset, find).await
    }

    /// Does a step for some rows together; where that fails although the engine works, piece by piece, until those that
    /// it fails for stand alone. `others_were_taken`: the engine has taken other rows right before.
    fn try_rows<'a>(
        &'a self,
        step: Step,
        rows: &'a [usize],
        from: Attributed<'a>,
        others_were_taken: bool,
        task: &'a Task,
    ) -> BoxFuture<'a, Result<Tried, GaveUp<StoreError>>> {
        self.search_among(step, rows, from, others_were_taken, task)
            .boxed()
    }

    async fn search_among(
        &self,
        step: Step,
        rows: &[usize],
        from: Attributed<'_>,
        others_were_taken: bool,
        task: &Task,
    ) -> Result<Tried, GaveUp<StoreError>> {
        let failure = match self.attempt(step, rows, from, task).await {
            Ok(tried) => return Ok(tried),
            Err(failure) if is_of_another(&failure) => return Err(failure),
            Err(failure) => failure,
        };
        tracing::debug!(rows = rows.len(), %failure, "rows not taken together: looking for those at fault");
        let attempts = match (&failure, task.patience) {
            (GaveUp::Away(_), Patience::Preset) => self.inserter.preset.attempts,
            _ => 1,
        };
        let search = Search::begin(rows.len(), failure, attempts, is_refused)?;
        let mut search = search.beside_what_was_taken(others_were_taken);
        if search.needs_probe() && !self.takes_writes(task).await {
            return Err(search.store_is_away());
        }
        let (once, mut tried) = (task.once(), Tried::default());
        while let Some(range) = search.next() {
            let some = &rows[range];
            let attempt = self.attempt(step, some, from, &once).await;
            if let Err(failure) = &attempt {
                tracing::debug!(rows = some.len(), %failure, "rows not taken");
            }
            let attempt = match attempt {
                Err(failure) if is_of_another(&failure) => return Err(failure),
                attempt => attempt,
            };
            // The engine was not asked about what is another instance's.
            let attempt = attempt.map(|done| {
                let was_asked = done.theirs.len() < some.len();
                tried.add(done);
                was_asked
            });
            if search.answered(attempt)? && !self.takes_writes(task).await {
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

    async fn attempt(
        &self,
        step: Step,
        rows: &[usize],
        from: Attributed<'_>,
        task: &Task,
    ) -> Result<Tried, GaveUp<StoreError>> {
        let mut tried = Tried::default();
        match step {
            Step::LookUp => {
                for some in rows.chunks(LOOKED_UP_TOGETHER) {
                    let look_up = || landed::among(&self.inserter.clickhouse, from.batch, some);
                    tried
                        .there
                        .extend(task.retry(self.inserter.preset, look_up).await?);
                }
            }
            Step::Insert | Step::InsertAbsent => {
                let looks_up = step == Step::InsertAbsent;
                let inserted = self.inserter.insert_ours(rows, looks_up, from, task).await?;
                tried.inserted = inserted.rows;
                tried.theirs.extend(inserted.theirs);
            }
        }
        Ok(tried)
    }

    async fn takes_writes(&self, task: &Task) -> bool {
        task.pulse.alive_for(self.inserter.preset.attempt_limit);
        let takes = self.inserter.clickhouse.takes_writes().await;
        task.pulse.operation_ended();
        takes.is_ok()
    }
}

/// What is done for rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    LookUp,
    Insert,
    /// Looked up, and inserted where they are not there.
    InsertAbsent,
}

/// What came of it.
#[derive(Debug, Default)]
struct Tried {
    /// Rows that were looked up and found.
    there: FxHashSet<usize>,
    /// Rows that were to be inserted and are another instance's.
    theirs: FxHashSet<usize>,
    /// How many were inserted.
    inserted: usize,
    /// Rows for which it failed alone.
    at_fault: Vec<AtFault<StoreError>>,
}

impl Tried {
    fn add(&mut self, more: Self) {
        self.there.extend(more.there);
        self.theirs.extend(more.theirs);
        self.inserted += more.inserted;
        self.at_fault.extend(more.at_fault);
    }

    fn is_at_fault(&self, row: usize) -> bool {
        self.at_fault.iter().any(|item| item.index == row)
    }
}

/// Whether rows only wait for another insert: none of them is at fault.
fn is_of_another(failure: &GaveUp<StoreError>) -> bool {
    matches!(failure, GaveUp::Away(error) if error.code == STILL_RUNS)
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
