//! What successive looks at the streams say together: how many entries come, are read and settle a second. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::facts::Stream;

/// Looks that are remembered: wider than any terminal.
const MOST: usize = 600;
/// A trend is told over so much time…
const OVER: Duration = Duration::from_secs(15);
/// …and not before so much has passed.
const LEAST: Duration = Duration::from_secs(4);

/// All streams together at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// By a clock that only goes forward.
    pub(super) at: Duration,
    /// Entries that ever came.
    pub(super) came: Option<u64>,
    /// Entries that were ever read and are not pending.
    pub(super) settled: Option<u64>,
    pub(super) unread: Option<u64>,
    pub(super) pending: Option<u64>,
}

impl Sample {
    pub(super) fn of(at: Duration, streams: &[Stream]) -> Self {
        let sum = |of: fn(&Stream) -> Option<u64>| streams.iter().map(of).sum::<Option<u64>>();
        Self {
            at,
            came: sum(|stream| Some(stream.read? + stream.lag?)),
            settled: sum(|stream| stream.read?.checked_sub(stream.pending?)),
            unread: sum(|stream| stream.lag),
            pending: sum(|stream| stream.pending),
        }
    }
}

/// How fast things change, a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Trend {
    pub(super) came: f64,
    pub(super) settled: f64,
    /// What is unread grows by so much.
    pub(super) unread: f64,
}

/// The latest looks.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Sample>);

impl History {
    pub(super) fn add(&mut self, sample: Sample) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// Lately. Nothing while too little is known.
    pub(super) fn trend(&self) -> Option<Trend> {
        let last = self.0.back()?;
        let first = self
            .0
            .iter()
            .find(|sample| last.at.saturating_sub(sample.at) <= OVER)?;
        let seconds = last.at.saturating_sub(first.at).as_secs_f64();
        (seconds >= LEAST.as_secs_f64()).then_some(())?;
        Some(Trend {
            came: per_s(first.came?, last.came?, seconds)?,
            settled: per_s(first.settled?, last.settled?, seconds)?,
            unread: (last.unread? as f64 - first.unread? as f64) / seconds,
        })
    }

    /// One number of each look, the newest last.
    pub(super) fn levels(&self, of: impl Fn(&Sample) -> Option<u64>) -> Vec<Option<u64>> {
        self.0.iter().map(of).collect()
    }

    /// How fast a number grew between each look and the one before, the newest last.
    pub(super) fn rates(&self, of: impl Fn(&Sample) -> Option<u64>) -> Vec<Option<u64>> {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        let rates = pairs.map(|(then, now)| {
            let seconds = now.at.saturating_sub(then.at).as_secs_f64();
            per_s(of(then)?, of(now)?, seconds).map(|rate| rate.round() as u64)
        });
        rates.collect()
    }
}

/// Nothing where the number fell: it began anew.
fn per_s(then: u64, now: u64, seconds: f64) -> Option<f64> {
    let grown = now.checked_sub(then)?;
    (seconds > 0.0).then(|| grown as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, came: u64, settled: u64) -> Sample {
        Sample {
            at: Duration::from_secs(at),
            came: Some(came),
            settled: Some(settled),
            unread: Some(came - settled),
            pending: Some(0),
        }
    }

    #[test]
    fn a_trend_is_told_over_the_last_seconds_once_there_are_some() {
        let mut history = History::default();
        for at in 0..4 {
            history.add(sample(at, 1_000 * at, 0));
            assert_eq!(history.trend(), None);
        }
        for at in 4..100 {
            history.add(sample(at, 1_000 * at, 400 * at));
        }
        let trend = history.trend().unwrap();
        assert_eq!((trend.came, trend.settled, trend.unread), (1_000.0, 400.0, 600.0));
        assert_eq!(history.rates(|sample| sample.settled).last(), Some(&Some(400)));
        assert_eq!(
            history.levels(|sample| sample.unread).last(),
            Some(&Some(600 * 99))
        );
    }

    #[test]
    fn a_counter_that_begins_anew_or_is_not_known_says_nothing() {
        let mut history = History::default();
        history.add(sample(0, 1_000, 1_000));
        history.add(sample(5, 10, 5));
        assert_eq!(history.trend(), None);
        assert_eq!(history.rates(|sample| sample.came), [None]);
        let unknown = Stream {
            length: Some(5),
            ..Stream::default()
        };
        assert_eq!(Sample::of(Duration::ZERO, &[unknown]).came, None);
    }

    #[test]
    fn streams_are_taken_together() {
        let stream = |read, lag, pending| Stream {
            length: Some(0),
            lag: Some(lag),
            pending: Some(pending),
            read: Some(read),
            ..Stream::default()
        };
        let sample = Sample::of(Duration::ZERO, &[stream(10, 2, 1), stream(20, 0, 5)]);
        assert_eq!(
            (sample.came, sample.settled, sample.unread, sample.pending),
            (Some(32), Some(24), Some(2), Some(6))
        );
    }
}
