//! A destination that takes nothing: what was not sent, and what is said of it.

use std::time::{Duration, Instant};

use crate::metrics;

/// How soon it is said again.
const AGAIN: Duration = Duration::from_mins(5);
/// Characters of an error that are said: some of it is the destination's own words.
const LONGEST: usize = 200;

/// Why something was not sent.
#[derive(Debug)]
pub(super) enum NotSent {
    /// Another attempt may help.
    Now(String),
    /// It is refused.
    Ever(String),
}

/// What a destination has left out of what it took.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Spans or data points.
    pub(super) items: usize,
    /// Why.
    pub(super) said: String,
}

/// Says, once and again now and then, that a destination takes nothing; and when it does again.
pub(super) struct Trouble {
    destination: &'static str,
    signal: &'static str,
    address: String,
    said: Option<Instant>,
}

impl Trouble {
    /// None yet. The `address` is said, and holds no secret.
    pub(super) fn new(destination: &'static str, signal: &'static str, address: String) -> Self {
        Self {
            destination,
            signal,
            address,
            said: None,
        }
    }

    pub(super) fn failed(&mut self, error: &str) {
        if self.said.is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        self.said = Some(Instant::now());
        let error: String = error.chars().take(LONGEST).collect();
        let (destination, signal, address) = (self.destination, self.signal, &self.address);
        tracing::warn!(
            destination,
            signal,
            address,
            error,
            "telemetry is not delivered: events are processed as usual"
        );
    }

    pub(super) fn succeeded(&mut self) {
        if self.said.take().is_some() {
            let (destination, signal) = (self.destination, self.signal);
            tracing::info!(destination, signal, "telemetry is delivered again");
        }
    }
}

/// Notes that something was dropped.
pub(super) fn dropped(destination: &'static str, signal: &'static str, items: usize) {
    metrics::telemetry_dropped(destination, signal, items);
}
