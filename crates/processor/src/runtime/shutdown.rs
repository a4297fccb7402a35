//! Two-step stop: first intake ends and what is held drains, then, at the limit, whatever still waits gives up.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

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

    /// Waits for SIGTERM or SIGINT, starts the drain, and exits the process at a second signal.
    ///
    /// # Errors
    /// When the process cannot install signal handlers.
    pub fn on_signals(&self, limit: Duration) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::info!(
                limit_ms = limit.as_millis() as u64,
                "stopping: draining what is held"
            );
            shutdown.drain();
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = tokio::time::sleep(limit) => {
                    shutdown.abandon();
                    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                }
            }
            tracing::warn!("second signal: exiting at once, what is held stays pending in the stream");
            std::process::exit(1);
        });
        Ok(())
    }
}
