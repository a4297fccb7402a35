//! `events:dlq` in Redis. Nothing is ever trimmed off it: what does not fit is not taken.

use redis::streams::StreamRangeReply;
use stream_reply::StreamId;

use crate::stores::{RedisConnection, Store, StoreError, error_at};

use super::letter::{Letter, Letters, Unavailable};

/// The stream's name.
pub const QUEUE: &str = "events:dlq";

/// Letters read in one round trip: an event may have megabytes.
const PIECE: usize = 20;
/// Letters are read no further when they have this much.
const ENOUGH_BYTES: usize = 8 << 20;

/// All or nothing, so that a repetition after a failure finds either.
const ADD: &str = r"
if redis.call('XLEN', KEYS[1]) + (#ARGV - 1) / 8 > tonumber(ARGV[1]) then return 0 end
for i = 2, #ARGV, 8 do
  redis.call('XADD', KEYS[1], '*', 'data', ARGV[i], 'reason', ARGV[i + 1], 'error', ARGV[i + 2], 'stream', ARGV[i + 3],
             'stream_id', ARGV[i + 4], 'failed_at', ARGV[i + 5], 'attempts', ARGV[i + 6], 'consumer', ARGV[i + 7])
end
return 1";

/// A stream of letters. Cloning is cheap.
#[derive(Clone)]
pub struct Queue {
    /// Where it is.
    pub redis: RedisConnection,
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
    pub async fn add(
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
        let failed_at = format!("{:.3}", jiff::Timestamp::now());
        let mut script = redis::cmd("EVAL");
        script.arg(ADD).arg(1).arg(self.name).arg(self.capacity);
        for (index, event) in events.iter().enumerate() {
            let stream = streams
                .get(event.source.stream as usize)
                .map_or("", String::as_str);
            script
                .arg(letters.data(index))
                .arg(why.code())
                .arg(&why.error)
                .arg(stream)
                .arg(event.source.id.to_string())
                .arg(&failed_at)
                .arg(why.attempts)
                .arg(consumer);
        }
        let during = "setting events aside";
        let added = script.query_async::<u64>(&mut self.redis.clone()).await;
        match added {
            Ok(0) => Ok(false),
            Ok(1) => Ok(true),
            Ok(other) => {
                let message = format!("the answer is {other}, which is none of the script's");
                Err(StoreError::new(
                    Store::Redis,
                    during,
                    false,
                    String::new(),
                    message,
                ))
            }
            Err(error) => Err(self.error(during, &error).await),
        }
    }

    /// Up to `count` letters behind an id, oldest first; fewer when they are large.
    ///
    /// # Errors
    /// Redis's.
    pub async fn after(&self, id: StreamId, count: usize) -> Result<Vec<Letter>, StoreError> {
        let mut letters: Vec<Letter> = Vec::new();
        let (mut behind, mut bytes) = (id, 0);
        while letters.len() < count && bytes < ENOUGH_BYTES {
            let wanted = PIECE.min(count - letters.len());
            let piece = self.some_after(behind, wanted).await?;
            let is_last = piece.len() < wanted;
            bytes += piece.iter().map(|letter| letter.text().len()).sum::<usize>();
            behind = piece.last().map_or(behind, |letter| letter.id);
            letters.extend(piece);
            if is_last {
                break;
            }
        }
        Ok(letters)
    }

    async fn some_after(&self, id: StreamId, count: usize) -> Result<Vec<Letter>, StoreError> {
        let found = redis::cmd("XRANGE")
            .arg(self.name)
            .arg(format!("({id}"))
            .arg("+")
            .arg("COUNT")
            .arg(count)
            .query_async::<StreamRangeReply>(&mut self.redis.clone())
            .await;
        match found {
            Ok(found) => Ok(found.ids.iter().filter_map(Letter::of).collect()),
            Err(error) => Err(self.error("reading dead letters", &error).await),
        }
    }

    /// One letter, if it is there.
    ///
    /// # Errors
    /// Redis's.
    pub async fn get(&self, id: StreamId) -> Result<Option<Letter>, StoreError> {
        let id = id.to_string();
        let found: StreamRangeReply = redis::cmd("XRANGE")
            .arg(&[self.name, &id, &id])
            .query_async(&mut self.redis.clone())
            .await
            .map_err(|error| StoreError::redis("reading a dead letter", &error))?;
        Ok(found.ids.first().and_then(Letter::of))
    }

    /// Id of the newest letter; the smallest there is when there is none.
    ///
    /// # Errors
    /// Redis's.
    pub async fn last(&self) -> Result<StreamId, StoreError> {
        let found: StreamRangeReply = redis::cmd("XREVRANGE")
            .arg(self.name)
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .query_async(&mut self.redis.clone())
            .await
            .map_err(|error| StoreError::redis("reading dead letters", &error))?;
        let newest = found.ids.first();
        Ok(newest
            .and_then(|entry| StreamId::parse(entry.id.as_bytes()))
            .unwrap_or(StreamId::MIN))
    }

    /// Takes letters out. Returns how many were there.
    ///
    /// # Errors
    /// Redis's.
    pub async fn remove(&self, ids: &[StreamId]) -> Result<u64, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        redis::cmd("XDEL")
            .arg(self.name)
            .arg(ids.iter().map(ToString::to_string).collect::<Vec<_>>())
            .query_async(&mut self.redis.clone())
            .await
            .map_err(|error| StoreError::redis("removing dead letters", &error))
    }

    /// Letters held.
    ///
    /// # Errors
    /// Redis's.
    pub async fn count(&self) -> Result<u64, StoreError> {
        let counted = redis::cmd("XLEN")
            .arg(self.name)
            .query_async(&mut self.redis.clone())
            .await;
        match counted {
            Ok(letters) => Ok(letters),
            Err(error) => Err(self.error("counting dead letters", &error).await),
        }
    }

    async fn error(&self, during: &'static str, error: &redis::RedisError) -> StoreError {
        error_at(&mut self.redis.clone(), during, self.name, "stream", error).await
    }
}
