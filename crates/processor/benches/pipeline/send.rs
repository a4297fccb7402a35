//! Events into the stream: all at once, or so many a second whatever becomes of them.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use sample_events::LoadEntry;
use tokio::time::Instant;

use crate::load::{Events, set};
use crate::world::STREAM;

/// Entries in one write.
const PIPELINE: usize = 1000;
/// How often what is due is sent.
const TICK: Duration = Duration::from_millis(5);

/// Appends so many entries.
pub(crate) async fn all(redis: &mut MultiplexedConnection, events: &mut Events, count: usize) {
    let mut left = count;
    while left > 0 {
        let now = left.min(PIPELINE);
        append(redis, events.by_ref().take(now)).await;
        left -= now;
    }
}

async fn append(redis: &mut MultiplexedConnection, entries: impl Iterator<Item = LoadEntry>) {
    let mut pipeline = redis::pipe();
    for entry in entries {
        let command = pipeline.cmd("XADD").arg(STREAM).arg("*");
        for (name, value) in &entry {
            command.arg(*name).arg(value.as_ref());
        }
        command.ignore();
    }
    pipeline.query_async::<()>(redis).await.unwrap();
}

/// A schedule that is kept whatever happens: an event's timestamp is when it was due, so a sender that is held up makes
/// events older, not fewer.
pub(crate) struct Schedule {
    per_second: u64,
    begun: Instant,
    /// The same moment on the clock that timestamps are in.
    begun_ms: i64,
    sent: u64,
}

impl Schedule {
    pub(crate) fn begin(per_second: u32) -> Self {
        Self {
            per_second: per_second.into(),
            begun: Instant::now(),
            begun_ms: jiff::Timestamp::now().as_millisecond(),
            sent: 0,
        }
    }

    pub(crate) fn begun_ms(&self) -> i64 {
        self.begun_ms
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends what becomes due until `until` says so, which is asked at every tick.
    pub(crate) async fn send(
        &mut self,
        redis: &mut MultiplexedConnection,
        events: &mut Events,
        until: impl Fn() -> bool,
    ) {
        let mut tick = tokio::time::interval(TICK);
        while !until() {
            tick.tick().await;
            let elapsed = self.begun.elapsed().as_micros() as u64;
            let due = elapsed * self.per_second / 1_000_000;
            while self.sent < due {
                let now = (due - self.sent).min(PIPELINE as u64);
                let first = self.sent;
                let entries = events
                    .by_ref()
                    .take(now as usize)
                    .enumerate()
                    .map(|(n, mut entry)| {
                        let at = (first + n as u64) * 1000 / self.per_second;
                        let at = jiff::Timestamp::from_millisecond(self.begun_ms + at as i64).unwrap();
                        set(&mut entry, "timestamp", format!("{at:.3}"));
                        entry
                    });
                append(redis, entries).await;
                self.sent += now;
            }
        }
    }
}
