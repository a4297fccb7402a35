//! Writing a batch's rows to `events`, each once, whatever was tried before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashSet;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event::decode::refuse;
use crate::event::{Batch, Field, Reason};
use crate::identity::{FailedAlone, Resolved};
use crate::intake::ownership::Ownership;
use crate::metrics;
use crate::runtime::halving::AtFault;
use crate::runtime::lock::Hold;
use crate::runtime::moment::Moment;
use crate::runtime::pulse::Pulse;
use crate::runtime::retry::{self, GaveUp, Preset};
use crate::runtime::search::Search;
use crate::runtime::shutdown::{Patience, Shutdown};
use crate::stores::{ClickHouse, FailureKind, Store, StoreError};

use super::claim::Claim;
use super::columns::EventColumns;
use super::enriched::Enrichment;
use super::landed;
use super::months::by_months;
use super::parts::{Heavy, by_bytes, is_heavy};
use super::plan::Plan;

/// What the comments of our inserts begin with.
const COMMENT_PREFIX: &str = "qurvo-processor/";
/// What no comment of an insert begins with.
const NO_COMMENT: &str = "\n";
/// Rows encoded between two chances for other tasks to run.
const ROWS_PER_TURN: usize = 500;

/// Whether the warehouse has no row, and nobody is about to write one. Not knowing counts as no.
pub async fn nothing_was_written(clickhouse: &ClickHouse) -> bool {
    let running = landed::running(clickhouse, COMMENT_PREFIX, NO_COMMENT).await;
    running.is_ok_and(|running| running.is_empty()) && landed::none_at_all(clickhouse).await.unwrap_or(false)
}

/// Writes rows.
pub struct EventWriter {
    clickhouse: ClickHouse,
    enrichment: Enrichment,
    preset: Preset,
    /// Comments of this process begin with this.
    own_prefix: String,
    inserts: AtomicU64,
    /// Events of megabytes are inserted one after another, whichever batches they are in.
    heavy: Heavy,
    /// What makes rows ours to insert.
    claim: Claim,
}

impl EventWriter {
    /// A writer whose inserts can be recognised as `consumer`'s in the server.
    pub fn new(
        clickhouse: ClickHouse,
        enrichment: Enrichment,
        consumer: &str,
        request_timeout: Duration,
    ) -> Self {
        let preset = Preset {
            attempt_limit: request_timeout * 2,
            ..retry::CLICKHOUSE
        };
        let own_prefix = format!("{COMMENT_PREFIX}{consumer}/{}/", Uuid::new_v4().simple());
        Self {
            clickhouse,
            enrichment,
            preset,
            own_prefix,
            inserts: AtomicU64::new(0),
            heavy: Heavy::default(),
            claim: Claim::default(),
        }
    }

    /// The same, for rows of entries that others may take over.
    #[must_use]
    pub fn of_stream(self, ownership: Ownership) -> Self {
        Self {
            claim: Claim::Entries(ownership),
            ..self
        }
    }

    /// From now on rows are inserted under this lock: none when it turns out to be lost.
    pub fn under(&mut self, lock: Hold) {
        self.claim = Claim::Lock(lock);
    }

    /// What rows are enriched with.
    pub fn enrichment(&self) -> &Enrichment {
        &self.enrichment
    }

    /// Inserts the planned rows; the engine's word for each is in when this returns. Rows it refuses as data become
    /// rejects of the batch, those that it fails on alone leave it. Returns how many rows were inserted.
    ///
    /// # Errors
    /// [`GaveUp`] at the drain's limit, when the lock that rows are inserted under is lost, or when the engine is away or
    /// takes no row and operations are kept within their presets: some of the rows may have been inserted.
    pub async fn write(
        &self,
        resolved: &mut Resolved,
        plan: &Plan,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<usize, GaveUp<StoreError>> {
        let mut rows = plan.rows.clone();
        let mut looked_up = Tried::default();
        if !plan.look_up.is_empty() {
            if plan.redelivered {
                self.wait_for_others(pulse, shutdown).await?;
            }
            let step = Step::LookUp;
            let look_up = self.try_rows(step, &plan.look_up, resolved, pulse, shutdown);
            looked_up = Box::pin(look_up).await?;
        }
        let mut at_fault = looked_up.at_fault;
        let is_left =
            |row: &usize| !looked_up.landed.contains(row) && !at_fault.iter().any(|item| item.index == *row);
        rows.retain(is_left);
        let mut inserted = 0;
        let parts = by_months(&resolved.batch, rows).into_iter();
        let parts: Vec<_> = parts.flat_map(|rows| by_bytes(&resolved.batch, rows)).collect();
        for rows in parts {
            let insert = self.try_rows(Step::Insert, &rows, resolved, pulse, shutdown);
            let tried = Box::pin(insert).await?;
            inserted += rows.len() - tried.at_fault.len();
            at_fault.extend(tried.at_fault);
        }
        // A row that is not taken does not stand for others that would have equalled it.
        let mut others = instead_of(&at_fault, plan);
        while !others.is_empty() {
            let rows: Vec<usize> = others.iter_mut().map(|equal| equal.remove(0)).collect();
            let insert = self.try_rows(Step::Insert, &rows, resolved, pulse, shutdown);
            let tried = Box::pin(insert).await?;
            inserted += rows.len() - tried.at_fault.len();
            let failed = |row| tried.at_fault.iter().any(|item| item.index == row);
            let mut rows = rows.into_iter();
            others.retain(|equal| rows.next().is_some_and(failed) && !equal.is_empty());
            at_fault.extend(tried.at_fault);
        }
        take_out(resolved, at_fault);
        Ok(inserted)
    }

    /// Does a step for some rows together; where that fails although the engine works, piece by piece, until those that
    /// it fails for stand alone.
    async fn try_rows(
        &self,
        step: Step,
        rows: &[usize],
        resolved: &Resolved,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<Tried, GaveUp<StoreError>> {
        let mut tried = Tried::default();
        if rows.is_empty() {
            return Ok(tried);
        }
        let failure = match self.attempt(step, rows, resolved, pulse, shutdown).await {
            Ok(landed) => {
                tried.landed.extend(landed);
                return Ok(tried);
            }
            Err(failure) => failure,
        };
        tracing::debug!(rows = rows.len(), %failure, "rows not taken together: looking for those at fault");
        let attempts = match (&failure, shutdown.patience()) {
            (GaveUp::Away(_), Patience::Preset) => self.preset.attempts,
            _ => 1,
        };
        let mut search = Search::begin(rows.len(), failure, attempts, is_refused)?;
        if search.needs_probe() && !self.takes_writes(pulse).await {
            return Err(search.store_is_away());
        }
        let once = shutdown.once();
        while let Some(range) = search.next() {
            let some = &rows[range];
            let attempt = self.attempt(step, some, resolved, pulse, &once).await;
            if let Err(failure) = &attempt {
                tracing::debug!(rows = some.len(), %failure, "rows not taken");
            }
            let attempt = attempt.map(|landed| tried.landed.extend(landed));
            if search.answered(attempt.map(|()| true))? && !self.takes_writes(pulse).await {
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

    /// Returns, of rows that are looked up, those that are there.
    async fn attempt(
        &self,
        step: Step,
        rows: &[usize],
        resolved: &Resolved,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<FxHashSet<usize>, GaveUp<StoreError>> {
        match step {
            Step::LookUp => {
                let look_up = || landed::among(&self.clickhouse, &resolved.batch, rows);
                retry::persist(self.preset, pulse, shutdown, look_up).await
            }
            Step::Insert => {
                self.insert_ours(rows, resolved, pulse, shutdown).await?;
                Ok(FxHashSet::default())
            }
        }
    }

    /// Inserts those of some rows that are still ours.
    async fn insert_ours(
        &self,
        rows: &[usize],
        resolved: &Resolved,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<(), GaveUp<StoreError>> {
        let batch = &resolved.batch;
        let mut rows = rows.to_vec();
        // A piece has another token than what failed before it, of which some rows may be there all the same.
        let mut looks_up = shutdown.patience() == Patience::Once;
        let mut failures = 0;
        // Kept while it is asked again: the wait for it would make entries doubtful each time.
        let mut one_at_a_time = None;
        loop {
            let foreign = self.claim.ask(batch, &rows, pulse, shutdown).await?;
            looks_up |= !foreign.theirs.is_empty() || !foreign.nobodys.is_empty();
            rows.retain(|row| !foreign.theirs.contains(&batch.events[*row].source));
            if looks_up && !rows.is_empty() {
                self.wait_for_inserts("", pulse, shutdown).await?;
                let look_up = || async {
                    let at = Moment::now();
                    let there = landed::among(&self.clickhouse, batch, &rows).await?;
                    Ok((there, at))
                };
                let (there, at) = retry::persist(self.preset, pulse, shutdown, look_up).await?;
                rows.retain(|row| !there.contains(row));
                self.claim.looked_up(&foreign, at);
                looks_up = false;
            }
            if rows.is_empty() {
                return Ok(());
            }
            if one_at_a_time.is_none() && is_heavy(batch, &rows) {
                one_at_a_time = Some(self.heavy.turn(pulse, shutdown).await?);
            }
            let body = self.encode(resolved, &rows).await;
            let token = token(batch, &rows);
            let insert = || async {
                // Between this and the request there is no wait.
                if self.claim.is_doubtful(batch, &rows) {
                    return Ok(false);
                }
                let insert = self.insert(batch, &rows, &token, body.clone());
                metrics::timed(Store::ClickHouse.name(), insert)
                    .await
                    .map(|()| true)
            };
            let go =
                retry::persist_in_goes(&mut failures, self.preset, pulse, shutdown, |sent| *sent, insert);
            if go.await? {
                tracing::debug!(rows = rows.len(), "rows inserted");
                return Ok(());
            }
        }
    }

    async fn takes_writes(&self, pulse: &Pulse) -> bool {
        pulse.alive_for(self.preset.attempt_limit);
        let takes = self.clickhouse.takes_writes().await;
        pulse.operation_ended();
        takes.is_ok()
    }

    async fn encode(&self, resolved: &Resolved, rows: &[usize]) -> Bytes {
        let now = jiff::Timestamp::now().as_millisecond();
        let mut columns = EventColumns::default();
        for chunk in rows.chunks(ROWS_PER_TURN) {
            for row in chunk {
                let event = &resolved.batch.events[*row];
                let entry = resolved.batch.entry(event);
                columns.push(event, entry, resolved.persons[*row], now, &self.enrichment);
            }
            tokio::task::yield_now().await;
        }
        columns.block().map(Bytes::from).unwrap_or_default()
    }

    /// Inserts these rows. Where the engine says that it has written fewer, they are looked up: what is not there then was
    /// not inserted.
    ///
    /// More than these are no failure, and need no look: one block is read as a whole or refused, and the engine counts
    /// what materialized views write into tables of their own as well.
    async fn insert(
        &self,
        batch: &Batch,
        rows: &[usize],
        token: &str,
        body: Bytes,
    ) -> Result<(), StoreError> {
        const DURING: &str = "inserting events";
        if body.is_empty() {
            let message = "the rows make no block".to_owned();
            return Err(StoreError::new(
                Store::ClickHouse,
                DURING,
                true,
                String::new(),
                message,
            ));
        }
        let number = self.inserts.fetch_add(1, Ordering::Relaxed);
        let comment = format!("{}{number}", self.own_prefix);
        let settings = [
            ("insert_deduplication_token", token),
            ("insert_deduplicate", "1"),
            // Equal rows of one batch are dropped by the plan: the engine need not look for them again.
            ("optimize_on_insert", "0"),
            ("log_comment", &comment),
        ];
        let written = self
            .clickhouse
            .insert(DURING, &EventColumns::statement(), &settings, body)
            .await?;
        if written >= rows.len() as u64 {
            return Ok(());
        }
        let absent = rows.len() - landed::among(&self.clickhouse, batch, rows).await?.len();
        if absent == 0 {
            return Ok(());
        }
        let message = format!(
            "the engine says that it has written {written} of {} rows, and {absent} are not there",
            rows.len()
        );
        Err(StoreError::new(
            Store::ClickHouse,
            DURING,
            false,
            String::new(),
            message,
        ))
    }

    /// Waits until inserts that somebody else had begun before now are over: what they write must be seen by the
    /// look-up that follows.
    async fn wait_for_others(&self, pulse: &Pulse, shutdown: &Shutdown) -> Result<(), GaveUp<StoreError>> {
        self.wait_for_inserts(&self.own_prefix, pulse, shutdown).await
    }

    /// Waits until inserts that have begun before now are over, except those of `own`, if that says anything.
    async fn wait_for_inserts(
        &self,
        own: &str,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<(), GaveUp<StoreError>> {
        let own = if own.is_empty() { NO_COMMENT } else { own };
        let running = || landed::running(&self.clickhouse, COMMENT_PREFIX, own);
        let mut before: FxHashSet<String> = retry::persist(self.preset, pulse, shutdown, running).await?;
        while !before.is_empty() {
            pulse.alive_for(self.preset.attempt_limit);
            tokio::select! {
                () = shutdown.abandoned().cancelled() => return Err(GaveUp::Abandoned(None)),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            let now = retry::persist(self.preset, pulse, shutdown, running).await?;
            before.retain(|comment| now.contains(comment));
        }
        Ok(())
    }
}

/// What is done for rows.
#[derive(Debug, Clone, Copy)]
enum Step {
    LookUp,
    Insert,
}

/// What came of it.
#[derive(Debug, Default)]
struct Tried {
    /// Rows that were found.
    landed: FxHashSet<usize>,
    /// Rows for which it failed alone.
    at_fault: Vec<AtFault<StoreError>>,
}

/// For each row at fault, the events that equal it.
fn instead_of(at_fault: &[AtFault<StoreError>], plan: &Plan) -> Vec<Vec<usize>> {
    let equal = |item: &AtFault<StoreError>| plan.instead.get(&item.index).cloned();
    at_fault.iter().filter_map(equal).collect()
}

/// Whether the engine refuses rows as data.
fn is_refused(error: &StoreError) -> bool {
    error.kind == FailureKind::Poison
}

/// Takes the events of rows that the engine does not take out of their batch: as rejects, or to be set aside.
fn take_out(resolved: &mut Resolved, at_fault: Vec<AtFault<StoreError>>) {
    if at_fault.is_empty() {
        return;
    }
    let batch = &mut resolved.batch;
    let gone: FxHashSet<usize> = at_fault.iter().map(|item| item.index).collect();
    for item in at_fault {
        let event = batch.events[item.index].clone();
        if item.for_good {
            let reason = Reason::RefusedByWarehouse(item.error.message);
            let reject = refuse(event.source, batch.entry(&event), reason);
            batch.rejects.push(reject);
        } else {
            resolved.failed_alone.push(FailedAlone {
                person: Some(resolved.persons[item.index]),
                event,
                error: item.error,
                attempts: item.attempts,
            });
        }
    }
    keep_others(&mut batch.events, &gone);
    keep_others(&mut resolved.persons, &gone);
}

fn keep_others<T>(items: &mut Vec<T>, gone: &FxHashSet<usize>) {
    let mut index = 0;
    items.retain(|_| {
        index += 1;
        !gone.contains(&(index - 1))
    });
}

/// The same rows, in the same order, have the same token: a repeated insert is dropped by the engine. Made of their sort
/// keys, so that only what would be the same rows has it.
fn token(batch: &Batch, rows: &[usize]) -> String {
    let mut hasher = Sha256::new();
    for row in rows {
        let event = &batch.events[*row];
        let name = batch.text(event, Field::EventName);
        hasher.update(event.event_id.as_bytes());
        hasher.update(event.project.as_bytes());
        hasher.update(event.timestamp.to_le_bytes());
        hasher.update(name.len().to_le_bytes());
        hasher.update(name);
    }
    let mut token = format!("{:x}", hasher.finalize());
    token.truncate(32);
    token
}
