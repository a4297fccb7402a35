//! Settling: the other stores are told what PostgreSQL has committed, in order. Each step may be repeated: a crash
//! between any two is repaired by the next delivery.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::definitions::Catalogue;
use crate::event::Reject;
use crate::identity::Resolved;
use crate::identity::moved::Moved;
use crate::identity::person_key::PersonKey;
use crate::identity::publish::overrides::Publisher;
use crate::metrics;
use crate::runtime::outages;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::task::Task;
use crate::set_aside::rejected;
use crate::stores::{Redis, Store, StoreError};
use crate::traces::Span;
use crate::warehouse::EventWriter;
use crate::warehouse::plan::Plan;
use crate::warehouse::warnings::WarningSink;

/// Moved ids that are published in one operation: it ends within the time in which its loop has to show life.
const PUBLISHED_TOGETHER: usize = 10_000;
/// Longest a batch waits for its person keys.
const KEYS_LIMIT: Duration = Duration::from_secs(30);

/// Everything settling needs.
pub(crate) struct Settler {
    /// Overrides.
    pub publisher: Publisher,
    /// Rows.
    pub events: EventWriter,
    /// Person keys and rejects.
    pub redis: Redis,
    /// Warnings for projects.
    pub warnings: WarningSink,
    /// The names of what has landed.
    pub catalogue: Catalogue,
    /// Capacity of the ring of rejects.
    pub rejected_capacity: u64,
    /// Stream names, in the order of the batches' sources.
    pub streams: Arc<[String]>,
    /// Our name.
    pub consumer: String,
}

/// Person keys on their way.
#[derive(Debug)]
pub(crate) struct KeysBeingSet(JoinHandle<()>);

impl KeysBeingSet {
    /// Waits until they are set or given up.
    pub(crate) async fn ended(self, task: &Task) {
        task.pulse.alive_for(KEYS_LIMIT * 2);
        // A panic has been reported by the runtime; the keys are found to be absent when they are looked up again.
        let _ended = self.0.await;
        task.pulse.operation_ended();
    }
}

impl Settler {
    /// Makes everything about a batch durable: overrides, rows, rejects. Person keys and warnings are told as far as
    /// possible. Returns how many rows were inserted; `rows` says how patiently they are inserted.
    ///
    /// # Errors
    /// [`GaveUp::Away`] or [`GaveUp::TakesNone`] before the rows are in: the batch is as it was. Afterwards refused events
    /// have become rejects, so nothing may begin anew: what is left is repeated until the drain's limit.
    pub(crate) async fn settle(
        &self,
        resolved: &mut Resolved,
        plan: &Plan,
        rows: &Task,
        task: &Task,
    ) -> Result<usize, GaveUp<StoreError>> {
        if !resolved.moved.is_empty() {
            for some in resolved.moved.chunks(PUBLISHED_TOGETHER) {
                self.publish(some, task).await?;
            }
        }
        let Resolved { batch, persons, .. } = &mut *resolved;
        let written = self.events.write(batch, persons, plan, rows).await?;
        resolved.failed_alone.extend(written.failed_alone);
        self.reject(&mut resolved.batch, task).await?;
        Ok(written.inserted)
    }

    /// Without Redis a batch can neither be settled nor set aside: trouble there is waited out, and with it no trouble of
    /// another store's, which has a gate. What a store that works does not take is left to the sweep: no batch waits for it.
    async fn publish(&self, moved: &[Moved], task: &Task) -> Result<(), GaveUp<StoreError>> {
        let within_presets = task.within_presets();
        loop {
            let publish = || self.publisher.publish(moved);
            match within_presets.retry(retry::CLICKHOUSE, publish).await {
                Err(GaveUp::Away(error)) if error.store == Store::Redis => {
                    task.retry(retry::REDIS, || self.redis_takes_writes()).await?;
                }
                Err(GaveUp::Away(error) | GaveUp::Poison(error)) => {
                    task.pulse.alive_for(retry::CLICKHOUSE.attempt_limit * 2);
                    let (postgres, clickhouse) = (&self.publisher.postgres, &self.publisher.clickhouse);
                    if postgres.takes_writes().await.is_err() || clickhouse.takes_writes().await.is_err() {
                        return Err(GaveUp::Away(error));
                    }
                    outages::is_back(Store::ClickHouse);
                    tracing::warn!(
                        %error, ids = moved.len(),
                        "where distinct ids belong could not be published: left to the sweep"
                    );
                    return Ok(());
                }
                published => return published,
            }
        }
    }

    /// Whether Redis takes a write, and answers.
    async fn redis_takes_writes(&self) -> Result<(), StoreError> {
        let mut set = redis::cmd("SET");
        set.arg(&["processor:probe", "", "EX", "1"]);
        self.redis.ask("probing", &set).await
    }

    /// Writes a batch's rejects, and its warnings.
    ///
    /// # Errors
    /// [`GaveUp`] at the drain's limit.
    pub(crate) async fn reject(
        &self,
        batch: &mut crate::event::Batch,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        if !batch.rejects.is_empty() {
            self.write_rejects(&batch.rejects, task).await?;
            let told = batch
                .rejects
                .iter_mut()
                .filter_map(|reject| reject.warning.take());
            batch.warnings.extend(told);
        }
        self.warnings.send(std::mem::take(&mut batch.warnings));
        Ok(())
    }

    /// Begins to set person keys whose persons PostgreSQL named at this moment or later: once that is a while ago they have to
    /// be compared with it again. They are copies for speed, so trouble here is no reason to hold a batch.
    pub(crate) fn set_person_keys(
        self: &Arc<Self>,
        keys: Vec<PersonKey>,
        named_at: Instant,
        span: Span,
    ) -> KeysBeingSet {
        let settler = self.clone();
        KeysBeingSet(tokio::spawn(async move {
            let set = settler.publisher.set_where_absent(&keys, named_at.elapsed());
            match tokio::time::timeout(KEYS_LIMIT, span.around(set)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    span.failed(&error);
                    tracing::warn!(%error, keys = keys.len(), "not all person keys were set in Redis");
                }
                Err(elapsed) => {
                    span.failed(&elapsed);
                    tracing::warn!(keys = keys.len(), "person keys were not set in Redis in time");
                }
            }
        }))
    }

    async fn write_rejects(&self, rejects: &[Reject], task: &Task) -> Result<(), GaveUp<StoreError>> {
        task.retry(retry::REDIS, || async {
            rejected::write(
                &self.redis,
                rejects,
                self.rejected_capacity,
                &self.streams,
                &self.consumer,
            )
            .await
        })
        .await?;
        let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
        for reject in rejects {
            *counts.entry(reject.reason.code()).or_default() += 1;
        }
        for (reason, events) in &counts {
            metrics::rejected(reason, *events);
        }
        let reasons: Vec<String> = counts
            .iter()
            .map(|(reason, events)| format!("{reason}: {events}"))
            .collect();
        let reasons = reasons.join(", ");
        tracing::warn!(
            rejected = rejects.len(),
            reasons,
            "events refused: see the stream events:rejected"
        );
        Ok(())
    }
}
