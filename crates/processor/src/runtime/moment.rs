//! Points in time whose distance also counts what a machine slept through.
//!
//! A monotonic clock stands still while a machine is suspended, and some hypervisors stop the boot time clock as well. The
//! wall clock goes on, but may be set. So both are read, and the larger distance counts: too large costs a question.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Goes on while the machine is suspended.
#[cfg(any(target_os = "linux", target_os = "android"))]
const RUNNING: ClockId = ClockId::CLOCK_BOOTTIME;
/// Elsewhere the monotonic clock itself goes on.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const RUNNING: ClockId = ClockId::CLOCK_MONOTONIC;

/// A point in time. As small as it can be: each entry that is held has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds.
    running: u64,
    /// Nanoseconds.
    wall: u64,
}

/// Nanoseconds, enough for 500 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        // A clock that cannot be read does not move: the other one is left.
        let read = |clock| clock_gettime(clock).map_or(0, |time| nanoseconds(time.into()));
        Self {
            running: read(RUNNING),
            wall: read(ClockId::CLOCK_REALTIME),
        }
    }

    /// Before now.
    #[cfg(test)]
    pub fn ago(by: Duration) -> Self {
        let (now, by) = (Self::now(), nanoseconds(by));
        Self {
            running: now.running.saturating_sub(by),
            wall: now.wall.saturating_sub(by),
        }
    }

    /// How long ago this was.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// How long before this `earlier` was.
    pub fn since(self, earlier: Self) -> Duration {
        let running = self.running.saturating_sub(earlier.running);
        let further = running.max(self.wall.saturating_sub(earlier.wall));
        Duration::from_nanos(further)
    }

    /// The earlier of two, by each clock.
    #[must_use]
    pub fn or_earlier(self, other: Self) -> Self {
        Self {
            running: self.running.min(other.running),
            wall: self.wall.min(other.wall),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_went_further_counts() {
        let at = |running, wall| Moment {
            running: nanoseconds(Duration::from_secs(running)),
            wall: nanoseconds(Duration::from_secs(wall)),
        };
        let began = at(10, 1_000);
        assert_eq!(at(15, 1_005).since(began), Duration::from_secs(5));
        // Both of the process's clocks stood still.
        assert_eq!(at(10, 1_090).since(began), Duration::from_secs(90));
        // The wall clock was set back.
        assert_eq!(at(70, 900).since(began), Duration::from_mins(1));
        assert!(Moment::now().elapsed() < Duration::from_secs(5));
    }
}
