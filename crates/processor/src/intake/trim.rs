//! Takes consumed entries off the stream: acknowledging does not shorten it, and ingest refuses when it is long.
//!
//! Only entries that every group of the stream has read and acknowledged go, and the newest consumed ones are kept.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stream_reply::StreamId;

use crate::stores::{RedisConnection, StoreError};

/// Consumed entries that stay for people to look at.
const KEPT: u64 = 10_000;
/// A trim at most this often: it is one cheap script, but needs no hurry either.
const INTERVAL: Duration = Duration::from_millis(200);

/// Trims below `ARGV[1]`, but never an entry that some group has not read or not acknowledged. Ids are compared as
/// number pairs. `LIMIT 0` lifts the server's own bound of ten thousand a call. Returns how many entries went.
const TRIM: &str = r"
local function less(a, b)
  local am, as = a:match('(%d+)-(%d+)')
  local bm, bs = b:match('(%d+)-(%d+)')
  if #am ~= #bm then return #am < #bm end
  if am ~= bm then return am < bm end
  if #as ~= #bs then return #as < #bs end
  return as < bs
end
local limit = ARGV[1]
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local g = {}
  for i = 1, #fields, 2 do g[fields[i]] = fields[i + 1] end
  if less(g['last-delivered-id'], limit) then limit = g['last-delivered-id'] end
  if g['pending'] > 0 then
    local pending = redis.call('XPENDING', KEYS[1], g['name'])
    if pending[2] and less(pending[2], limit) then limit = pending[2] end
  end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', limit, 'LIMIT', 0)";

/// Trims one stream as batches are acknowledged.
#[derive(Debug, Default)]
pub struct Trimmer {
    /// First id of an acknowledged batch, and how many entries had been acknowledged before it.
    marks: VecDeque<(StreamId, u64)>,
    acknowledged: u64,
    last: Option<Instant>,
}

impl Trimmer {
    /// Notes an acknowledged batch of one stream.
    pub fn acknowledged(&mut self, first: StreamId, entries: u64) {
        self.marks.push_back((first, self.acknowledged));
        self.acknowledged += entries;
    }

    /// The newest id below which everything may go as far as we know: at least `KEPT` entries were acknowledged
    /// since. `None` when there is none or the last trim was just now.
    pub fn due(&mut self) -> Option<StreamId> {
        if self.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return None;
        }
        let keep_from = self.acknowledged.checked_sub(KEPT)?;
        let mut limit = None;
        while self.marks.front().is_some_and(|(_, before)| *before <= keep_from) {
            limit = self.marks.pop_front().map(|(id, _)| id);
        }
        if limit.is_some() {
            self.last = Some(Instant::now());
        }
        limit
    }
}

/// Trims `stream` below `limit` as far as no group still needs it.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub(super) async fn trim(
    redis: &mut RedisConnection,
    stream: &str,
    limit: StreamId,
) -> Result<u64, StoreError> {
    redis::Script::new(TRIM)
        .key(stream)
        .arg(limit.to_string())
        .invoke_async(redis)
        .await
        .map_err(|e| StoreError::redis("trimming consumed entries", &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId { ms, seq: 0 }
    }

    #[test]
    fn the_newest_consumed_entries_are_kept() {
        let mut trimmer = Trimmer::default();
        for batch in 0..20 {
            trimmer.acknowledged(id(batch * 1000), 1000);
        }
        // 20,000 acknowledged: the batch that began after 10,000 is the newest that may be the limit.
        assert_eq!(trimmer.due(), Some(id(10_000)));
        assert_eq!(trimmer.due(), None, "not again at once");
    }

    #[test]
    fn nothing_goes_before_enough_is_consumed() {
        let mut trimmer = Trimmer::default();
        trimmer.acknowledged(id(1), KEPT - 1);
        assert_eq!(trimmer.due(), None);
    }
}
