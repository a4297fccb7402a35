//! A letter in place of another: in one step where one server has both queues and the lock, else in steps.
//!
//! In a cluster the three keys have slots of their own. The new letter comes first, in one step with the old one's end where
//! both are in one queue: whatever ends the process between two steps, one of the two letters is there. Nothing is added
//! when the lock may have gone to another instance: the queue's server compares its clock with a time until which the lock
//! is surely held, reckoned from what that very clock said before the lock was extended.

use stream_reply::StreamId;

use crate::runtime::lock::LockHandle;
use crate::stores::{StoreError, script};

use super::Queue;
use super::letter::Letter;

/// A letter goes into a queue, in place of one that is there or in another queue, where it is no more then. What adds comes
/// first: where Redis is full, nothing has changed.
///
/// The third key is the lock under which this may be done, and its token.
const REPLACE: &str = r"
if redis.call('GET', KEYS[3]) ~= ARGV[11] then return 'lost' end
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return false end
if KEYS[1] ~= KEYS[2] and redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[2]) then return 'full' end
local id = redis.call('XADD', KEYS[2], '*', 'data', ARGV[3], 'reason', ARGV[4], 'error', ARGV[5], 'stream', ARGV[6],
                      'stream_id', ARGV[7], 'failed_at', ARGV[8], 'attempts', ARGV[9], 'consumer', ARGV[10])
redis.call('XDEL', KEYS[1], ARGV[1])
return id";

/// The same within one queue, until a time of its server's clock. Where the old letter's id is empty, that one is elsewhere.
const REPLACE_UNTIL: &str = r"
local time = redis.call('TIME')
if time[1] * 1000 + math.floor(time[2] / 1000) >= tonumber(ARGV[11]) then return 'lost' end
if ARGV[1] == '' then
  if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 'full' end
elseif #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return false
end
local id = redis.call('XADD', KEYS[1], '*', 'data', ARGV[3], 'reason', ARGV[4], 'error', ARGV[5], 'stream', ARGV[6],
                      'stream_id', ARGV[7], 'failed_at', ARGV[8], 'attempts', ARGV[9], 'consumer', ARGV[10])
if ARGV[1] ~= '' then redis.call('XDEL', KEYS[1], ARGV[1]) end
return id";

/// The clock of a key's server, in milliseconds.
const CLOCK: &str = r"
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)";

const DURING: &str = "correcting an event that was set aside";

/// What came of putting a letter in the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// Nothing has changed: the old one is not there.
    Gone,
    /// Nothing has changed: the queue that the new one would go to is full.
    Full,
    /// Nothing has changed: the lock is another's.
    LockLost,
    /// The new one is there, under this id, and the old one is not.
    By(StreamId),
}

impl Replaced {
    fn of(answer: Option<&str>) -> Self {
        match answer {
            None => Self::Gone,
            Some("lost") => Self::LockLost,
            Some(id) => StreamId::parse(id.as_bytes()).map_or(Self::Full, Self::By),
        }
    }
}

impl Queue {
    /// Puts a letter at the end in place of one that is here or in another queue. A queue takes no more letters than it has
    /// room for, but those that replace its own.
    ///
    /// # Errors
    /// Redis's; it may have been done, or both letters are there.
    pub(crate) async fn put_in_place_of(
        &self,
        (from, old): (&Self, StreamId),
        new: &Letter,
        lock: &LockHandle,
    ) -> Result<Replaced, StoreError> {
        if self.redis.is_cluster() {
            return self.put_by_steps((from, old), new, lock).await;
        }
        let mut replace = script(REPLACE, &[from.name, self.name, lock.key()]);
        self.write(&mut replace, &old.to_string(), new);
        replace.arg(lock.token());
        let answer: Option<String> = self
            .redis
            .ask_one_server_of(DURING, (self.name, "stream"), &replace)
            .await?;
        Ok(Replaced::of(answer.as_deref()))
    }

    async fn put_by_steps(
        &self,
        (from, old): (&Self, StreamId),
        new: &Letter,
        lock: &LockHandle,
    ) -> Result<Replaced, StoreError> {
        let began: u64 = self.ask(DURING, &script(CLOCK, &[self.name])).await?;
        if !lock.is_held().await {
            return Ok(Replaced::LockLost);
        }
        let until = began + lock.left().as_millis() as u64;
        let is_here = from.name == self.name;
        if !is_here && from.get(old).await?.is_none() {
            return Ok(Replaced::Gone);
        }
        let here = if is_here { old.to_string() } else { String::new() };
        let mut replace = script(REPLACE_UNTIL, &[self.name]);
        self.write(&mut replace, &here, new);
        replace.arg(until);
        let answer: Option<String> = self.ask(DURING, &replace).await?;
        let replaced = Replaced::of(answer.as_deref());
        if let (Replaced::By(_), false) = (replaced, is_here) {
            from.remove(&[old]).await?;
        }
        Ok(replaced)
    }

    /// The ten arguments that both ways have.
    fn write(&self, script: &mut redis::Cmd, old: &str, new: &Letter) {
        let stream_id = new.stream_id.map(|id| id.to_string());
        script.arg(old).arg(self.capacity).arg(new.text());
        script.arg(&[
            &new.reason,
            &new.error,
            &new.stream,
            &stream_id.unwrap_or_default(),
            &new.failed_at,
            &new.attempts,
            &new.consumer,
        ]);
    }
}
