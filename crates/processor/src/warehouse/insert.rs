//! Inserting rows that are still ours, and waiting for inserts that others have begun.

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event::{Batch, Event, Field, PersonId};
use crate::metrics;
use crate::runtime::moment::Moment;
use crate::runtime::retry::{self, GaveUp, Preset};
use crate::runtime::task::{Patience, Task};
use crate::stores::{Body, ClickHouse, Store, StoreError};

use super::columns::EventColumns;
use super::enriched::Enrichment;
use super::landed;
use super::own_inserts::OwnInserts;
use super::parts::{Heavy, is_heavy};
use super::row::Row;
use super::row_owner::RowOwner;

/// Rows encoded between two chances for other tasks to run.
const ROWS_PER_TURN: usize = 500;
/// Rows that are looked up, or looked up and inserted, in one operation: it ends within the time in which its loop has to
/// show life, and before what was asked about their entries is old.
pub(super) const LOOKED_UP_TOGETHER: usize = 5_000;
/// An insert is repeated for so long: then the engine may have forgotten its token among those of others (the table's
/// deduplication window), and rows are looked up first.
const REPEATED_FOR: Duration = Duration::from_secs(10);
/// Our code for an insert that began before and goes on and on: other rows may be taken all the same.
pub(crate) const STILL_RUNS: &str = "STILL_RUNS";
/// What the comments of our inserts begin with.
const COMMENT_PREFIX: &str = "qurvo-processor/";

/// Whether the warehouse has no row, and no instance is about to write one. Not knowing counts as no.
pub(crate) async fn nothing_was_written(clickhouse: &ClickHouse) -> bool {
    let running = landed::running(clickhouse, COMMENT_PREFIX).await;
    running.is_ok_and(|running| running.is_empty()) && landed::none_at_all(clickhouse).await.unwrap_or(false)
}

/// A batch and the person of each of its events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributed<'a> {
    /// The batch.
    pub(super) batch: &'a Batch,
    /// The person of each event's row.
    pub(super) persons: &'a [PersonId],
}

/// Whether what was first sent at this moment is no repetition any more that the engine is sure to know.
fn is_late(first_sent: Moment) -> bool {
    first_sent.elapsed() > REPEATED_FOR
}

/// What came of rows that were to be inserted.
#[derive(Debug, Default)]
pub(super) struct Inserted {
    /// How many were inserted.
    pub(super) rows: usize,
    /// Those that are left to other instances.
    pub(super) theirs: Vec<usize>,
}

impl Inserted {
    fn add(&mut self, more: Self) {
        self.rows += more.rows;
        self.theirs.extend(more.theirs);
    }
}

/// Inserts rows that are ours.
pub(super) struct RowInserter {
    pub(super) clickhouse: ClickHouse,
    pub(super) enrichment: Enrichment,
    pub(super) preset: Preset,
    pub(super) request_timeout: Duration,
    own: OwnInserts,
    /// Events of megabytes are inserted one after another, whichever batches they are in.
    heavy: Heavy,
    /// What makes rows ours to insert.
    pub(super) owner: RowOwner,
}

impl RowInserter {
    /// Inserts of it can be recognised as `consumer`'s in the server.
    pub(super) fn new(
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
            request_timeout,
            own: OwnInserts::new(own_prefix),
            heavy: Heavy::default(),
            owner: RowOwner::default(),
        }
    }

    /// Inserts those of some rows that are still ours. `may_be_there`: another insert may write them, or have written them;
    /// they are looked up first.
    pub(super) async fn insert_ours(
        &self,
        rows: &[usize],
        may_be_there: bool,
        from: Attributed<'_>,
        task: &Task,
    ) -> Result<Inserted, GaveUp<StoreError>> {
        let batch = from.batch;
        let mut rows = rows.to_vec();
        let mut inserted = Inserted::default();
        // A piece has another token than what failed before it, of which some rows may be there all the same.
        let mut looks_up = may_be_there || task.patience == Patience::Once;
        let (mut failures, mut first_sent): (_, Option<Moment>) = (0, None);
        // Kept while it is asked again: the wait for it would make entries doubtful each time.
        let mut one_at_a_time = None;
        loop {
            if one_at_a_time.is_none() && is_heavy(batch, &rows) {
                one_at_a_time = Some(self.heavy.turn(task).await?);
            }
            let foreign = self.owner.ask(batch, &rows, task).await?;
            let is_foreign = !foreign.theirs.is_empty() || !foreign.nobodys.is_empty();
            looks_up |= is_foreign || first_sent.is_some_and(is_late);
            let is_theirs = |row: &mut usize| foreign.theirs.contains(&batch.events[*row].source);
            inserted.theirs.extend(rows.extract_if(.., is_theirs));
            let others_too = may_be_there || is_foreign;
            if looks_up && others_too && rows.len() > LOOKED_UP_TOGETHER {
                drop(one_at_a_time);
                for some in rows.chunks(LOOKED_UP_TOGETHER) {
                    inserted.add(Box::pin(self.insert_ours(some, true, from, task)).await?);
                }
                return Ok(inserted);
            }
            if looks_up && !rows.is_empty() {
                let look_up = self.look_up(batch, &rows, others_too, &mut failures, task);
                let (there, at) = look_up.await?;
                // What was sent before is there by that.
                inserted.rows += first_sent.take().map_or(0, |_| there.len());
                rows.retain(|row| !there.contains(row));
                self.owner.looked_up(&foreign, at);
                looks_up = false;
            }
            if rows.is_empty() {
                return Ok(inserted);
            }
            let (body, token) = self.encode(from, &rows).await;
            let first = *first_sent.get_or_insert_with(Moment::now);
            let insert = || async {
                // Between this and the request there is no wait.
                if self.owner.is_doubtful(batch, &rows) || is_late(first) {
                    return Ok(false);
                }
                let insert = self.insert(batch, &rows, &token, body.clone());
                insert.await.map(|()| true)
            };
            let go = task.retry_in_goes(&mut failures, self.preset, |sent| *sent, insert);
            if go.await? {
                tracing::debug!(rows = rows.len(), "rows inserted");
                inserted.rows += rows.len();
                return Ok(inserted);
            }
        }
    }

    /// Which of some rows are there, once inserts that may still write them are over; and when that was asked. Without
    /// `others_too` these are this writer's inserts.
    async fn look_up(
        &self,
        batch: &Batch,
        rows: &[usize],
        others_too: bool,
        failures: &mut u32,
        task: &Task,
    ) -> Result<(FxHashSet<usize>, Moment), GaveUp<StoreError>> {
        if others_too {
            self.wait_for_others(failures, task).await?;
        } else {
            self.wait_for_unanswered(failures, task).await?;
        }
        let at = Moment::now();
        let mut there = FxHashSet::default();
        for some in rows.chunks(LOOKED_UP_TOGETHER) {
            let look_up = || landed::among(&self.clickhouse, batch, some);
            let look_up = task.retry_in_goes(&mut *failures, self.preset, |_| true, look_up);
            there.extend(look_up.await?);
        }
        Ok((there, at))
    }

    /// The block of some rows, and the token of their insert: read together, while an event's text is at hand.
    async fn encode(&self, from: Attributed<'_>, rows: &[usize]) -> (Body, String) {
        let now = jiff::Timestamp::now().as_millisecond();
        let mut columns = EventColumns::default();
        let mut token = Token::default();
        for chunk in rows.chunks(ROWS_PER_TURN) {
            for index in chunk {
                let (event, person) = (&from.batch.events[*index], from.persons[*index]);
                token.add(event, from.batch.text(event, Field::EventName));
                Row::with(from.batch, event, person, &self.enrichment, |row| {
                    columns.push(row, now);
                });
            }
            tokio::task::yield_now().await;
        }
        (columns.into_block().unwrap_or_default(), token.finish())
    }

    /// Inserts these rows. Where the engine says that it has written fewer, they are looked up: what is not there then was
    /// not inserted.
    ///
    /// More than these are no failure, and need no look: one block is read as a whole or refused, and the engine counts
    /// what materialized views write into tables of their own as well.
    async fn insert(&self, batch: &Batch, rows: &[usize], token: &str, body: Body) -> Result<(), StoreError> {
        const DURING: &str = metrics::INSERTING;
        if body.is_empty() {
            let message = "the rows make no block".to_owned();
            return Err(StoreError::poison(Store::ClickHouse, DURING, message));
        }
        let insert = self.own.begin();
        let comment = insert.comment();
        let settings = [
            ("insert_deduplication_token", token),
            ("insert_deduplicate", "1"),
            // Equal rows of one batch are dropped by the plan: the engine need not look for them again.
            ("optimize_on_insert", "0"),
            ("log_comment", &comment),
        ];
        let bytes = body.len();
        let written = self
            .clickhouse
            .insert(DURING, &EventColumns::statement(), &settings, body)
            .await?;
        insert.answered();
        metrics::inserted(rows.len(), bytes);
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
        Err(StoreError::transient(Store::ClickHouse, DURING, message))
    }

    /// Waits until inserts that have begun before now are over, except those of this writer whose answers are waited for:
    /// what they write must be seen by the look-up that follows. `failures` as for [`Task::retry_in_goes`].
    pub(super) async fn wait_for_others(
        &self,
        failures: &mut u32,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        self.wait_for_inserts(COMMENT_PREFIX, failures, task).await
    }

    /// Waits until this writer's inserts that ended without an answer are over, if there are any.
    pub(super) async fn wait_for_unanswered(
        &self,
        failures: &mut u32,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        if self.own.unanswered().is_none() {
            return Ok(());
        }
        self.wait_for_inserts(self.own.prefix(), failures, task).await
    }

    /// Waits for those whose comments begin with `prefix`. One that goes on for longer than a request may take counts as a
    /// failure of the store.
    async fn wait_for_inserts(
        &self,
        prefix: &str,
        failures: &mut u32,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        const DURING: &str = "waiting for inserts that began before";
        let unanswered = self.own.unanswered();
        let running = || landed::running(&self.clickhouse, prefix);
        let first = task.retry_in_goes(&mut *failures, self.preset, |_| true, running);
        let mut before: FxHashSet<String> = first.await?;
        before.retain(|comment| !self.own.is_waited_for(comment));
        let are_over = || async {
            let asked = Instant::now();
            loop {
                let now = running().await?;
                let mut still = before.iter().filter(|comment| now.contains(*comment));
                let Some(one) = still.next() else {
                    return Ok(());
                };
                if asked.elapsed() > self.request_timeout {
                    let message = format!(
                        "{} of them still run, `{one}` for one (log_comment in system.processes): what they write has to \
                         be seen first, or end with KILL QUERY",
                        1 + still.count()
                    );
                    let error = StoreError::transient(Store::ClickHouse, DURING, message);
                    return Err(error.with_code(STILL_RUNS));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if !before.is_empty() {
            let wait = task.retry_in_goes(failures, self.preset, |()| true, are_over);
            wait.await?;
        }
        self.own.are_over(unanswered.unwrap_or_default());
        Ok(())
    }
}

/// The same rows, in the same order, have the same token: a repeated insert is dropped by the engine. Made of their sort
/// keys, so that only what would be the same rows has it.
#[derive(Default)]
struct Token(Sha256);

impl Token {
    fn add(&mut self, event: &Event, name: &str) {
        self.0.update(event.event_id.as_bytes());
        self.0.update(event.project.0.as_bytes());
        self.0.update(event.timestamp.to_le_bytes());
        self.0.update(name.len().to_le_bytes());
        self.0.update(name);
    }

    fn finish(self) -> String {
        let mut token = format!("{:x}", self.0.finalize());
        token.truncate(32);
        token
    }
}
