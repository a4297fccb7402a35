//! The end of an entry: `XACK`, the ledger lets go, the stream is trimmed. Only ever after everything is durable.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::event::Source;
use crate::runtime::metrics;
use crate::runtime::pulse::Pulse;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::shutdown::Shutdown;
use crate::stores::{RedisConnection, Store, StoreError};

use super::trim::{self, Trimmer};
use super::{GROUP, Ledger};

/// Ids in one `XACK`.
const IDS_PER_COMMAND: usize = 2000;

/// Acknowledges settled entries. Cloning shares it.
#[derive(Clone)]
pub struct Acknowledger {
    redis: RedisConnection,
    streams: Arc<[String]>,
    ledger: Arc<Ledger>,
    /// One per stream; `None` when trimming is off.
    trimmers: Option<Arc<Mutex<Vec<Trimmer>>>>,
}

impl Acknowledger {
    /// For these streams, in the ledger's order.
    pub fn new(redis: RedisConnection, streams: Arc<[String]>, ledger: Arc<Ledger>, trim: bool) -> Self {
        let trimmers =
            trim.then(|| Arc::new(Mutex::new(streams.iter().map(|_| Trimmer::default()).collect())));
        Self {
            redis,
            streams,
            ledger,
            trimmers,
        }
    }

    /// Acknowledges, repeating for as long as it takes: what is settled is never settled a second time because of a
    /// failed acknowledgement.
    ///
    /// # Errors
    /// [`GaveUp`] at the drain's limit; the entries then stay pending.
    pub async fn acknowledge(
        &self,
        sources: &[Source],
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<(), GaveUp<StoreError>> {
        retry::persist(retry::REDIS, pulse, shutdown, || {
            metrics::timed(Store::Redis, self.send(sources, pulse))
        })
        .await?;
        self.ledger.release(sources.iter().copied());
        self.trim(sources).await;
        Ok(())
    }

    async fn send(&self, sources: &[Source], pulse: &Pulse) -> Result<(), StoreError> {
        let mut redis = self.redis.clone();
        for (index, stream) in self.streams.iter().enumerate() {
            let ids: Vec<String> = sources
                .iter()
                .filter(|s| s.stream as usize == index)
                .map(|s| s.id.to_string())
                .collect();
            for ids in ids.chunks(IDS_PER_COMMAND) {
                pulse.alive_for(retry::REDIS.attempt_limit);
                let acknowledged: redis::RedisResult<u64> = redis::cmd("XACK")
                    .arg(stream)
                    .arg(GROUP)
                    .arg(ids)
                    .query_async(&mut redis)
                    .await;
                match acknowledged {
                    Ok(_) => {}
                    // The group is gone and its pending list with it: there is nothing left to acknowledge.
                    Err(error) if error.code() == Some("NOGROUP") => {}
                    Err(error) => return Err(StoreError::redis("acknowledging", &error)),
                }
            }
        }
        Ok(())
    }

    /// Failing to trim is a warning: the next batch trims further.
    async fn trim(&self, sources: &[Source]) {
        let Some(trimmers) = &self.trimmers else { return };
        let mut trimmers = trimmers.lock().await;
        for (index, (trimmer, stream)) in trimmers.iter_mut().zip(self.streams.iter()).enumerate() {
            let ids = || {
                sources
                    .iter()
                    .filter(|s| s.stream as usize == index && !s.redelivered)
                    .map(|s| s.id)
            };
            if let Some(first) = ids().min() {
                trimmer.acknowledged(first, ids().count() as u64);
            }
            let Some(limit) = trimmer.due() else { continue };
            match trim::trim(&mut self.redis.clone(), stream, limit).await {
                Ok(removed) => tracing::debug!(stream, removed, "consumed entries trimmed"),
                Err(error) => tracing::warn!(stream, %error, "consumed entries could not be trimmed"),
            }
        }
    }
}
