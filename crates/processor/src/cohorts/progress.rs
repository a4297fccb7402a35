//! How far a run is, for the report and `status`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of the run under way; all zero while there is none. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    total: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    started_at_ms: AtomicU64,
}

impl Progress {
    /// Cohorts that the run has to deal with.
    pub fn total(&self) -> u64 {
        self.0.total.load(Relaxed)
    }

    /// Those that it has dealt with, whatever became of them.
    pub fn done(&self) -> u64 {
        self.0.done.load(Relaxed)
    }

    /// Those of them that failed.
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Relaxed)
    }

    /// Since when, in milliseconds since 1970.
    pub fn started_at_ms(&self) -> u64 {
        self.0.started_at_ms.load(Relaxed)
    }

    /// A run over so many cohorts begins. It has ended when what is returned is dropped.
    pub(super) fn begin(&self, total: usize, now_ms: i64) -> Ended {
        self.set(total as u64, now_ms.max(0).cast_unsigned());
        Ended(self.clone())
    }

    pub(super) fn add_done(&self) {
        self.0.done.fetch_add(1, Relaxed);
    }

    pub(super) fn add_failed(&self) {
        self.0.failed.fetch_add(1, Relaxed);
    }

    fn set(&self, total: u64, started_at_ms: u64) {
        self.0.done.store(0, Relaxed);
        self.0.failed.store(0, Relaxed);
        self.0.total.store(total, Relaxed);
        self.0.started_at_ms.store(started_at_ms, Relaxed);
    }
}

/// However a run ends, its counters do not outlive it.
#[derive(Debug)]
pub(super) struct Ended(Progress);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.set(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_are_zero_unless_a_run_is_under_way() {
        let progress = Progress::default();
        let seen = progress.clone();
        let numbers = || [seen.total(), seen.done(), seen.failed(), seen.started_at_ms()];
        let run = progress.begin(3, 1000);
        progress.add_done();
        progress.add_done();
        progress.add_failed();
        assert_eq!(numbers(), [3, 2, 1, 1000]);
        drop(run);
        assert_eq!(numbers(), [0, 0, 0, 0]);
    }
}
