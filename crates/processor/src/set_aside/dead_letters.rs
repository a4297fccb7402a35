//! `events:dlq` in Redis. Nothing is ever trimmed off it: what does not fit is not taken.

use std::ops::Range;

use redis::streams::StreamRangeReply;
use stream_reply::StreamId;
use uuid::Uuid;

use crate::event::Batch;
use crate::stores::{Redis, Store, StoreError, script};

use super::letter::{Letter, Letters, Unavailable};

/// The stream's name.
pub(crate) const QUEUE: &str = "events:dlq";

/// Letters read together have no more than this, unless it is a single one: an event may have megabytes.
const MOST_BYTES: usize = 8 << 20;
/// Letters sent together are of events with no more than this, unless it is a single one: a command has them twice as
/// large, and the client copies it.
const MOST_BYTES_SENT: usize = 2 << 20;

/// A batch that is too large for one command goes to a stream of its own first, a piece at a time…
const STAGE: &str = r"
for i = 2, #ARGV, 8 do
  redis.call('XADD', KEYS[1], '*', 'data', ARGV[i], 'reason', ARGV[i + 1], 'error', ARGV[i + 2], 'stream', ARGV[i + 3],
             'stream_id', ARGV[i + 4], 'failed_at', ARGV[i + 5], 'attempts', ARGV[i + 6], 'consumer', ARGV[i + 7])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1";
/// …which goes by itself when the instance that fills it does not come to the end.
const STAGED_MS: u64 = 600_000;
/// Then all of them are added, or none.
const ADD_STAGED: &str = r"
local count = redis.call('XLEN', KEYS[1])
if count ~= tonumber(ARGV[2]) then return redis.error_reply('the letters that were sent first are gone') end
local added = 0
if redis.call('XLEN', KEYS[2]) + count <= tonumber(ARGV[1]) then
  local from = '-'
  for _ = 1, count do
    local letter = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
    redis.call('XADD', KEYS[2], '*', unpack(letter[2]))
    from = '(' .. letter[1]
  end
  added = 1
end
redis.call('DEL', KEYS[1])
return added";

/// As many letters from an id on as there are within a number and a size, at least one.
const READ: &str = r"
local found, bytes, from = {}, 0, ARGV[1]
while #found < tonumber(ARGV[2]) do
  local letter = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
  if not letter then break end
  for _, text in ipairs(letter[2]) do bytes = bytes + #text end
  if #found > 0 and bytes > tonumber(ARGV[3]) then break end
  found[#found + 1] = letter
  from = '(' .. letter[1]
end
return found";

/// All or nothing, so that a repetition after a failure finds either.
const ADD: &str = r"
if redis.call('XLEN', KEYS[1]) + (#ARGV - 1) / 8 > tonumber(ARGV[1]) then return 0 end
for i = 2, #ARGV, 8 do
  redis.call('XADD', KEYS[1], '*', 'data', ARGV[i], 'reason', ARGV[i + 1], 'error', ARGV[i + 2], 'stream', ARGV[i + 3],
             'stream_id', ARGV[i + 4], 'failed_at', ARGV[i + 5], 'attempts', ARGV[i + 6], 'consumer', ARGV[i + 7])
end
return 1";

const ID_OF_FIRST: &str = r"
local found = redis.call(ARGV[1], KEYS[1], ARGV[2], ARGV[3], 'COUNT', 1)[1]
return found and found[1]";

/// What is said of every letter of a batch.
struct Note<'a> {
    why: &'a Unavailable,
    streams: &'a [String],
    consumer: &'a str,
    failed_at: String,
}

impl Note<'_> {
    /// The eight arguments of a letter.
    fn write(&self, script: &mut redis::Cmd, letters: &Letters<'_>, index: usize) {
        let source = letters.batch.events[index].source;
        let stream = self.streams.get(source.stream as usize);
        script
            .arg(letters.data(index))
            .arg(self.why.code())
            .arg(&self.why.error)
            .arg(stream.map_or("", String::as_str))
            .arg(source.id.to_string())
            .arg(&self.failed_at)
            .arg(self.why.attempts)
            .arg(self.consumer);
    }
}

/// Events whose letters are sent together.
fn pieces(batch: &Batch) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (index, event) in batch.events.iter().enumerate() {
        let more = batch.entry(event).bytes();
        match pieces.last_mut() {
            Some(piece) if bytes + more <= MOST_BYTES_SENT => {
                piece.end = index + 1;
                bytes += more;
            }
            _ => {
                pieces.push(index..index + 1);
                bytes = more;
            }
        }
    }
    pieces
}

/// A stream of letters. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Queue {
    /// Where it is.
    pub redis: Redis,
    /// Its name: [`QUEUE`], or the ring of rejected events, whose entries look the same.
    pub name: &'static str,
    /// Letters it takes.
    pub capacity: u64,
}

impl Queue {
    /// Adds the events of a batch, in order. `false` when they do not fit: then none is added.
    ///
    /// # Errors
    /// Redis's; all may have been added.
    pub(crate) async fn add(
        &self,
        letters: &Letters<'_>,
        why: &Unavailable,
        streams: &[String],
        consumer: &str,
    ) -> Result<bool, StoreError> {
        let events = &letters.batch.events;
        if events.is_empty() {
            return Ok(true);
        }
        let note = Note {
            why,
            streams,
            consumer,
            failed_at: format!("{:.3}", jiff::Timestamp::now()),
        };
        let pieces = pieces(letters.batch);
        if let [piece] = pieces.as_slice() {
            let mut add = script(ADD, &[self.name]);
            add.arg(self.capacity);
            for index in piece.clone() {
                note.write(&mut add, letters, index);
            }
            return self.said_yes(&add).await;
        }
        if self.count().await? + events.len() as u64 > self.capacity {
            return Ok(false);
        }
        // In a cluster it has to be where the queue is: its braces name the slot.
        let staged = format!("{0}:staged:{{{0}}}:{1}", self.name, Uuid::new_v4().simple());
        for piece in pieces {
            let mut stage = script(STAGE, &[&staged]);
            stage.arg(STAGED_MS);
            for index in piece {
                note.write(&mut stage, letters, index);
            }
            self.said_yes(&stage).await?;
        }
        let mut add = script(ADD_STAGED, &[&staged, self.name]);
        self.said_yes(add.arg(self.capacity).arg(events.len())).await
    }

    async fn said_yes(&self, script: &redis::Cmd) -> Result<bool, StoreError> {
        let during = "setting events aside";
        match self.ask(during, script).await? {
            0 => Ok(false),
            1 => Ok(true),
            other => {
                let message = format!("the answer is {other}, which is none of the script's");
                Err(StoreError::transient(Store::Redis, during, message))
            }
        }
    }

    /// Up to `count` letters behind an id, oldest first; fewer when they are large.
    ///
    /// # Errors
    /// Redis's.
    pub(crate) async fn after(&self, id: StreamId, count: usize) -> Result<Vec<Letter>, StoreError> {
        let mut read = script(READ, &[self.name]);
        read.arg(format!("({id}")).arg(count).arg(MOST_BYTES);
        let found: StreamRangeReply = self.ask("reading dead letters", &read).await?;
        // Each entry goes as soon as its letter is read.
        Ok(found.ids.into_iter().filter_map(Letter::of).collect())
    }

    /// One letter, if it is there.
    ///
    /// # Errors
    /// Redis's.
    pub(crate) async fn get(&self, id: StreamId) -> Result<Option<Letter>, StoreError> {
        let id = id.to_string();
        let mut read = redis::cmd("XRANGE");
        read.arg(&[self.name, &id, &id]);
        let found: StreamRangeReply = self.redis.ask("reading a dead letter", &read).await?;
        Ok(found.ids.into_iter().next().and_then(Letter::of))
    }

    /// Id of the newest letter; the smallest there is when there is none.
    ///
    /// # Errors
    /// Redis's.
    pub(crate) async fn last(&self) -> Result<StreamId, StoreError> {
        let newest = self.id_of_first("XREVRANGE", "+", "-").await?;
        Ok(newest.unwrap_or(StreamId::MIN))
    }

    /// Id of the oldest letter.
    ///
    /// # Errors
    /// Redis's.
    pub(crate) async fn oldest(&self) -> Result<Option<StreamId>, StoreError> {
        self.id_of_first("XRANGE", "-", "+").await
    }

    /// The letter itself, which may have megabytes, stays where it is.
    async fn id_of_first(&self, command: &str, from: &str, to: &str) -> Result<Option<StreamId>, StoreError> {
        let mut first = script(ID_OF_FIRST, &[self.name]);
        first.arg(&[command, from, to]);
        let id: Option<String> = self.ask("reading dead letters", &first).await?;
        Ok(id.and_then(|id| StreamId::parse(id.as_bytes())))
    }

    /// Takes letters out. Returns how many were there.
    ///
    /// # Errors
    /// Redis's.
    pub(crate) async fn remove(&self, ids: &[StreamId]) -> Result<u64, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let mut delete = redis::cmd("XDEL");
        delete.arg(self.name).arg(ids);
        self.redis.ask("removing dead letters", &delete).await
    }

    /// Letters held.
    ///
    /// # Errors
    /// Redis's.
    pub(crate) async fn count(&self) -> Result<u64, StoreError> {
        self.ask("counting dead letters", redis::cmd("XLEN").arg(self.name))
            .await
    }

    pub(super) async fn ask<T: redis::FromRedisValue>(
        &self,
        during: &'static str,
        command: &redis::Cmd,
    ) -> Result<T, StoreError> {
        self.redis.ask_of(during, (self.name, "stream"), command).await
    }
}
