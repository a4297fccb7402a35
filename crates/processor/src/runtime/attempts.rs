//! Attempts at a store by a loop that goes on whatever comes of them: its failures are told as those of
//! [`Task::retry`](super::task::Task::retry) are.

use std::sync::atomic::{AtomicU64, Ordering};

use super::outages;
use super::retry::{Preset, count_in_a_row, tell_of_failure};
use crate::metrics;
use crate::stores::Classify;

/// What became of one loop's attempts at a store. When its preset is exhausted the store counts as away, until it has served
/// this loop: that it serves others is not enough. A loop that ends misses nothing any more.
#[derive(Debug)]
pub struct Attempts {
    preset: Preset,
    by: &'static str,
    number: u64,
    failures: u32,
}

impl Attempts {
    /// Those of a loop of this name.
    pub fn new(preset: Preset, by: &'static str) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self {
            preset,
            by,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            failures: 0,
        }
    }

    /// Whether the store is away as far as this loop has seen.
    pub fn misses_it(&self) -> bool {
        self.failures >= self.preset.attempts
    }

    /// One has failed.
    pub fn failed(&mut self, error: &impl Classify) {
        self.failures = self.failures.saturating_add(1);
        metrics::attempt_failed(self.preset.store.label(), self.by);
        count_in_a_row(self.preset.store, true);
        tell_of_failure(self.preset, self.failures, error, Some(self.number));
    }

    /// One has succeeded.
    pub fn succeeded(&mut self) {
        count_in_a_row(self.preset.store, false);
        let store = self.preset.name;
        if std::mem::take(&mut self.failures) >= self.preset.attempts
            && outages::note_served(store, self.number)
        {
            tracing::info!(store, "store is back");
        }
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        let _was_last = outages::note_served(self.preset.name, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::retry::REDIS;
    use crate::stores::{Store, StoreError};

    fn refused(code: &str) -> StoreError {
        StoreError::transient(Store::Redis, "reading", "refused".into()).with_code(code)
    }

    fn away() -> Option<(String, bool)> {
        let away = outages::away().into_iter().next();
        away.map(|outage| (outage.error, outage.advice.is_some()))
    }

    // One test: what is away is known to the whole process.
    #[test]
    fn a_store_is_away_until_it_has_served_every_loop_that_misses_it() {
        let (mut one, mut other) = (Attempts::new(REDIS, "one"), Attempts::new(REDIS, "other"));
        for _attempt in 1..REDIS.attempts {
            one.failed(&refused("LOADING"));
            assert_eq!(away(), None);
        }
        one.failed(&refused("LOADING"));
        assert!(one.misses_it() && away().is_some_and(|(_, has_advice)| !has_advice));
        for _attempt in 0..REDIS.attempts {
            other.failed(&refused("WRONGPASS"));
        }
        assert!(away().is_some_and(|(_, has_advice)| has_advice));
        // What one of them is told hides from nobody what has to be done for the other.
        one.failed(&refused("LOADING"));
        assert!(away().is_some_and(|(_, has_advice)| has_advice));
        // Whom it serves besides does not matter, nor how often one of them is served.
        assert!(!outages::note_back(REDIS.name));
        for _attempt in 0..2 {
            one.succeeded();
            assert!(away().is_some() && !one.misses_it());
        }
        other.succeeded();
        assert_eq!(away(), None);
        // What is said to be back by others is missed again, and one that ends misses nothing.
        for _attempt in 0..REDIS.attempts {
            one.failed(&refused("WRONGPASS"));
        }
        outages::is_back(Store::Redis);
        assert_eq!(away(), None);
        one.failed(&refused("WRONGPASS"));
        assert!(away().is_some());
        drop(one);
        assert_eq!(away(), None);
    }
}
