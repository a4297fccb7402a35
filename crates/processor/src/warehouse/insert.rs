//! Inserting rows that are still ours, and waiting for inserts that others have begun.

use std::time::Duration;

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

/// Inserts rows that are ours.
pub(super) struct RowInserter {
    pub(super) clickhouse: ClickHouse,
    pub(super) enrichment: Enrichment,
    pub(super) preset: Preset,
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
            own: OwnInserts::new(own_prefix),
            heavy: Heavy::default(),
            owner: RowOwner::default(),
        }
    }

    /// Inserts those of some rows that are still ours, and returns those that are not. `looks_up`: those that are there
    /// already are not inserted.
    pub(super) async fn insert_ours(
        &self,
        rows: &[usize],
        looks_up: bool,
        from: Attributed<'_>,
        task: &Task,
    ) -> Result<Vec<usize>, GaveUp<StoreError>> {
        let batch = from.batch;
        let mut rows = rows.to_vec();
        let mut theirs = Vec::new();
        // A piece has another token than what failed before it, of which some rows may be there all the same.
        let mut looks_up = looks_up || task.patience == Patience::Once;
        let mut failures = 0;
        // Kept while it is asked again: the wait for it would make entries doubtful each time.
        let mut one_at_a_time = None;
        loop {
            let foreign = self.owner.ask(batch, &rows, task).await?;
            looks_up |= !foreign.theirs.is_empty() || !foreign.nobodys.is_empty();
            let is_theirs = |row: &mut usize| foreign.theirs.contains(&batch.events[*row].source);
            theirs.extend(rows.extract_if(.., is_theirs));
            if looks_up && !rows.is_empty() {
                self.wait_for_inserts(COMMENT_PREFIX, |_| false, task).await?;
                let look_up = || async {
                    let at = Moment::now();
                    let there = landed::among(&self.clickhouse, batch, &rows).await?;
                    Ok((there, at))
                };
                let (there, at) = task.retry(self.preset, look_up).await?;
                rows.retain(|row| !there.contains(row));
                self.owner.looked_up(&foreign, at);
                looks_up = false;
            }
            if rows.is_empty() {
                return Ok(theirs);
            }
            if one_at_a_time.is_none() && is_heavy(batch, &rows) {
                one_at_a_time = Some(self.heavy.turn(task).await?);
            }
            let (body, token) = self.encode(from, &rows).await;
            let insert = || async {
                // Between this and the request there is no wait.
                if self.owner.is_doubtful(batch, &rows) {
                    return Ok(false);
                }
                let insert = self.insert(batch, &rows, &token, body.clone());
                insert.await.map(|()| true)
            };
            let go = task.retry_in_goes(&mut failures, self.preset, |sent| *sent, insert);
            if go.await? {
                tracing::debug!(rows = rows.len(), "rows inserted");
                return Ok(theirs);
            }
        }
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
    /// what they write must be seen by the look-up that follows.
    pub(super) async fn wait_for_others(&self, task: &Task) -> Result<(), GaveUp<StoreError>> {
        let is_waited_for = |comment: &str| self.own.is_waited_for(comment);
        self.wait_for_inserts(COMMENT_PREFIX, is_waited_for, task).await
    }

    /// Waits until this writer's inserts that ended without an answer are over, if there are any.
    pub(super) async fn wait_for_unanswered(&self, task: &Task) -> Result<(), GaveUp<StoreError>> {
        if self.own.unanswered().is_none() {
            return Ok(());
        }
        let is_waited_for = |comment: &str| self.own.is_waited_for(comment);
        self.wait_for_inserts(self.own.prefix(), is_waited_for, task)
            .await
    }

    /// Waits until inserts that have begun before now, and whose comments begin with `prefix`, are over, except for those
    /// that are to be `left_out`.
    async fn wait_for_inserts(
        &self,
        prefix: &str,
        left_out: impl Fn(&str) -> bool,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        let unanswered = self.own.unanswered();
        let running = || landed::running(&self.clickhouse, prefix);
        let mut before: FxHashSet<String> = task.retry(self.preset, running).await?;
        before.retain(|comment| !left_out(comment));
        while !before.is_empty() {
            task.pulse.alive_for(self.preset.attempt_limit);
            tokio::select! {
                () = task.shutdown.abandoned().cancelled() => return Err(GaveUp::Abandoned(None)),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            let now = task.retry(self.preset, running).await?;
            before.retain(|comment| now.contains(comment));
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
