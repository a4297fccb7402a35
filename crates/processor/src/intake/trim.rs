//! Takes consumed entries off the stream: acknowledging does not shorten it, and ingest refuses when it is long.
//!
//! Only entries that every group of the stream has read and acknowledged go, and the newest consumed ones of the stream stay,
//! whichever instances consumed them. How many stand between two entries is known from marks in Redis: reads leave the
//! group's place with its position there. So the script that trims looks at some marks, not at entries. A pass of its own
//! on a stream gone quiet may walk over those that stay, at most every 20 s, where marks are too far apart.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::stores::{RedisConnection, StoreError};

use super::GROUP;
use super::continuity::marks_key;

/// Consumed entries that stay for people to look at.
const KEPT: u64 = 10_000;
/// Marks this far apart are near enough.
const SLACK: u64 = 500;
/// Entries that one call takes off at most: the server does nothing else meanwhile.
const AT_ONCE: u64 = 50_000;
/// A trim at most this often: it is one cheap script, but needs no hurry either.
const INTERVAL: Duration = Duration::from_millis(200);

/// `KEYS`: the stream, its marks, what says that entries were walked over just now. `ARGV`: the group, how many stay, how far apart marks may be, how many go at once,
/// whether to walk. Returns how many entries went.
///
/// Whatever marks say, nothing goes that some group has not read or not acknowledged.
const TRIM: &str = r"#!lua flags=allow-oom
local function padded(id)
  local ms, seq = id:match('^(%d+)-(%d+)$')
  return ('0'):rep(20 - #ms) .. ms .. '-' .. ('0'):rep(20 - #seq) .. seq
end
local function plain(padded)
  local ms, seq = padded:match('^0*(%d+)-0*(%d+)')
  return ms .. '-' .. seq
end
local function number(mark) return tonumber(mark:match(':(%d+)$')) end
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err or #groups == 0 then return 0 end
local needed
local function need(id)
  id = padded(id)
  if not needed or id < needed then needed = id end
end
for _, fields in ipairs(groups) do
  local g = {}
  for i = 1, #fields, 2 do g[fields[i]] = fields[i + 1] end
  need(g['last-delivered-id'])
  if g['pending'] > 0 then need(redis.call('XPENDING', KEYS[1], g['name'])[2]) end
end
local keep, walks = tonumber(ARGV[2]), ARGV[5] == '1'
local marks = redis.pcall('ZREVRANGEBYLEX', KEYS[2], '[' .. needed .. ':~', '-', 'LIMIT', 0, 1000)
if marks.err then marks = {} end
local target, below, above
if marks[1] then
  target = number(marks[1]) - keep
  if target <= 0 then return 0 end
  for _, mark in ipairs(marks) do
    if number(mark) <= target then below = mark break end
    above = mark
  end
end
local limit = below
if walks and (not below or target - number(below) > tonumber(ARGV[3]))
  and redis.call('SET', KEYS[3], '1', 'NX', 'EX', 20) then
  -- Back from the mark above, or from the end of what is consumed: as many as stay.
  local from, left = needed, keep
  if above and number(above) - target < keep then from, left = above, number(above) - target end
  from, limit = plain(from), nil
  while left > 0 do
    local page = redis.call('XREVRANGE', KEYS[1], from, '-', 'COUNT', math.min(left, 100))
    if #page == 0 then return 0 end
    left, limit = left - #page, padded(page[#page][1])
    from = '(' .. page[#page][1]
  end
  if target then redis.call('ZADD', KEYS[2], 0, limit .. ':' .. string.format('%.0f', target)) end
end
if not limit then return 0 end
limit = limit:sub(1, 41)
if needed < limit then limit = needed end
redis.call('ZREMRANGEBYLEX', KEYS[2], '-', '(' .. limit)
return redis.call('XTRIM', KEYS[1], 'MINID', '~', plain(limit), 'LIMIT', ARGV[4])";

/// Trims as batches are acknowledged.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    last: Mutex<Option<Instant>>,
}

impl Trimmer {
    /// Trims these streams, unless that was done just now. Failing to is a warning: the next batch trims further.
    pub(super) async fn trim(&self, redis: &RedisConnection, streams: &[String]) {
        if !self.is_due() {
            return;
        }
        for stream in streams {
            trim_or_warn(redis, stream, false).await;
        }
    }

    fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= INTERVAL);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// Trims one stream. `walks` says that entries may be looked at where marks are too far apart.
pub(super) async fn trim_or_warn(redis: &RedisConnection, stream: &str, walks: bool) {
    match trim(&mut redis.clone(), stream, walks).await {
        Ok(0) => {}
        Ok(removed) => tracing::debug!(stream, removed, "consumed entries trimmed"),
        Err(error) => tracing::warn!(stream, %error, "consumed entries could not be trimmed"),
    }
}

async fn trim(redis: &mut RedisConnection, stream: &str, walks: bool) -> Result<u64, StoreError> {
    let mut command = redis::cmd("EVAL");
    let marks = marks_key(stream);
    command.arg(TRIM).arg(3).arg(stream);
    command.arg(&marks).arg(format!("{marks}:walked"));
    command.arg(GROUP).arg(KEPT).arg(SLACK).arg(AT_ONCE);
    command.arg(u8::from(walks));
    command
        .query_async(redis)
        .await
        .map_err(|e| StoreError::redis("trimming consumed entries", &e))
}
