//! Two-step stop: first intake ends and what is held drains, then, at the limit, whatever still waits gives up.

use std::io;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::signals;
use crate::logs::writer::LOG;

/// Longest that an end at once waits for the reader of the log: a healthy reader needs much less.
const LAST_LINE: Duration = Duration::from_millis(100);

/// Tells loops to stop. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abandon: CancellationToken,
}

impl Shutdown {
    /// Cancelled when nothing new may be taken; what is held is still finished.
    pub fn draining(&self) -> &CancellationToken {
        &self.drain
    }

    /// Cancelled when the drain's time is up: waits and retries end, what is held stays pending.
    pub fn abandoned(&self) -> &CancellationToken {
        &self.abandon
    }

    /// For loops that go on until what is held has drained: their drain begins with [`Shutdown::drain`] of this one.
    #[must_use]
    pub fn behind(&self) -> Self {
        Self {
            drain: CancellationToken::new(),
            abandon: self.abandon.clone(),
        }
    }

    /// Starts the drain.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ends the drain.
    pub fn abandon(&self) {
        self.drain.cancel();
        self.abandon.cancel();
    }

    /// Starts the drain at a signal that asks to stop, ends it at the limit, and exits the process at a second signal.
    /// A thread of its own sees to that, whatever the others do or wait for.
    ///
    /// # Errors
    /// When the process cannot install signal handlers.
    pub fn on_signals(&self, limit: Duration) -> io::Result<()> {
        let shutdown = self.clone();
        signals::watch(async move |mut signals| {
            let signal = signals.next().await;
            tracing::info!(
                signal,
                limit_ms = limit.as_millis() as u64,
                "stopping: draining what is held"
            );
            shutdown.drain();
            let second = if let Ok(second) = tokio::time::timeout(limit, signals.next()).await {
                second
            } else {
                shutdown.abandon();
                signals.next().await
            };
            tracing::warn!(
                signal = second,
                "second signal: exiting at once, what is held stays pending in the stream"
            );
            LOG.flush(LAST_LINE);
            std::process::exit(1);
        })
    }
}
