//! How much of the time the stages of this process work, so that people see which of them the others wait for; and how many
//! events have landed. Looked at per batch, never per event.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics;

/// The reader waits because no more may be held.
pub static FULL: Meter = Meter::new("full", 1);
/// Entries are validated and gathered into batches.
pub static DECODE: Meter = Meter::new("decode", 1);
/// Persons are decided, and committed in PostgreSQL.
pub static IDENTITY: Meter = Meter::new("identity", 1);
/// Overrides and rows are inserted in ClickHouse, then the person keys in Redis.
pub static LAND: Meter = Meter::new("land", 2);
/// Entries are acknowledged in Redis.
pub static ACKNOWLEDGE: Meter = Meter::new("acknowledge", 2);

/// How many there are.
const STAGES: usize = 5;
/// All of them, in the order in which an event meets them.
static ALL: [&Meter; STAGES] = [&FULL, &DECODE, &IDENTITY, &LAND, &ACKNOWLEDGE];

/// Events whose rows are durable and whose entries are acknowledged.
static SETTLED: AtomicU64 = AtomicU64::new(0);

/// What the meters count from.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Measures how long a stage works, what is under way included.
#[derive(Debug)]
pub struct Meter {
    name: &'static str,
    /// So many batches may be worked on at once.
    places: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many works are under way.
    under_way: u32,
    /// The ends of all works that have ended, less the begins of all that have begun, in nanoseconds.
    balance: i128,
}

impl Meter {
    const fn new(name: &'static str, places: u32) -> Self {
        Self {
            name,
            places,
            state: Mutex::new(State {
                under_way: 0,
                balance: 0,
            }),
        }
    }

    /// Measures what is done until the answer is dropped.
    pub fn begin(&self) -> Working<'_> {
        let mut state = self.state();
        state.under_way += 1;
        state.balance -= now();
        drop(state);
        Working {
            meter: self,
            began: Instant::now(),
        }
    }

    /// Measures a piece of work.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let _working = self.begin();
        work.await
    }

    /// The sum of all works so far.
    fn worked(&self) -> Duration {
        let state = self.state();
        let nanoseconds = state.balance + i128::from(state.under_way) * now();
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> i128 {
    // It counts in nanoseconds since the process began: far from what 64 bits hold.
    BEGAN.elapsed().as_nanos() as i128
}

/// A stage works.
#[derive(Debug)]
#[must_use = "what is measured ends when this is dropped"]
pub struct Working<'a> {
    meter: &'a Meter,
    began: Instant,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut state = self.meter.state();
        state.under_way -= 1;
        state.balance += now();
        drop(state);
        metrics::stage(self.meter.name, self.began.elapsed());
    }
}

/// Events have settled.
pub fn settled(events: usize) {
    SETTLED.fetch_add(events as u64, Relaxed);
}

/// What the meters say at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    at: Duration,
    settled: u64,
    worked: [Duration; STAGES],
}

impl Look {
    /// Now.
    pub fn now() -> Self {
        Self {
            at: BEGAN.elapsed(),
            settled: SETTLED.load(Relaxed),
            worked: ALL.map(Meter::worked),
        }
    }

    /// Time since an earlier look.
    pub fn since(&self, earlier: &Self) -> Duration {
        self.at.saturating_sub(earlier.at)
    }

    /// Events that have settled in all.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Events that have settled since an earlier look, a second.
    pub fn settled_per_s(&self, earlier: &Self) -> f64 {
        let seconds = self.since(earlier).as_secs_f64();
        if seconds > 0.0 {
            (self.settled - earlier.settled) as f64 / seconds
        } else {
            0.0
        }
    }

    /// The share of the time since an earlier look that each stage worked, of what all its places could have: 0 to 1.
    pub fn shares(&self, earlier: &Self) -> impl Iterator<Item = (&'static str, f64)> {
        let possible = self.since(earlier).as_secs_f64();
        let worked = self.worked.into_iter().zip(earlier.worked);
        let shares = ALL.into_iter().zip(worked).map(move |(meter, (now, then))| {
            let worked = now.saturating_sub(then).as_secs_f64();
            let share = worked / (possible * f64::from(meter.places)).max(f64::EPSILON);
            (meter.name, share.min(1.0))
        });
        shares.collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin_for(time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn work_counts_from_its_begin_and_as_often_as_it_is_done_at_once() {
        const STEP: Duration = Duration::from_millis(20);
        let meter = Meter::new("test", 2);
        assert_eq!(meter.worked(), Duration::ZERO);
        let first = meter.begin();
        spin_for(STEP);
        let so_far = meter.worked();
        assert!(so_far >= STEP, "work under way counts: {so_far:?}");
        let second = meter.begin();
        spin_for(STEP);
        drop((first, second));
        let done = meter.worked();
        assert!(done >= STEP * 3, "two at once count twice: {done:?}");
        spin_for(STEP);
        assert_eq!(meter.worked(), done, "nothing is done meanwhile");
    }

    #[test]
    fn a_share_is_of_all_places() {
        let look = |at: u64, land: u64| Look {
            at: Duration::from_secs(at),
            settled: at * 100,
            worked: [0, 0, 0, land, 0].map(Duration::from_secs),
        };
        let (then, now) = (look(10, 5), look(20, 15));
        let shares: Vec<_> = now.shares(&then).collect();
        assert_eq!(shares[3], ("land", 0.5));
        assert_eq!(shares[0], ("full", 0.0));
        assert!((now.settled_per_s(&then) - 100.0).abs() < 1e-9);
        // Two looks at the same moment.
        assert!(now.shares(&now).all(|(_, share)| share < 1e-9) && now.settled_per_s(&now) < 1e-9);
    }
}
