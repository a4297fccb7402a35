//! Writing a batch's rows to `events`, each once, whatever was tried before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event::decode::refuse;
use crate::event::{Batch, Event, Field, Reason};
use crate::identity::Resolved;
use crate::runtime::metrics;
use crate::runtime::pulse::Pulse;
use crate::runtime::retry::{self, GaveUp, Preset};
use crate::runtime::shutdown::Shutdown;
use crate::stores::{ClickHouse, Store, StoreError};

use super::columns::EventColumns;
use super::enriched::Enrichment;
use super::landed;
use super::parts::{Heavy, by_bytes, is_heavy};
use super::recent::{Recent, sort_key_hash};

/// What the comments of our inserts begin with.
const COMMENT_PREFIX: &str = "qurvo-processor/";
/// The engine refuses a block that spans more than a hundred partitions (months).
const MOST_MONTHS: usize = 90;
const MONTH_MS: i64 = 2_629_746_000;
/// Rows encoded between two chances for other tasks to run.
const ROWS_PER_TURN: usize = 500;

/// What is to be done with a batch's rows; made in stream order.
#[derive(Debug, Default)]
pub struct Plan {
    /// Events to insert.
    rows: Vec<usize>,
    /// Among them, those that may be there already.
    look_up: Vec<usize>,
    /// Some were delivered before: an insert of somebody else may still be running.
    redelivered: bool,
}

impl Plan {
    /// Whether rows have to be looked up, which takes that no earlier batch is still on its way.
    pub fn looks_up(&self) -> bool {
        !self.look_up.is_empty()
    }

    /// The batch may be landing elsewhere too: every row is looked up first.
    pub fn look_up_all(&mut self) {
        self.look_up.clone_from(&self.rows);
        self.redelivered = true;
    }
}

/// Plans batches one after another: remembers what was written lately.
#[derive(Debug, Default)]
pub struct Planner {
    recent: Recent,
}

impl Planner {
    /// Decides which rows to insert and which to look up first. Of equal rows in one batch, the first is kept.
    pub fn plan(&mut self, batch: &Batch) -> Plan {
        let mut plan = Plan::default();
        let mut in_batch: FxHashMap<u64, usize> = FxHashMap::default();
        for (index, event) in batch.events.iter().enumerate() {
            let hash = sort_key_hash(batch, event);
            if let Some(first) = in_batch.get(&hash)
                && same_row(batch, &batch.events[*first], event)
            {
                continue;
            }
            in_batch.insert(hash, index);
            plan.rows.push(index);
            let seen = self.recent.seen(hash);
            if seen || event.source.redelivered {
                plan.look_up.push(index);
            }
            plan.redelivered |= event.source.redelivered;
        }
        plan
    }
}

fn same_row(batch: &Batch, a: &Event, b: &Event) -> bool {
    a.event_id == b.event_id
        && a.project == b.project
        && a.timestamp == b.timestamp
        && batch.text(a, Field::EventName) == batch.text(b, Field::EventName)
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
        }
    }

    /// What rows are enriched with.
    pub fn enrichment(&self) -> &Enrichment {
        &self.enrichment
    }

    /// Inserts the planned rows; the engine's word for each is in when this returns. Rows it refuses as data become
    /// rejects of the batch.
    ///
    /// # Errors
    /// [`GaveUp`] at the drain's limit, or when the engine is away and operations are kept within their presets: some of
    /// the rows may have been inserted.
    pub async fn write(
        &self,
        resolved: &mut Resolved,
        plan: &Plan,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<(), GaveUp<StoreError>> {
        let mut rows = plan.rows.clone();
        if !plan.look_up.is_empty() {
            if plan.redelivered {
                self.wait_for_others(pulse, shutdown).await?;
            }
            let landed = retry::persist(self.preset, pulse, shutdown, || {
                landed::among(&self.clickhouse, &resolved.batch, &plan.look_up)
            })
            .await?;
            rows.retain(|row| !landed.contains(row));
        }
        let mut refused = Vec::new();
        let mut waiting: Vec<Vec<usize>> = by_months(&resolved.batch, rows)
            .into_iter()
            .flat_map(|rows| by_bytes(&resolved.batch, rows))
            .collect();
        while let Some(rows) = waiting.pop() {
            if rows.is_empty() {
                continue;
            }
            let _one_at_a_time = if is_heavy(&resolved.batch, &rows) {
                Some(self.heavy.turn(pulse, shutdown).await?)
            } else {
                None
            };
            let body = self.encode(resolved, &rows).await;
            let token = token(&resolved.batch, &rows);
            let attempt = retry::persist(self.preset, pulse, shutdown, || {
                metrics::timed(Store::ClickHouse, self.insert(&token, body.clone()))
            });
            match attempt.await {
                Ok(()) => tracing::debug!(rows = rows.len(), "rows inserted"),
                Err(GaveUp::Poison(error)) if rows.len() == 1 => {
                    tracing::debug!(rows = 1, %error, "rows refused: looking for those at fault");
                    refused.push((rows[0], error.message));
                }
                Err(GaveUp::Poison(error)) => {
                    tracing::debug!(rows = rows.len(), %error, "rows refused: looking for those at fault");
                    let (left, right) = rows.split_at(rows.len() / 2);
                    waiting.push(right.to_vec());
                    waiting.push(left.to_vec());
                }
                Err(gave_up) => return Err(gave_up),
            }
        }
        reject(&mut resolved.batch, &refused);
        Ok(())
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

    async fn insert(&self, token: &str, body: Bytes) -> Result<(), StoreError> {
        let number = self.inserts.fetch_add(1, Ordering::Relaxed);
        let comment = format!("{}{number}", self.own_prefix);
        let settings = [
            ("insert_deduplication_token", token),
            ("insert_deduplicate", "1"),
            // Equal rows of one batch are dropped by the plan: the engine need not look for them again.
            ("optimize_on_insert", "0"),
            ("log_comment", &comment),
        ];
        self.clickhouse
            .insert("inserting events", EventColumns::statement(), &settings, body)
            .await
    }

    /// Waits until inserts that somebody else had begun before now are over: what they write must be seen by the
    /// look-up that follows.
    async fn wait_for_others(&self, pulse: &Pulse, shutdown: &Shutdown) -> Result<(), GaveUp<StoreError>> {
        let running = || landed::running(&self.clickhouse, COMMENT_PREFIX, &self.own_prefix);
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

/// Turns refused rows into rejects.
fn reject(batch: &mut Batch, refused: &[(usize, String)]) {
    let rejects: Vec<_> = refused
        .iter()
        .map(|(row, error)| {
            let event = &batch.events[*row];
            refuse(
                event.source,
                batch.entry(event),
                Reason::RefusedByWarehouse(error.clone()),
            )
        })
        .collect();
    for reject in rejects {
        batch.events.retain(|event| event.source != reject.source);
        batch.rejects.push(reject);
    }
}

/// Splits rows so that no part spans more months than one insert may.
fn by_months(batch: &Batch, mut rows: Vec<usize>) -> Vec<Vec<usize>> {
    let month = |row: &usize| batch.events[*row].timestamp / MONTH_MS;
    let months: FxHashSet<i64> = rows.iter().map(month).collect();
    if months.len() <= MOST_MONTHS {
        return vec![rows];
    }
    rows.sort_by_key(month);
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut in_part: FxHashSet<i64> = FxHashSet::default();
    for row in rows {
        // A calendar month may touch two of our even ones, so parts stay well below the engine's hundred.
        if parts.is_empty() || (in_part.len() >= MOST_MONTHS / 2 && !in_part.contains(&month(&row))) {
            parts.push(Vec::new());
            in_part.clear();
        }
        in_part.insert(month(&row));
        if let Some(part) = parts.last_mut() {
            part.push(row);
        }
    }
    parts
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
