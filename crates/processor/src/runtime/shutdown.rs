//! Two-step stop: first intake ends and what is held drains, then, at the limit, whatever still waits gives up.

use std::io;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::signals;
use crate::logs::writer::LOG;

/// Longest that an end at once waits for whoever reads the log: a healthy reader needs much less.
const LAST_LINE: Duration = Duration::from_millis(100);

/// Tells loops to stop. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abandon: CancellationToken,
    patience: Patience,
}

/// How often a failing operation is repeated before it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Patience {
    /// Until the store is back.
    #[default]
    Endless,
    /// As often as the operation's preset says.
    Preset,
    /// Not at all.
    Once,
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

    /// The same, for operations that are to be given up when their preset is exhausted rather than repeated until the
    /// store is back.
    #[must_use]
    pub fn within_presets(&self) -> Self {
        Self {
            patience: Patience::Preset,
            ..self.clone()
        }
    }

    /// The same, for operations that are to be tried a single time.
    #[must_use]
    pub fn once(&self) -> Self {
        Self {
            patience: Patience::Once,
            ..self.clone()
        }
    }

    /// How often a failing operation is repeated.
    pub fn patience(&self) -> Patience {
        self.patience
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
