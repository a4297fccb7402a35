//! Takes consumed entries off the stream: acknowledging does not shorten it, and ingest refuses when it is long.
//!
//! Only entries that every group of the stream has read and acknowledged go, and the newest consumed ones of the stream
//! stay, whichever instances consumed them. How many stand between two entries is known from marks in Redis: reads leave
//! the group's place with its position there. So the script that trims looks at some marks, not at entries, which may have
//! megabytes each and would keep the server from everything else. Where no group needs any entry, the stream's length
//! says how many go, with marks or without.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::stores::{Redis, StoreError, script};

use super::GROUP;
use super::continuity::marks_key;

/// Consumed entries that stay for people to look at.
pub(crate) const KEPT: u64 = 10_000;
/// Entries that one call takes off at most: the server does nothing else meanwhile.
const AT_ONCE: u64 = 50_000;
/// A trim at most this often: it is one cheap script, but needs no hurry either.
const INTERVAL: Duration = Duration::from_millis(200);

/// `KEYS`: the stream, its marks. `ARGV`: the group, how many stay, how many go at once. Returns how many entries went.
///
/// Whatever marks and counters say, nothing goes that some group has not read or not acknowledged: where something is
/// needed, its id is the limit, and that nothing is needed is seen by there being nothing behind what all have read.
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
local is_ours, all_consumed = false, true
for _, fields in ipairs(groups) do
  local g = {}
  for i = 1, #fields, 2 do g[fields[i]] = fields[i + 1] end
  is_ours = is_ours or g['name'] == ARGV[1]
  need(g['last-delivered-id'])
  if g['pending'] > 0 then need(redis.call('XPENDING', KEYS[1], g['name'])[2]) end
  all_consumed = all_consumed and g['pending'] == 0 and (tonumber(g['lag'] or nil) or 0) == 0
end
-- Without our group nobody knows what is unread.
if not is_ours then return 0 end
local keep = tonumber(ARGV[2])
local marks = redis.pcall('ZREVRANGEBYLEX', KEYS[2], '[' .. needed .. ':~', '-', 'LIMIT', 0, 1000)
if marks.err then marks = {} end
local limit
if marks[1] then
  local target = number(marks[1]) - keep
  for _, mark in ipairs(marks) do
    if number(mark) <= target then limit = mark:sub(1, 41) break end
  end
end
if limit then redis.call('ZREMRANGEBYLEX', KEYS[2], '-', '(' .. limit) end
if all_consumed then
  local behind = redis.pcall('XRANGE', KEYS[1], '(' .. plain(needed), '+', 'COUNT', 1)
  if not behind.err and #behind == 0 then
    return redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', keep, 'LIMIT', ARGV[3])
  end
end
if not limit then return 0 end
if needed < limit then limit = needed end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', plain(limit), 'LIMIT', ARGV[3])";

/// Trims as batches are acknowledged.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    last: Mutex<Option<Instant>>,
}

impl Trimmer {
    /// Trims these streams, unless that was done just now. Failing to is a warning: the next batch trims further.
    pub(super) async fn trim(&self, redis: &Redis, streams: &[String]) {
        if !self.is_due() {
            return;
        }
        for stream in streams {
            trim_or_warn(redis, stream).await;
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

/// Trims one stream.
pub(super) async fn trim_or_warn(redis: &Redis, stream: &str) {
    match trim(redis, stream).await {
        Ok(0) => {}
        Ok(removed) => tracing::debug!(stream, removed, "consumed entries trimmed"),
        Err(error) => tracing::warn!(stream, %error, "consumed entries could not be trimmed"),
    }
}

async fn trim(redis: &Redis, stream: &str) -> Result<u64, StoreError> {
    let mut command = script(TRIM, &[stream, &marks_key(stream)]);
    command.arg(GROUP).arg(KEPT).arg(AT_ONCE);
    redis.ask("trimming consumed entries", &command).await
}
