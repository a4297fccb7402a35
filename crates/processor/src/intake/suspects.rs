//! Telling apart what may have ended workers: entries that were delivered too often are processed apart from everything
//! else, and one that ends the worker each time it is processed alone is refused.
//!
//! Most suspects are innocent: a rolling restart during an outage makes one of every entry that was held. So a process
//! begins with the first of them alone, and takes twice as many together each time what it took has landed. Should it be
//! ended by one of them, those before are gone, and its successor begins anew with the first that is left: each end halves
//! at least how far away the one at fault can be, until it is the first, and alone.
//!
//! A solitary attempt is counted right before it is made, while nothing else is on its way. A worker that ends then was
//! ended by this entry or from outside; no other entry is blamed for it.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;
use stream_reply::{EntryBlock, StreamId};

use crate::stores::{RedisConnection, StoreError, count_in};

use super::GROUP;

/// More deliveries than this make an entry a suspect: something may have ended its worker each time.
const MOST_DELIVERIES: u64 = 5;
/// A suspect that has been processed alone this often without being acknowledged is refused.
const MOST_ATTEMPTS: u64 = 3;
/// Hash of `stream id → times processed alone`.
const ATTEMPTS_KEY: &str = "processor:suspects";
/// Pending entries asked about, and fields removed, in one command.
const PER_COMMAND: usize = 1000;

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

/// How many suspects a process tries together. Lasts as long as the process does: its end is what makes it careful again.
#[derive(Debug)]
pub struct Caution {
    together: usize,
}

impl Default for Caution {
    fn default() -> Self {
        Self { together: 1 }
    }
}

impl Caution {
    /// Splits off those that are tried next, of entries that are to be tried in this order.
    pub fn next<'a>(&self, waiting: &'a [usize]) -> (&'a [usize], &'a [usize]) {
        waiting.split_at(self.together.min(waiting.len()))
    }

    /// What was tried has ended nobody.
    pub fn landed(&mut self) {
        self.together = self.together.saturating_mul(2);
    }
}

/// Indices of what is to be processed apart of a block with `suspects`: everything from the first of them to the last,
/// for nothing may overtake what stands before it in the stream. `skip` are not to be processed at all. Both ascend.
pub fn apart(suspects: &[usize], skip: &[usize]) -> Vec<usize> {
    let (Some(&first), Some(&last)) = (suspects.first(), suspects.last()) else {
        return Vec::new();
    };
    (first..=last)
        .filter(|i| skip.binary_search(i).is_err())
        .collect()
}

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
    redis: &mut RedisConnection,
    stream: &str,
    consumer: &str,
    after: StreamId,
    most: usize,
) -> Result<Vec<(StreamId, u64)>, StoreError> {
    deliveries(redis, stream, consumer, format!("({after}"), "+", most).await
}

/// The same from one end to the other. An id with a bracket before it is not meant itself.
async fn deliveries(
    redis: &mut RedisConnection,
    stream: &str,
    consumer: &str,
    mut from: String,
    to: &str,
    most: usize,
) -> Result<Vec<(StreamId, u64)>, StoreError> {
    let mut counts = Vec::new();
    while counts.len() < most {
        let page = PER_COMMAND.min(most - counts.len());
        let pending: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
            .arg(stream)
            .arg(GROUP)
            .arg(&from)
            .arg(to)
            .arg(page)
            .arg(consumer)
            .query_async(redis)
            .await
            .map_err(|e| StoreError::redis("reading delivery counts", &e))?;
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
    redis: &mut RedisConnection,
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
            redis::cmd("EVAL")
                .arg(SET_BACK)
                .arg(1)
                .arg(stream)
                .arg(GROUP)
                .arg(consumer)
                .arg(deliveries)
                .arg(ids)
                .query_async::<redis::Value>(redis)
                .await
                .map_err(|e| StoreError::redis("setting back delivery counts", &e))?;
        }
    }
    Ok(())
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

/// Forgets those that have been settled, whoever tried them.
///
/// # Errors
/// When Redis cannot be reached.
pub async fn settled(
    redis: &mut RedisConnection,
    stream: &str,
    ids: impl IntoIterator<Item = StreamId>,
) -> Result<(), StoreError> {
    let fields: Vec<String> = ids.into_iter().map(|id| format!("{stream} {id}")).collect();
    for fields in fields.chunks(PER_COMMAND) {
        redis::cmd("HDEL")
            .arg(ATTEMPTS_KEY)
            .arg(fields)
            .query_async::<()>(redis)
            .await
            .map_err(|e| StoreError::redis("forgetting settled suspects", &e))?;
    }
    Ok(())
}

/// Forgets those of these streams that nobody has pending any more: whoever settled them could not say so.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub(super) async fn forget_settled(
    redis: &mut RedisConnection,
    streams: &[String],
) -> Result<(), StoreError> {
    let failed = |e: redis::RedisError| StoreError::redis("forgetting settled suspects", &e);
    let mut cursor = 0u64;
    loop {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(ATTEMPTS_KEY).arg(cursor).arg("COUNT").arg(PER_COMMAND);
        let (next, noted): (u64, Vec<(String, u64)>) = scan.query_async(redis).await.map_err(failed)?;
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
            let pending: Vec<Vec<redis::Value>> = pipeline.query_async(redis).await.map_err(failed)?;
            let is_settled = ids.iter().zip(pending).filter(|(_, pending)| pending.is_empty());
            let mut by_stream: BTreeMap<&str, Vec<StreamId>> = BTreeMap::new();
            for ((stream, id), _) in is_settled {
                by_stream.entry(stream).or_default().push(*id);
            }
            for (stream, ids) in by_stream {
                settled(redis, stream, ids).await?;
            }
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left in the stream, and what became of the rest.
    #[derive(Default)]
    struct Story {
        left: Vec<usize>,
        attempts: BTreeMap<usize, u64>,
        landed: Vec<usize>,
        refused: Vec<usize>,
        ends: u32,
        batches: u32,
    }

    impl Story {
        /// Processes come and go until nothing is left; whoever processes one of `guilty` ends. All of a process's
        /// entries come in blocks.
        fn of(entries: usize, block: usize, guilty: &[usize]) -> Self {
            let mut story = Self {
                left: (0..entries).collect(),
                ..Self::default()
            };
            while !story.left.is_empty() {
                if story.process(block, guilty).is_none() {
                    story.ends += 1;
                    assert!(story.ends < 1000, "no progress: {} left", story.left.len());
                }
            }
            story
        }

        fn process(&mut self, block: usize, guilty: &[usize]) -> Option<()> {
            let mut caution = Caution::default();
            for block in self.left.clone().chunks(block) {
                let mut waiting = block;
                while !waiting.is_empty() {
                    let (group, rest) = caution.next(waiting);
                    waiting = rest;
                    self.batches += 1;
                    let is_refused = group.len() == 1 && {
                        let attempts = self.attempts.entry(group[0]).or_default();
                        *attempts += 1;
                        *attempts > MOST_ATTEMPTS
                    };
                    if is_refused {
                        self.refused.extend(group);
                    } else if group.iter().any(|entry| guilty.contains(entry)) {
                        return None;
                    } else {
                        self.landed.extend(group);
                    }
                    caution.landed();
                    self.left.drain(..group.len());
                }
            }
            Some(())
        }
    }

    #[test]
    fn innocent_suspects_land_in_few_groups_and_in_order() {
        for (entries, block, most) in [(1, 500, 1), (500, 500, 9), (20_000, 500, 48), (20_000, 30, 672)] {
            let story = Story::of(entries, block, &[]);
            assert_eq!(story.landed, (0..entries).collect::<Vec<_>>());
            assert_eq!((story.ends, story.refused.len()), (0, 0));
            assert!(story.batches <= most, "{} groups of {entries}", story.batches);
        }
    }

    #[test]
    fn a_guilty_one_is_found_by_halving_wherever_it_is() {
        for entries in [1_usize, 2, 3, 30, 500, 2_000] {
            for guilty in (0..entries).step_by(entries.div_ceil(100)) {
                let story = Story::of(entries, 500, &[guilty]);
                assert_eq!(story.refused, [guilty], "of {entries}");
                let others: Vec<usize> = (0..entries).filter(|n| *n != guilty).collect();
                assert_eq!(story.landed, others);
                let most = entries.ilog2() + 1 + MOST_ATTEMPTS as u32;
                assert!(story.ends <= most, "{guilty} of {entries}: {} ends", story.ends);
            }
        }
    }

    #[test]
    fn several_guilty_ones_are_found_one_after_another() {
        let guilty = [0, 1, 400, 401, 999];
        let story = Story::of(1_000, 300, &guilty);
        assert_eq!(story.refused, guilty);
        assert_eq!(story.landed.len(), 995);
        assert!(
            story.ends <= 5 * (10 + MOST_ATTEMPTS as u32),
            "{} ends",
            story.ends
        );
    }

    #[test]
    fn what_stands_between_suspects_goes_with_them_and_what_is_held_does_not() {
        assert_eq!(apart(&[2, 5], &[0, 3, 7]), [2, 4, 5]);
        assert_eq!(apart(&[4], &[]), [4]);
        assert_eq!(apart(&[], &[1]), Vec::<usize>::new());
    }
}
