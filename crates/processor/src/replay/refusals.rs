//! Letters that a store fails on alone: how often each was tried, so that what fails for good is rejected in the end. A
//! failure counts only when the store took something else at the same time: otherwise the store may be what is broken.

use std::collections::HashMap;

use stream_reply::StreamId;

use crate::stores::{Redis, StoreError};

/// Hash of `letter's id → failures, attempts in all, milliseconds of the last one`.
const KEY: &str = "dlq:replay:refusals";
/// Counted failures after which a letter is rejected.
const FOR_GOOD: u32 = 5;
/// A hash that nothing is added to is forgotten after this.
const FORGOTTEN_AFTER_S: i64 = 7 * 86_400;

/// What is known of one letter's failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Refusals {
    /// Failures while the store took something else.
    failures: u32,
    /// Attempts in all, those before it became a letter included.
    pub(super) attempts: u32,
    /// When the last failure was, in milliseconds of the epoch.
    at_ms: u64,
}

impl Refusals {
    /// After one more failure of `attempts` attempts at `at_ms`; `before` is how often it was tried before it became a
    /// letter. It counts when the store took something else at the same time.
    pub(super) fn and(self, attempts: u32, before: u32, counts: bool, at_ms: u64) -> Self {
        let sum = if self.attempts == 0 { before } else { self.attempts };
        Self {
            failures: self.failures + u32::from(counts),
            attempts: sum + attempts,
            at_ms,
        }
    }

    /// Whether a failure has counted.
    pub(super) fn is_counted(self) -> bool {
        self.failures > 0
    }

    /// Whether the letter is to be rejected.
    pub(super) fn is_for_good(self) -> bool {
        self.failures >= FOR_GOOD
    }

    /// Until when the letter is to be left alone, in milliseconds of the epoch: it is tried once per interval.
    pub(super) fn rests_until(self, interval_ms: u64) -> u64 {
        self.at_ms.saturating_add(interval_ms)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        Some(Self {
            failures: parts.next()?.parse().ok()?,
            attempts: parts.next()?.parse().ok()?,
            at_ms: parts.next()?.parse().ok()?,
        })
    }
}

/// All letters that have failed alone.
pub(super) async fn all(redis: &Redis) -> Result<HashMap<StreamId, Refusals>, StoreError> {
    let during = "reading which letters have failed";
    let all: HashMap<String, String> = redis.ask(during, redis::cmd("HGETALL").arg(KEY)).await?;
    let known = all.iter().filter_map(|(id, text)| {
        let id = StreamId::parse(id.as_bytes())?;
        Some((id, Refusals::parse(text)?))
    });
    Ok(known.collect())
}

/// Notes a letter's failures.
pub(super) async fn note(redis: &Redis, letter: StreamId, refusals: Refusals) -> Result<(), StoreError> {
    let Refusals {
        failures,
        attempts,
        at_ms,
    } = refusals;
    let mut pipeline = redis::pipe();
    let noted = format!("{failures} {attempts} {at_ms}");
    pipeline.hset(KEY, letter.to_string(), noted);
    pipeline.expire(KEY, FORGOTTEN_AFTER_S);
    redis.ask_all("noting that a letter has failed", &pipeline).await
}

/// Forgets letters that have left the queue.
pub(super) async fn forget(redis: &Redis, letters: &[StreamId]) -> Result<(), StoreError> {
    if letters.is_empty() {
        return Ok(());
    }
    let fields: Vec<String> = letters.iter().map(ToString::to_string).collect();
    let mut delete = redis::cmd("HDEL");
    delete.arg(KEY).arg(fields);
    redis.ask("forgetting letters that have left", &delete).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_counted_failure_is_for_good_and_attempts_add_up() {
        let mut refusals = Refusals::default();
        for round in 1..=4 {
            refusals = refusals.and(3, 10, true, round);
            assert!(!refusals.is_for_good());
        }
        let last = refusals.and(3, 10, true, 5);
        assert!(last.is_for_good());
        assert_eq!(last.attempts, 10 + 5 * 3);
    }

    #[test]
    fn failures_while_the_store_takes_nothing_do_not_count() {
        let mut refusals = Refusals::default();
        for _ in 0..100 {
            refusals = refusals.and(1, 3, false, 1);
        }
        assert!(!refusals.is_for_good() && !refusals.is_counted());
        assert_eq!(refusals.attempts, 103);
    }

    #[test]
    fn a_letter_rests_for_an_interval_after_a_failure() {
        let refusals = Refusals::default().and(1, 1, true, 1_000);
        assert_eq!(refusals.rests_until(500), 1_500);
    }
}
