//! Taking over what dead consumers left behind, and telling apart what may have killed them.

use std::time::{Duration, Instant};

use stream_reply::{EntryBlock, StreamId};

use crate::stores::{RedisConnection, StoreError};

use super::GROUP;

/// When the next pass is due and where it goes on.
#[derive(Debug)]
pub(super) struct Claims {
    interval: Duration,
    idle: Duration,
    next: Instant,
    cursors: Vec<StreamId>,
}

impl Claims {
    /// Pages of one pass; the next pass goes on where it stopped.
    pub(super) const PAGES: usize = 100;

    pub(super) fn new(interval: Duration, idle: Duration) -> Self {
        Self {
            interval,
            idle,
            next: Instant::now() + interval,
            cursors: Vec::new(),
        }
    }

    pub(super) fn due(&self) -> bool {
        Instant::now() >= self.next
    }

    pub(super) fn done(&mut self) {
        self.next = Instant::now() + self.interval;
    }

    pub(super) fn idle_ms(&self) -> String {
        self.idle.as_millis().to_string()
    }

    pub(super) fn cursor(&self, stream: usize) -> StreamId {
        self.cursors.get(stream).copied().unwrap_or_default()
    }

    pub(super) fn continue_at(&mut self, stream: usize, cursor: StreamId) {
        if self.cursors.len() <= stream {
            self.cursors.resize(stream + 1, StreamId::default());
        }
        self.cursors[stream] = cursor;
    }
}

/// More deliveries than this make an entry a suspect: something may have ended its worker each time.
const MOST_DELIVERIES: u64 = 5;
/// A suspect that has been processed alone this often without being acknowledged is refused.
const MOST_SOLITARY: u64 = 3;
/// Hash of `stream id → times processed alone`.
const SOLITARY_KEY: &str = "processor:suspects";

/// Entries of a block that were delivered too often.
#[derive(Debug, Default)]
pub struct Suspects {
    /// Indices to process alone.
    pub alone: Vec<usize>,
    /// Indices to refuse: being alone did not help.
    pub refuse: Vec<usize>,
}

impl Suspects {
    /// Looks up the delivery counts of a redelivered block, and counts a solitary attempt for each suspect.
    pub(super) async fn among(
        redis: &mut RedisConnection,
        stream: &str,
        consumer: &str,
        block: &EntryBlock,
        skip: &[usize],
    ) -> Result<Self, StoreError> {
        let mut suspects = Self::default();
        let (Some(first), Some(last)) = (block.iter().next(), block.iter().last()) else {
            return Ok(suspects);
        };
        let (first, last) = (first.id(), last.id());
        let pending: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
            .arg(stream)
            .arg(GROUP)
            .arg(first.to_string())
            .arg(last.to_string())
            .arg(block.len() * 2)
            .arg(consumer)
            .query_async(redis)
            .await
            .map_err(|e| StoreError::redis("reading delivery counts", &e))?;
        for (id, _, _, deliveries) in pending {
            if deliveries <= MOST_DELIVERIES {
                continue;
            }
            let Some(index) = block.iter().position(|e| e.id().to_string() == id) else {
                continue;
            };
            if skip.contains(&index) {
                continue;
            }
            let attempts: u64 = redis::cmd("HINCRBY")
                .arg(SOLITARY_KEY)
                .arg(format!("{stream} {id}"))
                .arg(1)
                .query_async(redis)
                .await
                .map_err(|e| StoreError::redis("counting a solitary attempt", &e))?;
            tracing::warn!(
                stream,
                id,
                deliveries,
                attempts,
                "entry delivered too often: processed alone"
            );
            if attempts > MOST_SOLITARY {
                suspects.refuse.push(index);
            } else {
                suspects.alone.push(index);
            }
        }
        Ok(suspects)
    }

    /// Whether the block holds any.
    pub fn is_empty(&self) -> bool {
        self.alone.is_empty() && self.refuse.is_empty()
    }

    /// Forgets suspects that have been settled.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn settled(redis: &mut RedisConnection, stream: &str, id: StreamId) -> Result<(), StoreError> {
        redis::cmd("HDEL")
            .arg(SOLITARY_KEY)
            .arg(format!("{stream} {id}"))
            .query_async(redis)
            .await
            .map_err(|e| StoreError::redis("forgetting a settled suspect", &e))
    }
}
