//! Telling apart what may have ended workers: an entry that was delivered too often is processed alone, and refused when
//! being alone does not help.
//!
//! An attempt is counted right before an entry is processed, while nothing else is on its way. A worker that ends then
//! was ended by this entry or from outside; no other entry is blamed for it.

use stream_reply::{EntryBlock, StreamId};

use crate::stores::{RedisConnection, StoreError, count_in};

use super::GROUP;

/// More deliveries than this make an entry a suspect: something may have ended its worker each time.
const MOST_DELIVERIES: u64 = 5;
/// A suspect that has been processed alone this often without being acknowledged is refused.
const MOST_ATTEMPTS: u64 = 3;
/// Hash of `stream id → times processed alone`.
const ATTEMPTS_KEY: &str = "processor:suspects";

/// Indices of a redelivered block's entries that were delivered too often.
///
/// # Errors
/// When Redis cannot be reached.
pub(super) async fn among(
    redis: &mut RedisConnection,
    stream: &str,
    consumer: &str,
    block: &EntryBlock,
) -> Result<Vec<usize>, StoreError> {
    let (Some(first), Some(last)) = (block.iter().next(), block.iter().last()) else {
        return Ok(Vec::new());
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
    let too_often = pending
        .into_iter()
        .filter(|(_, _, _, deliveries)| *deliveries > MOST_DELIVERIES);
    let ids: rustc_hash::FxHashSet<String> = too_often.map(|(id, ..)| id).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let entries = block.iter().enumerate();
    Ok(entries
        .filter(|(_, entry)| ids.contains(&entry.id().to_string()))
        .map(|(index, _)| index)
        .collect())
}

/// Counts an attempt that is about to be made. `false` when there have been enough: the entry is to be refused.
///
/// # Errors
/// When Redis cannot be reached.
pub async fn may_try(redis: &mut RedisConnection, stream: &str, id: StreamId) -> Result<bool, StoreError> {
    let attempts = count_in(redis, ATTEMPTS_KEY, &format!("{stream} {id}"))
        .await
        .map_err(|e| StoreError::redis("counting a solitary attempt", &e))?;
    let may_try = attempts <= MOST_ATTEMPTS;
    if may_try {
        tracing::warn!(stream, %id, attempts, "entry delivered too often: processed alone");
    } else {
        tracing::error!(stream, %id, "entry refused: the worker ended each time it was processed alone");
    }
    Ok(may_try)
}

/// Forgets one that has been settled.
///
/// # Errors
/// When Redis cannot be reached.
pub async fn settled(redis: &mut RedisConnection, stream: &str, id: StreamId) -> Result<(), StoreError> {
    redis::cmd("HDEL")
        .arg(ATTEMPTS_KEY)
        .arg(format!("{stream} {id}"))
        .query_async(redis)
        .await
        .map_err(|e| StoreError::redis("forgetting a settled suspect", &e))
}
