//! A destination that takes nothing: what was not sent, and what is said of it.

use crate::metrics;
use crate::runtime::complaint::Complaint;

/// Why something was not sent.
#[derive(Debug)]
pub(super) enum NotSent {
    /// Another attempt may help.
    Now(String),
    /// It is refused.
    Ever(String),
}

/// Says, once and again now and then, that a destination takes nothing; and when it does again.
pub(super) struct Trouble {
    destination: &'static str,
    signal: &'static str,
    complaint: Complaint,
    is_known: bool,
}

impl Trouble {
    pub(super) fn new(destination: &'static str, signal: &'static str) -> Self {
        Self {
            destination,
            signal,
            complaint: Complaint::new(),
            is_known: false,
        }
    }

    pub(super) fn failed(&mut self, error: &str) {
        self.is_known = true;
        let (destination, signal) = (self.destination, self.signal);
        if self.complaint.is_news(error) {
            tracing::warn!(
                destination,
                signal,
                error,
                "telemetry cannot be sent: events are not concerned"
            );
        }
    }

    pub(super) fn succeeded(&mut self) {
        if std::mem::take(&mut self.is_known) {
            self.complaint = Complaint::new();
            let (destination, signal) = (self.destination, self.signal);
            tracing::info!(destination, signal, "telemetry is sent again");
        }
    }
}

/// Notes that something was dropped.
pub(super) fn dropped(destination: &'static str, signal: &'static str, items: usize) {
    metrics::telemetry_dropped(destination, signal, items);
}
