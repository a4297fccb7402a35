//! The end of an entry: `XACK`, the ledger lets go, the stream is trimmed. Only ever after everything is durable. And what
//! is asked of Redis on the way there.

use std::fmt::Write;
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
/// `XACK`s on their way at a time: each waits behind the reads, and readers behind all of them.
const COMMANDS_AT_ONCE: usize = 4;
/// Of an id as servers make them; a longer one takes its place all the same.
const BYTES_OF_AN_ID: usize = 24;

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
        if let [_] = &*self.streams {
            self.settle(0, sources, &ours, 0, task).await?;
        } else {
            self.settle_each(sources, &ours, task).await?;
        }
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

    /// Each stream for itself: on a cluster one's server may be away, and the others' entries are let go of. Those of a
    /// stream that cannot be acknowledged soon are held on to, and acknowledged when its server is back.
    async fn settle_each(
        &self,
        sources: &[Source],
        ours: &[Source],
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        let soon = task.within_presets();
        let all = 0..self.streams.len() as u16;
        let each = all.map(|index| self.settle(index, sources, ours, 0, &soon));
        for (index, settled) in futures::future::join_all(each).await.into_iter().enumerate() {
            match settled {
                Ok(()) => {}
                Err(GaveUp::Away(error)) => {
                    let stream = &self.streams[index];
                    tracing::warn!(stream, %error, "entries that have landed are acknowledged once their stream's server is back");
                    let (intake, task) = (self.clone(), task.clone());
                    let (sources, ours) = (sources.to_vec(), ours.to_vec());
                    tokio::spawn(async move {
                        let failures = retry::REDIS.attempts;
                        let index = index as u16;
                        let _pending = intake.settle(index, &sources, &ours, failures, &task).await;
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Acknowledges what is ours of a stream, and lets go of all of it. `failures` are those before, by which Redis may
    /// count as away.
    async fn settle(
        &self,
        index: u16,
        sources: &[Source],
        ours: &[Source],
        failures: u32,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        let of_stream = |sources: &[Source]| -> Vec<Source> {
            let of_stream = sources.iter().filter(|source| source.stream == index);
            of_stream.copied().collect()
        };
        let (all, ours) = (of_stream(sources), of_stream(ours));
        if all.is_empty() {
            return Ok(());
        }
        let stream = &self.streams[index as usize];
        let send = || self.send(stream, &ours, task);
        task.retry_in_goes(failures, retry::REDIS, |()| true, send)
            .await?;
        self.ledger.release(all.into_iter());
        Ok(())
    }

    async fn send(&self, stream: &str, sources: &[Source], task: &Task) -> Result<(), StoreError> {
        for together in sources.chunks(IDS_PER_COMMAND * COMMANDS_AT_ONCE) {
            let commands = together.chunks(IDS_PER_COMMAND);
            let commands = commands.map(|sources| self.send_one(stream, sources, task));
            futures::future::try_join_all(commands).await?;
        }
        Ok(())
    }

    async fn send_one(&self, stream: &str, sources: &[Source], task: &Task) -> Result<(), StoreError> {
        task.pulse.alive_for(retry::REDIS.attempt_limit);
        let command = acknowledging(stream, sources);
        match self.redis.ask::<u64>("acknowledging", &command).await {
            // The group is gone and its pending list with it: there is nothing left to acknowledge.
            Err(error) if error.is_no_group() => {}
            Err(error) => return Err(error),
            // What is not pending there was read somewhere else: before a master was lost, or where a slot was going to.
            Ok(0) if self.redis.is_cluster() => tracing::warn!(
                stream,
                entries = sources.len(),
                "entries that have landed were not pending where they were acknowledged; should they come back with another \
                 copy of the stream, they are recognised"
            ),
            Ok(_) => {}
        }
        Ok(())
    }
}

/// One command for these entries. Their ids are written into it without a text of its own for each.
fn acknowledging(stream: &str, sources: &[Source]) -> redis::Cmd {
    let words = sources.len() + 3;
    let mut command = redis::Cmd::with_capacity(words, words * BYTES_OF_AN_ID);
    command.arg("XACK").arg(stream).arg(GROUP);
    let mut id = String::with_capacity(BYTES_OF_AN_ID);
    for source in sources {
        id.clear();
        // Writing to a string cannot fail.
        let _written = write!(id, "{}", source.id);
        command.arg(id.as_str());
    }
    command
}
