//! Retries as data: named presets, then patience. What can never succeed is never retried.

use std::borrow::BorrowMut;
use std::cmp::Ordering;
use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rand::Rng;

use super::outages;
use super::task::{Patience, Task};
use crate::metrics;
use crate::stores::{Classify, FailureKind, Store};

/// How often and how patiently an operation is repeated before the store counts as away.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// What is tried, for logs.
    pub name: &'static str,
    /// Whom it asks.
    pub store: Store,
    /// Attempts in all.
    pub attempts: u32,
    /// The n-th wait is n × base, plus up to a quarter.
    pub base: Duration,
    /// Longest one attempt takes by its own time-out; tells the pulse how long silence is normal.
    pub attempt_limit: Duration,
}

/// ClickHouse: 3 × 1000 ms.
pub const CLICKHOUSE: Preset = preset(Store::ClickHouse.name(), Store::ClickHouse, 1000);
/// PostgreSQL: 3 × 200 ms.
pub const POSTGRES: Preset = preset(Store::Postgres.name(), Store::Postgres, 200);
/// Redis: 3 × 200 ms.
pub const REDIS: Preset = preset(Store::Redis.name(), Store::Redis, 200);
/// The catalogue: 3 × 50 ms.
pub const DEFINITIONS: Preset = preset("definitions", Store::Postgres, 50);

/// Attempts that a store's preset has.
pub const fn attempts_at(store: Store) -> u32 {
    match store {
        Store::Redis => REDIS.attempts,
        Store::Postgres => POSTGRES.attempts,
        Store::ClickHouse => CLICKHOUSE.attempts,
    }
}

const fn preset(name: &'static str, store: Store, base_ms: u64) -> Preset {
    Preset {
        name,
        store,
        attempts: 3,
        base: Duration::from_millis(base_ms),
        attempt_limit: Duration::from_secs(30),
    }
}

/// Longest pause between two attempts while a store is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a persistent operation ended without success.
#[derive(Debug)]
pub enum GaveUp<E> {
    /// The data or the statement is at fault.
    Poison(E),
    /// The preset is exhausted: the store is away.
    Away(E),
    /// The store answers and takes writes, yet takes none of these.
    TakesNone(E),
    /// The drain's time is up, or the work is another instance's now; what was tried last failed so.
    Abandoned(Option<E>),
}

impl<E: Display> Display for GaveUp<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Poison(error) => write!(f, "refused: {error}"),
            Self::Away(error) => write!(f, "store is away: {error}"),
            Self::TakesNone(error) => write!(f, "the store answers and takes none of this: {error}"),
            Self::Abandoned(Some(error)) => write!(f, "given up at the drain's limit: {error}"),
            Self::Abandoned(None) => write!(f, "given up at the drain's limit"),
        }
    }
}

impl Task {
    /// Repeats `operation` until it succeeds, is refused as poison, or the drain's time is up; or as often as the task's
    /// [`Patience`] says.
    ///
    /// First by the preset, then, the store counting as away, with capped exponential pauses. A change of state is
    /// logged once, not each attempt. Being held by an outage is not a dead loop: the pulse stays fresh.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub fn retry<T, E, F>(
        &self,
        preset: Preset,
        operation: impl FnMut() -> F,
    ) -> impl Future<Output = Result<T, GaveUp<E>>>
    where
        E: Classify,
        F: Future<Output = Result<T, E>>,
    {
        self.retry_in_goes(0, preset, |_| true, operation)
    }

    /// The same for an operation that may end a go without having been tried: only what `was_tried` says that the store
    /// works. `failures` are those of earlier goes too, so that a preset ends however many goes it takes.
    ///
    /// # Errors
    /// [`GaveUp`].
    pub async fn retry_in_goes<T, E, F>(
        &self,
        mut failures: impl BorrowMut<u32>,
        preset: Preset,
        was_tried: impl Fn(&T) -> bool,
        mut operation: impl FnMut() -> F,
    ) -> Result<T, GaveUp<E>>
    where
        E: Classify,
        F: Future<Output = Result<T, E>>,
    {
        let failures: &mut u32 = failures.borrow_mut();
        loop {
            self.pulse.alive_for(preset.attempt_limit);
            let attempt = tokio::select! {
                biased;
                () = self.shutdown.abandoned().cancelled() => return Err(GaveUp::Abandoned(None)),
                attempt = operation() => attempt,
            };
            self.pulse.operation_ended();
            let error = match attempt {
                Ok(value) => {
                    if was_tried(&value) {
                        count_in_a_row(preset.store, false);
                    }
                    if *failures >= preset.attempts && was_tried(&value) && outages::note_back(preset.name) {
                        tracing::info!(store = preset.name, "store is back");
                    }
                    return Ok(value);
                }
                Err(error) if error.kind() == FailureKind::Poison => return Err(GaveUp::Poison(error)),
                Err(error) => error,
            };
            *failures += 1;
            metrics::attempt_failed(preset.store.label(), self.pulse.name());
            count_in_a_row(preset.store, true);
            tell_of_failure(preset, *failures, &error, None);
            let attempts = match self.patience {
                Patience::Endless => u32::MAX,
                Patience::Preset => preset.attempts,
                Patience::Once => 1,
            };
            if *failures >= attempts {
                return Err(GaveUp::Away(error));
            }
            let pause = pause(preset, *failures);
            self.pulse.alive_for(pause);
            tokio::select! {
                () = self.shutdown.abandoned().cancelled() => return Err(GaveUp::Abandoned(Some(error))),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// Failed attempts since one succeeded, by store.
static IN_A_ROW: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];

/// Counts an attempt, whichever loop made it.
pub(super) fn count_in_a_row(store: Store, has_failed: bool) {
    let in_a_row = &IN_A_ROW[store as usize];
    if has_failed {
        let before = in_a_row.fetch_add(1, Relaxed);
        metrics::failed_in_a_row(store.label(), before.saturating_add(1));
    } else if in_a_row.load(Relaxed) > 0 {
        in_a_row.store(0, Relaxed);
        metrics::failed_in_a_row(store.label(), 0);
    }
}

/// An outage is told once; what an operator has to mend, as an error with what to do. `missed_by`: the loop that misses the
/// store until it is served, if this is one.
pub(super) fn tell_of_failure(preset: Preset, attempts: u32, error: &impl Classify, missed_by: Option<u64>) {
    let (store, advice) = (preset.name, error.advice());
    let is_news = match attempts.cmp(&preset.attempts) {
        Ordering::Less => false,
        Ordering::Greater if missed_by.is_none() => {
            outages::note_still_away(store, error.to_string(), advice)
        }
        Ordering::Equal | Ordering::Greater => {
            outages::note_away(store, error.to_string(), advice, missed_by)
        }
    };
    match advice {
        Some(advice) if is_news => {
            tracing::error!(store, %error, attempts, advice, "store cannot be used: an operator has to act");
        }
        None if is_news => tracing::warn!(store, %error, attempts, "store is away"),
        _ => tracing::debug!(store, %error, attempts, "attempt failed"),
    }
}

/// Linear within the preset, doubling after it up to a bound, each with up to a quarter of jitter.
pub fn pause(preset: Preset, failures: u32) -> Duration {
    let base = if failures < preset.attempts {
        preset.base * failures
    } else {
        (preset.base * 2u32.saturating_pow((failures - preset.attempts).min(16))).min(LONGEST_PAUSE)
    };
    base.mul_f64(1.0 + rand::rng().random_range(0.0..0.25))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::shutdown::Shutdown;

    #[derive(Debug)]
    struct Fault(FailureKind);
    impl Display for Fault {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:?}", self.0)
        }
    }
    impl Classify for Fault {
        fn kind(&self) -> FailureKind {
            self.0
        }
    }

    const QUICK: Preset = Preset {
        name: "test",
        store: Store::Redis,
        attempts: 3,
        base: Duration::from_millis(1),
        attempt_limit: Duration::from_secs(1),
    };

    fn task() -> Task {
        Task::new("test", Duration::from_secs(1), &Shutdown::default())
    }

    #[tokio::test]
    async fn goes_on_after_the_preset_until_it_succeeds() {
        let (task, mut tries) = (task(), 0);
        let result = task
            .retry(QUICK, || {
                tries += 1;
                let outcome = if tries < 6 {
                    Err(Fault(FailureKind::Transient))
                } else {
                    Ok(tries)
                };
                async move { outcome }
            })
            .await;
        assert_eq!(result.unwrap(), 6);
    }

    #[tokio::test]
    async fn a_preset_ends_although_it_takes_several_goes() {
        let task = task().within_presets();
        let (mut failures, mut goes, mut tries) = (0, 0, 0);
        let ended = loop {
            goes += 1;
            assert!(goes < 10, "no end");
            let mut is_first = true;
            let operation = || {
                let tries_now = std::mem::take(&mut is_first);
                tries += u32::from(tries_now);
                async move {
                    if tries_now {
                        Err(Fault(FailureKind::Transient))
                    } else {
                        Ok(false)
                    }
                }
            };
            let go = task.retry_in_goes(&mut failures, QUICK, |tried| *tried, operation);
            if let Err(ended) = go.await {
                break ended;
            }
        };
        assert!(matches!(ended, GaveUp::Away(_)));
        assert_eq!((goes, tries), (3, 3));
    }

    #[tokio::test]
    async fn poison_is_tried_once() {
        let (task, mut tries) = (task(), 0);
        let result: Result<(), _> = task
            .retry(QUICK, || {
                tries += 1;
                async { Err(Fault(FailureKind::Poison)) }
            })
            .await;
        assert!(matches!(result, Err(GaveUp::Poison(_))));
        assert_eq!(tries, 1);
    }

    #[tokio::test]
    async fn every_wait_ends_when_the_drain_is_abandoned() {
        let task = task();
        let stop = task.shutdown.clone();
        let waiting = task.retry(QUICK, || async {
            stop.abandon();
            std::future::pending::<Result<(), Fault>>().await
        });
        let result = tokio::time::timeout(Duration::from_secs(5), waiting)
            .await
            .unwrap();
        assert!(matches!(result, Err(GaveUp::Abandoned(_))));
    }

    #[test]
    fn waits_are_linear_within_the_preset_with_at_most_a_quarter_of_jitter() {
        for failures in 1..3 {
            let wait = pause(CLICKHOUSE, failures);
            let base = CLICKHOUSE.base * failures;
            assert!(wait >= base && wait <= base.mul_f64(1.25), "{wait:?}");
        }
        assert!(pause(CLICKHOUSE, 60) <= LONGEST_PAUSE.mul_f64(1.25));
    }
}
