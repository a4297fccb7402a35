//! The end of an entry: `XACK`, the ledger lets go, the stream is trimmed. Only ever after everything is durable. And what
//! is asked of Redis on the way there.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use stream_reply::StreamId;

use crate::event::Source;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::task::Task;
use crate::stores::{Redis, StoreError};

use super::GROUP;
use super::suspects;
use super::trim::Trimmer;
use crate::intake::ledger::Ledger;

/// Ids in one `XACK`.
const IDS_PER_COMMAND: usize = 2000;

/// What the pipeline asks of the streams once it has entries: whether it may try one, whether one is pending, and letting go
/// of them. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Intake {
    redis: Redis,
    streams: Arc<[String]>,
    ledger: Arc<Ledger>,
    /// `None` when trimming is off.
    trimmer: Option<Arc<Trimmer>>,
}

impl Intake {
    /// For these streams, in the ledger's order.
    pub(crate) fn new(redis: Redis, streams: Arc<[String]>, ledger: Arc<Ledger>, trim: bool) -> Self {
        Self {
            redis,
            streams,
            ledger,
            trimmer: trim.then(Arc::default),
        }
    }

    /// Acknowledges, repeating for as long as it takes: what is settled is never settled a second time because of a
    /// failed acknowledgement. What has become another's is let go of only. Returns how many entries that were.
    ///
    /// # Errors
    /// [`GaveUp`] at the drain's limit; the entries then stay pending.
    pub(crate) async fn acknowledge(
        &self,
        sources: &[Source],
        task: &Task,
    ) -> Result<usize, GaveUp<StoreError>> {
        let lost = self.ledger.lost_among(sources);
        let ours: Vec<Source> = if lost.is_empty() {
            sources.to_vec()
        } else {
            let lost: FxHashSet<Source> = lost.into_iter().collect();
            sources
                .iter()
                .filter(|source| !lost.contains(source))
                .copied()
                .collect()
        };
        task.retry(retry::REDIS, || self.send(&ours, task)).await?;
        self.ledger.release(sources.iter().copied());
        if let Some(trimmer) = &self.trimmer {
            trimmer.trim(&self.redis, &self.streams).await;
        }
        Ok(sources.len() - ours.len())
    }

    /// Counts an attempt to process an entry alone that is about to be made. `false` when there have been enough: the entry
    /// is to be refused.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub(crate) async fn may_try(&self, stream: &str, id: StreamId) -> Result<bool, StoreError> {
        suspects::may_try(&self.redis, stream, id).await
    }

    /// Forgets that entries were under suspicion: they have reached their end.
    pub(crate) async fn forget_suspects(&self, sources: &[Source]) {
        for (index, stream) in self.streams.iter().enumerate() {
            let ids = sources
                .iter()
                .filter(|s| s.stream as usize == index)
                .map(|s| s.id);
            if let Err(error) = suspects::forget(&self.redis, stream, ids).await {
                tracing::warn!(%error, "acknowledged suspects could not be forgotten");
            }
        }
    }

    async fn send(&self, sources: &[Source], task: &Task) -> Result<(), StoreError> {
        for (index, stream) in self.streams.iter().enumerate() {
            let ids: Vec<String> = sources
                .iter()
                .filter(|s| s.stream as usize == index)
                .map(|s| s.id.to_string())
                .collect();
            for ids in ids.chunks(IDS_PER_COMMAND) {
                task.pulse.alive_for(retry::REDIS.attempt_limit);
                let mut command = redis::cmd("XACK");
                command.arg(stream).arg(GROUP).arg(ids);
                match self.redis.ask::<u64>("acknowledging", &command).await {
                    // The group is gone and its pending list with it: there is nothing left to acknowledge.
                    Err(error) if error.is_no_group() => {}
                    Err(error) => return Err(error),
                    Ok(_) => {}
                }
            }
        }
        Ok(())
    }
}
