//! Taking over what dead consumers left behind: when, and from where.

use std::time::{Duration, Instant};

use stream_reply::StreamId;

/// When the next pass is due and where it goes on.
#[derive(Debug)]
pub(super) struct Claims {
    interval: Duration,
    idle: Duration,
    next: Instant,
    cursors: Vec<StreamId>,
}

impl Claims {
    /// Pages of one pass; the next pass goes on where it stopped.
    pub(super) const PAGES: usize = 100;

    pub(super) fn new(interval: Duration, idle: Duration) -> Self {
        Self {
            interval,
            idle,
            next: Instant::now() + interval,
            cursors: Vec::new(),
        }
    }

    pub(super) fn due(&self) -> bool {
        Instant::now() >= self.next
    }

    pub(super) fn done(&mut self) {
        self.next = Instant::now() + self.interval;
    }

    pub(super) fn idle_ms(&self) -> String {
        self.idle.as_millis().to_string()
    }

    pub(super) fn cursor(&self, stream: usize) -> StreamId {
        self.cursors.get(stream).copied().unwrap_or_default()
    }

    pub(super) fn continue_at(&mut self, stream: usize, cursor: StreamId) {
        if self.cursors.len() <= stream {
            self.cursors.resize(stream + 1, StreamId::default());
        }
        self.cursors[stream] = cursor;
    }
}
