//! What ends the process while it is being replayed would end the next one too: each replay of some letters is noted
//! before it begins and forgotten when it has ended in whatever orderly way.

use stream_reply::StreamId;

use crate::stores::{Redis, StoreError};

/// Hash of `first letter's id → replays begun`.
const KEY: &str = "dlq:replay:attempts";
/// Replays that ended the process before its letters are replayed one by one.
const TOGETHER: u64 = 2;
/// Replays of a letter alone that ended the process before it is refused.
const ALONE: u64 = 5;

/// How letters may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Together.
    None,
    /// One by one.
    OneByOne,
    /// The first not at all.
    Refuse,
}

/// Notes that a replay beginning with this letter is about to begin.
pub(super) async fn begins(redis: &Redis, first: StreamId) -> Result<Pace, StoreError> {
    let begun = redis.count_in("noting a replay", KEY, &first.to_string()).await?;
    Ok(if begun <= TOGETHER {
        Pace::None
    } else if begun <= ALONE {
        Pace::OneByOne
    } else {
        Pace::Refuse
    })
}

/// Notes that it has ended.
pub(super) async fn ended(redis: &Redis, first: StreamId) -> Result<(), StoreError> {
    let mut delete = redis::cmd("HDEL");
    delete.arg(KEY).arg(first.to_string());
    redis.ask("noting the end of a replay", &delete).await
}
