//! What Redis knows of entries that were delivered too often: how often they were delivered, and processed alone.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;
use stream_reply::{EntryBlock, StreamId};

use crate::stores::{Redis, StoreError, script};

use super::GROUP;
use crate::intake::caution::MOST_ATTEMPTS;

/// More deliveries than this make an entry a suspect: something may have ended its worker each time.
const MOST_DELIVERIES: u64 = 5;
/// Hash of `stream id → times processed alone`.
const ATTEMPTS_KEY: &str = "processor:suspects";
/// Pending entries asked about, and fields removed, in one command.
const PER_COMMAND: usize = 1000;
const FORGETTING: &str = "forgetting acknowledged suspects";

/// Sets the delivery count of entries that are pending for a consumer, and leaves alone what another has claimed.
const SET_BACK: &str = r"#!lua flags=allow-oom
local ours = {}
for i = 4, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
  if pending and pending[2] == ARGV[2] then ours[#ours + 1] = ARGV[i] end
end
if #ours > 0 then
  for _, option in ipairs({'RETRYCOUNT', ARGV[3], 'JUSTID'}) do ours[#ours + 1] = option end
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ours))
end";

/// Indices of a redelivered block's entries that were delivered too often.
///
/// # Errors
/// When Redis cannot be reached.
pub(super) async fn among(
    redis: &Redis,
    stream: &str,
    consumer: &str,
    block: &EntryBlock,
) -> Result<Vec<usize>, StoreError> {
    let (Some(first), Some(last)) = (block.iter().next(), block.iter().last()) else {
        return Ok(Vec::new());
    };
    let (from, to) = (first.id().to_string(), last.id().to_string());
    let counts = deliveries(redis, stream, consumer, from, &to, usize::MAX).await?;
    let suspects: FxHashSet<StreamId> = counts
        .into_iter()
        .filter(|(_, deliveries)| *deliveries > MOST_DELIVERIES)
        .map(|(id, _)| id)
        .collect();
    let entries = block.iter().enumerate();
    Ok(entries
        .filter(|(_, entry)| suspects.contains(&entry.id()))
        .map(|(index, _)| index)
        .collect())
}

/// How often entries that are pending for a consumer were delivered, of the first `most` behind `after`.
pub(super) async fn counts_behind(
    redis: &Redis,
    stream: &str,
    consumer: &str,
    after: StreamId,
    most: usize,
) -> Result<Vec<(StreamId, u64)>, StoreError> {
    deliveries(redis, stream, consumer, format!("({after}"), "+", most).await
}

/// The same from one end to the other. An id with a bracket before it is not meant itself.
async fn deliveries(
    redis: &Redis,
    stream: &str,
    consumer: &str,
    mut from: String,
    to: &str,
    most: usize,
) -> Result<Vec<(StreamId, u64)>, StoreError> {
    let mut counts = Vec::new();
    while counts.len() < most {
        let page = PER_COMMAND.min(most - counts.len());
        let mut command = redis::cmd("XPENDING");
        command.arg(&[stream, GROUP, &from, to]).arg(page).arg(consumer);
        let pending: Vec<(String, String, u64, u64)> = redis.ask("reading delivery counts", &command).await?;
        let is_last = pending.len() < page;
        for (id, _, _, deliveries) in pending {
            from = format!("({id}");
            counts.extend(id.parse().ok().map(|id| (id, deliveries)));
        }
        if is_last {
            break;
        }
    }
    Ok(counts)
}

/// Sets back how often entries were delivered, where the process that had them has them still.
pub(super) async fn set_back(
    redis: &Redis,
    stream: &str,
    consumer: &str,
    counts: &[(StreamId, u64)],
) -> Result<(), StoreError> {
    let mut by_count: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (id, deliveries) in counts {
        by_count.entry(*deliveries).or_default().push(id.to_string());
    }
    for (deliveries, ids) in by_count {
        for ids in ids.chunks(PER_COMMAND) {
            let mut command = script(SET_BACK, &[stream]);
            command.arg(GROUP).arg(consumer).arg(deliveries).arg(ids);
            redis
                .ask::<redis::Value>("setting back delivery counts", &command)
                .await?;
        }
    }
    Ok(())
}

/// Counts an attempt that is about to be made. `false` when there have been enough: the entry is to be refused.
///
/// # Errors
/// When Redis cannot be reached.
pub(super) async fn may_try(redis: &Redis, stream: &str, id: StreamId) -> Result<bool, StoreError> {
    let (during, field) = ("counting a solitary attempt", format!("{stream} {id}"));
    let attempts = redis.count_in(during, ATTEMPTS_KEY, &field).await?;
    let may_try = attempts <= MOST_ATTEMPTS;
    if may_try {
        tracing::warn!(stream, %id, attempts, "entry delivered too often: processed alone");
    } else {
        tracing::error!(stream, %id, "entry refused: the worker ended each time it was processed alone");
    }
    Ok(may_try)
}

/// Forgets those that have been acknowledged, whichever instance tried them.
///
/// # Errors
/// When Redis cannot be reached.
pub(super) async fn forget(
    redis: &Redis,
    stream: &str,
    ids: impl IntoIterator<Item = StreamId>,
) -> Result<(), StoreError> {
    let fields: Vec<String> = ids.into_iter().map(|id| format!("{stream} {id}")).collect();
    for fields in fields.chunks(PER_COMMAND) {
        let mut delete = redis::cmd("HDEL");
        delete.arg(ATTEMPTS_KEY).arg(fields);
        redis.ask::<()>(FORGETTING, &delete).await?;
    }
    Ok(())
}

/// Forgets those of these streams that no consumer has pending any more: the instance that acknowledged them could not say
/// so.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub(super) async fn forget_acknowledged(redis: &Redis, streams: &[String]) -> Result<(), StoreError> {
    let mut cursor = 0u64;
    loop {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(ATTEMPTS_KEY).arg(cursor).arg("COUNT").arg(PER_COMMAND);
        let (next, noted): (u64, Vec<(String, u64)>) = redis.ask(FORGETTING, &scan).await?;
        let ids = noted.iter().filter_map(|(field, _)| {
            let (stream, id) = field.rsplit_once(' ')?;
            let is_ours = streams.iter().any(|ours| ours == stream);
            is_ours.then_some((stream, id.parse::<StreamId>().ok()?))
        });
        let ids: Vec<(&str, StreamId)> = ids.collect();
        if !ids.is_empty() {
            let mut pipeline = redis::pipe();
            for (stream, id) in &ids {
                let id = id.to_string();
                pipeline
                    .cmd("XPENDING")
                    .arg(stream)
                    .arg(GROUP)
                    .arg(&id)
                    .arg(&id)
                    .arg(1);
            }
            let pending: Vec<Vec<redis::Value>> = redis.ask_many(FORGETTING, &pipeline).await?;
            let are_gone = ids.iter().zip(pending).filter(|(_, pending)| pending.is_empty());
            let mut by_stream: BTreeMap<&str, Vec<StreamId>> = BTreeMap::new();
            for ((stream, id), _) in are_gone {
                by_stream.entry(stream).or_default().push(*id);
            }
            for (stream, ids) in by_stream {
                forget(redis, stream, ids).await?;
            }
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}
