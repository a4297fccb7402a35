//! Landing: the other stores are told what PostgreSQL has committed, in order, and only then is anything
//! acknowledged. Each step may be repeated: a crash between any two is repaired by the next delivery.

use std::sync::Arc;

use crate::definitions::Catalogue;
use crate::event::Source;
use crate::identity::overrides::Publisher;
use crate::identity::{PERSON_TTL_S, Resolved};
use crate::intake::acknowledge::Acknowledger;
use crate::intake::claim::Suspects;
use crate::rejected;
use crate::runtime::pulse::Pulse;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::shutdown::Shutdown;
use crate::stores::{RedisConnection, StoreError};
use crate::warehouse::EventWriter;
use crate::warehouse::events::Plan;
use crate::warehouse::warnings::WarningSink;

/// Everything landing needs.
pub struct Lander {
    /// Overrides.
    pub publisher: Publisher,
    /// Rows.
    pub events: EventWriter,
    /// Person keys and rejects.
    pub redis: RedisConnection,
    /// The end of an entry.
    pub acknowledger: Acknowledger,
    /// Warnings for projects.
    pub warnings: WarningSink,
    /// The names of what has landed.
    pub catalogue: Catalogue,
    /// Stream names, in the ledger's order.
    pub streams: Arc<[String]>,
    /// Capacity of the ring of rejects.
    pub rejected_capacity: u64,
    /// Our name.
    pub consumer: String,
}

impl Lander {
    /// Lands one batch.
    ///
    /// # Errors
    /// [`GaveUp`] at the drain's limit: what was not acknowledged stays pending.
    pub async fn land(
        &self,
        mut resolved: Resolved,
        plan: Plan,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<(), GaveUp<StoreError>> {
        let moved = std::mem::take(&mut resolved.moved);
        if !moved.is_empty() {
            retry::persist(retry::CLICKHOUSE, pulse, shutdown, || {
                self.publisher.publish(&moved)
            })
            .await?;
        }
        self.events.write(&mut resolved, plan, pulse, shutdown).await?;
        self.set_person_keys(&resolved).await;
        let batch = &mut resolved.batch;
        if !batch.rejects.is_empty() {
            self.reject(&batch.rejects, pulse, shutdown).await?;
            batch.warnings.extend(
                batch
                    .rejects
                    .iter_mut()
                    .filter_map(|reject| reject.warning.take()),
            );
        }
        self.warnings.send(std::mem::take(&mut batch.warnings));
        if !batch.gone.is_empty() {
            tracing::error!(
                entries = batch.gone.len(),
                first = %batch.gone[0].id,
                "entries were trimmed off the stream while pending: their events are lost upstream"
            );
        }
        let sources: Vec<Source> = batch.sources().collect();
        self.acknowledger.acknowledge(&sources, pulse, shutdown).await?;
        self.catalogue.observe(batch);
        if batch.solitary {
            self.clear_suspects(&sources).await;
        }
        tracing::debug!(
            events = batch.events.len(), rejected = batch.rejects.len(), moved = moved.len(),
            range = ?batch.id_range(), "batch settled"
        );
        Ok(())
    }

    /// Copies for speed: PostgreSQL has the truth, so trouble here is no reason to hold a batch.
    async fn set_person_keys(&self, resolved: &Resolved) {
        let mut redis = self.redis.clone();
        for some in resolved.person_keys.chunks(1000) {
            let mut pipeline = redis::pipe();
            for (key, person) in some {
                let command = pipeline.cmd("SET").arg(key).arg(person.to_string());
                command.arg("NX").arg("EX").arg(PERSON_TTL_S).ignore();
            }
            if let Err(error) = pipeline.query_async::<()>(&mut redis).await {
                tracing::warn!(%error, keys = some.len(), "person keys were not set in Redis");
            }
        }
    }

    async fn reject(
        &self,
        rejects: &[crate::event::Reject],
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<(), GaveUp<StoreError>> {
        retry::persist(retry::REDIS, pulse, shutdown, || async {
            rejected::write(
                &mut self.redis.clone(),
                rejects,
                self.rejected_capacity,
                &self.consumer,
            )
            .await
        })
        .await?;
        let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
        for reject in rejects {
            *counts.entry(reject.reason.code()).or_default() += 1;
        }
        tracing::warn!(rejected = rejects.len(), reasons = ?counts, "events refused: see the stream events:rejected");
        Ok(())
    }

    async fn clear_suspects(&self, sources: &[Source]) {
        for source in sources {
            let stream = &self.streams[source.stream as usize];
            if let Err(error) = Suspects::settled(&mut self.redis.clone(), stream, source.id).await {
                tracing::warn!(%error, id = %source.id, "a settled suspect could not be forgotten");
            }
        }
    }
}
