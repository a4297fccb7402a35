//! Whether what the group gives out as new can have been delivered before.
//!
//! A group gives each entry out once, as long as it remembers. It does not when it was made again, or when the server is an
//! older copy of itself: a replica that was promoted, a restored file. So each look at a group, which travels with the read
//! that follows it, compares three things with what was noted in Redis and with what this process has seen: the group is
//! there, its place in the stream has not gone back, and the server is the one of before. Where one of them is not so,
//! every entry that is in the stream by then is doubtful: its row is looked up before it is inserted. What comes later is
//! new.
//!
//! The note is shared, and written in the same step in which the group is made, so no instance can be given an entry of the
//! new group without seeing it.

use stream_reply::{SimpleReply, StreamId};

use crate::metrics;
use crate::stores::{Redis, Store, StoreError};

use super::GROUP;
use crate::intake::ledger::Ledger;

/// Looks at a stream's group, makes it where it is missing, and notes what may be known of it. Positions are counted in
/// entries that were ever added.
///
/// `KEYS`: the stream, our note, and where marks are kept, these: while a slot is on its way, a cluster does nothing for keys of
/// which one is missing. `ARGV`: the group, the place this process has seen it at, whether the server is
/// to be compared, whether marks are kept. Returns the group's place, up to where entries are doubtful, why they became so
/// just now, how many entries went unread since the last look, how many are unread, how many there are, and when they became
/// doubtful: a group that is made twice while nothing is added is doubtful up to the same entry, but not since then.
///
/// A Redis that is full takes it all the same, as the other scripts of reading: what is read makes room.
const LOOK: &str = r"#!lua flags=allow-oom
local function padded(id)
  local ms, seq = id:match('^(%d+)-(%d+)$')
  return ('0'):rep(20 - #ms) .. ms .. '-' .. ('0'):rep(20 - #seq) .. seq
end
local function less(a, b) return padded(a) < padded(b) end
local function pairs_of(list)
  local t = {}
  for i = 1, #list, 2 do t[list[i]] = list[i + 1] end
  return t
end
local function stream() return pairs_of(redis.call('XINFO', 'STREAM', KEYS[1])) end
local time = redis.call('TIME')
local group
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err and not groups.err:find('no such key', 1, true) then return groups end
if not groups.err then
  for _, fields in ipairs(groups) do
    local g = pairs_of(fields)
    if g['name'] == ARGV[1] then group = g end
  end
end
local why = ''
if not group then
  group = {['last-delivered-id'] = '0-0'}
  why = 'made'
end
local last, read = group['last-delivered-id'], tonumber(group['entries-read'] or nil)
local note = redis.pcall('HMGET', KEYS[2], 'server', 'delivered', 'doubtful', 'unread', 'doubtful_since')
if note.err then
  redis.call('DEL', KEYS[2])
  note = {false, false, false, false, false}
end
local server, delivered, doubtful, since = note[1], note[2] or '0-0', note[3] or '0-0', note[5] or ''
if why == '' and (less(last, delivered) or less(last, ARGV[2])) then why = 'went back' end
if ARGV[3] == '1' then
  local info = redis.pcall('INFO', 'server')
  local run = type(info) == 'string' and info:match('run_id:(%x+)')
  if run and run ~= server then
    if why == '' then why = 'another server' end
    server = run
  end
end
if why ~= '' then
  local to = redis.call('TYPE', KEYS[1]).ok == 'none' and '0-0' or stream()['last-generated-id']
  if less(doubtful, to) then doubtful = to end
  since = string.format('%d.%06d', time[1], time[2])
  redis.call('HSET', KEYS[2], 'doubtful', doubtful, 'doubtful_since', since, 'delivered', last)
  -- What fails before this is not undone, and is found again at the next look.
  if server then redis.call('HSET', KEYS[2], 'server', server) end
  if why == 'made' then redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM') end
elseif last ~= delivered then
  redis.call('HSET', KEYS[2], 'delivered', last)
end
local length, lag, lost = redis.call('XLEN', KEYS[1]), tonumber(group['lag'] or nil), 0
-- Nothing that was read is left before what was not: some of that may be gone as well. Redis may go on counting as if
-- it were not; that is known from the last time.
if read and lag and length > 0 and lag >= length then
  local s = stream()
  if less(last, s['first-entry'][1]) then
    local gone, known = s['entries-added'] - length - read, tonumber(note[4] or '0')
    if gone > known then
      lost = gone - known
      redis.call('HSET', KEYS[2], 'unread', gone)
    end
  end
elseif note[4] and lag == 0 then
  redis.call('HDEL', KEYS[2], 'unread')
end
-- Marks are there from the first look on: of an open slot that has a part of the keys, a cluster serves none of them.
read = read or (last == '0-0' and 0)
if ARGV[4] == '1' and read then
  if redis.call('TYPE', KEYS[3]).ok ~= 'zset' then redis.call('DEL', KEYS[3]) end
  local before = redis.call('ZREVRANGEBYLEX', KEYS[3], '[' .. padded(last) .. ':~', '-', 'LIMIT', 0, 1)[1]
  local position = before and tonumber(before:match(':(%d+)$'))
  if not position or position > read or read - position >= 250 then
    redis.call('ZADD', KEYS[3], 0, padded(last) .. ':' .. read)
  end
end
return {last, doubtful, why, tostring(lost), tostring(lag or ''), tostring(length), since}";

/// Where what is noted of a stream stands; in a cluster, with the stream. Braces name what a slot is made of: where the
/// stream has them, the same ones count here.
pub(super) fn note_key(stream: &str) -> String {
    let tag = stream.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    if tag.is_some_and(|(tag, _)| !tag.is_empty()) {
        format!("processor:stream:{stream}")
    } else {
        format!("processor:stream:{{{stream}}}")
    }
}

/// Where positions of its entries stand.
pub(super) fn marks_key(stream: &str) -> String {
    format!("{}:marks", note_key(stream))
}

/// A stream, and what is kept beside it: keys of one slot, which reading needs together. Marks are there where consumed
/// entries are trimmed.
pub(crate) fn stream_keys(stream: &str, trims: bool) -> Vec<String> {
    let marks = trims.then(|| marks_key(stream));
    let keys = [stream.to_owned(), note_key(stream)].into_iter();
    keys.chain(marks).collect()
}

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// The group's place.
    last: StreamId,
    /// Up to here entries may have been delivered before.
    doubtful: StreamId,
    /// Why that has changed just now.
    why: String,
    /// Entries that went without being read.
    lost: u64,
    /// Entries that were not read yet, where Redis can say.
    pub(super) lag: Option<u64>,
    /// Entries there are.
    pub(super) length: u64,
    /// When `doubtful` was set last, by the server's clock.
    doubtful_since: String,
}

impl Look {
    fn of(fields: &[String]) -> Option<Self> {
        let [last, doubtful, why, lost, lag, length, since] = fields else {
            return None;
        };
        Some(Self {
            last: StreamId::parse(last.as_bytes())?,
            doubtful: StreamId::parse(doubtful.as_bytes())?,
            why: why.clone(),
            lost: lost.parse().ok()?,
            lag: lag.parse().ok(),
            length: length.parse().ok()?,
            doubtful_since: since.clone(),
        })
    }

    /// Of the script's reply; `None` for any other.
    pub(super) fn of_reply(reply: &SimpleReply) -> Option<Self> {
        let SimpleReply::Array(fields) = reply else {
            return None;
        };
        let fields = fields.iter().map(|field| match field {
            SimpleReply::Bulk(bytes) => String::from_utf8(bytes.clone()).ok(),
            _ => None,
        });
        Self::of(&fields.collect::<Option<Vec<_>>>()?)
    }
}

/// What one loop knows of one stream's group.
#[derive(Debug, Clone)]
pub(super) struct Continuity {
    stream: String,
    keys: [String; 2],
    marks: bool,
    seen: StreamId,
    doubtful: StreamId,
    doubtful_since: String,
    /// Up to here nothing has a row, whatever may have been delivered.
    without_rows: StreamId,
    /// The warehouse was empty, and the first look is still to come.
    was_empty: bool,
    has_looked: bool,
}

impl Continuity {
    /// Of a stream, of which nothing is known yet. `marks` are for trimming; `was_empty` says that the warehouse had no row
    /// when this process began.
    pub(super) fn new(stream: &str, marks: bool, was_empty: bool) -> Self {
        Self {
            stream: stream.to_owned(),
            keys: [note_key(stream), marks_key(stream)],
            marks,
            seen: StreamId::default(),
            doubtful: StreamId::default(),
            doubtful_since: String::new(),
            without_rows: StreamId::default(),
            was_empty,
            has_looked: false,
        }
    }

    /// The warehouse may have rows by now, whatever the first look finds.
    pub(super) fn may_have_rows(&mut self) {
        self.was_empty = false;
    }

    /// The command that looks. Its reply is for [`Look::of_reply`].
    pub(super) fn command(&self, compares_server: bool) -> Vec<String> {
        let flag = |on| if on { "1" } else { "0" }.to_owned();
        let [note, marks] = self.keys.clone();
        let count = if self.marks { "3" } else { "2" };
        let start = ["EVAL", LOOK, count, &self.stream].map(str::to_owned);
        let keys = [note].into_iter().chain(self.marks.then_some(marks));
        let rest = [GROUP.to_owned(), self.seen.to_string()];
        let flags = [flag(compares_server), flag(self.marks)];
        start.into_iter().chain(keys).chain(rest).chain(flags).collect()
    }

    /// Looks by the shared connection.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses.
    pub(super) async fn look(&self, redis: &Redis, compares_server: bool) -> Result<Look, StoreError> {
        let during = "looking at the consumer group";
        let arguments = self.command(compares_server);
        let mut command = redis::cmd(&arguments[0]);
        command.arg(&arguments[1..]);
        let fields: Vec<String> = redis.ask_of(during, (&self.stream, "stream"), &command).await?;
        Look::of(&fields).ok_or_else(|| {
            let message = "the answer is none of the script's".to_owned();
            StoreError::transient(Store::Redis, during, message)
        })
    }

    /// Takes in what a look found. What is held then may be another's as well.
    pub(super) fn note(&mut self, look: &Look, ledger: &Ledger, index: u16) {
        self.seen = look.last;
        if look.lost > 0 {
            metrics::lost_upstream(look.lost as usize);
            tracing::error!(
                stream = self.stream,
                entries = look.lost,
                "entries were trimmed off the stream before they were read: their events are lost upstream"
            );
        }
        if std::mem::take(&mut self.was_empty) {
            self.without_rows = look.doubtful;
        }
        let was_there = std::mem::replace(&mut self.has_looked, true);
        let is_known = look.doubtful == self.doubtful && look.doubtful_since == self.doubtful_since;
        if is_known && look.why.is_empty() {
            return;
        }
        self.doubtful = look.doubtful;
        self.doubtful_since.clone_from(&look.doubtful_since);
        if was_there {
            // Rows were written since.
            self.without_rows = StreamId::default();
        }
        ledger.doubt(index);
        match look.why.as_str() {
            "" => {}
            "made" if !was_there => tracing::info!(
                stream = self.stream, group = GROUP, up_to = %look.doubtful,
                "consumer group created: what is in the stream may have been delivered before"
            ),
            "made" => tracing::error!(
                stream = self.stream, group = GROUP, up_to = %look.doubtful,
                "stream or group disappeared: created again; rows of what is there are looked up"
            ),
            why => tracing::warn!(
                stream = self.stream, group = GROUP, because = why, up_to = %look.doubtful,
                "the group may give out entries that were delivered before: their rows are looked up"
            ),
        }
    }

    /// Whether an entry that the group gives out as new may have been delivered before.
    pub(super) fn doubts(&self, id: StreamId) -> bool {
        id > self.without_rows && id <= self.doubtful.max(self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId { ms, seq: 0 }
    }

    fn look(last: u64, doubtful: u64) -> Look {
        Look {
            last: id(last),
            doubtful: id(doubtful),
            ..Look::default()
        }
    }

    #[test]
    fn what_came_before_the_mark_is_doubtful_and_what_came_later_is_not() {
        let ledger = Ledger::new(10, 1000);
        let mut continuity = Continuity::new("s", true, false);
        continuity.note(&look(0, 50), &ledger, 0);
        assert!(continuity.doubts(id(1)) && continuity.doubts(id(50)));
        assert!(!continuity.doubts(id(51)));
    }

    #[test]
    fn what_the_group_had_given_out_already_cannot_be_new() {
        let ledger = Ledger::new(10, 1000);
        let mut continuity = Continuity::new("s", true, false);
        continuity.note(&look(80, 0), &ledger, 0);
        assert!(continuity.doubts(id(80)));
        assert!(!continuity.doubts(id(81)));
    }

    #[test]
    fn what_is_held_is_doubted_where_the_same_entries_became_doubtful_again() {
        let ledger = Ledger::new(10, 1000);
        let mut continuity = Continuity::new("s", true, false);
        let at = |since: &str| Look {
            doubtful_since: since.to_owned(),
            ..look(30, 50)
        };
        continuity.note(&at("1.5"), &ledger, 0);
        let before = ledger.doubts();
        continuity.note(&at("1.5"), &ledger, 0);
        assert_eq!(ledger.doubts(), before);
        continuity.note(&at("2.5"), &ledger, 0);
        assert_eq!(
            ledger.doubts(),
            before + 1,
            "another instance made the group again"
        );
    }

    #[test]
    fn where_the_warehouse_was_empty_the_first_mark_says_nothing() {
        let ledger = Ledger::new(10, 1000);
        let mut continuity = Continuity::new("s", true, true);
        continuity.note(&look(0, 50), &ledger, 0);
        assert!(!continuity.doubts(id(50)));
        continuity.note(&look(30, 50), &ledger, 0);
        assert!(!continuity.doubts(id(50)));
        continuity.note(&look(0, 70), &ledger, 0);
        assert!(
            continuity.doubts(id(50)) && continuity.doubts(id(70)),
            "a later one does"
        );
    }
}
