//! What everybody waits at while a store is away: reading stops, batches stand still, one probe at a time goes on.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::pulse::Pulse;
use super::shutdown::Shutdown;

/// First pause between two probes; it doubles.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Open, unless a store was found to be away.
#[derive(Debug)]
pub struct Gate {
    shut: watch::Sender<bool>,
    opened: Notify,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            shut: watch::Sender::new(false),
            opened: Notify::new(),
        }
    }
}

impl Gate {
    /// A store is away.
    pub fn shut(&self) {
        if !self.shut.send_replace(true) {
            tracing::warn!("reading pauses until all stores answer");
        }
    }

    /// Whether a store is away.
    pub fn is_shut(&self) -> bool {
        *self.shut.borrow()
    }

    /// Waits until the gate is open, or the drain begins: then there is nothing to wait for.
    pub async fn pass(&self, pulse: &Pulse, shutdown: &Shutdown) {
        let mut shut = self.shut.subscribe();
        while *shut.borrow_and_update() {
            pulse.beat();
            tokio::select! {
                () = shutdown.draining().cancelled() => return,
                _ = shut.changed() => {}
                () = tokio::time::sleep(Duration::from_secs(5)) => {}
            }
        }
    }

    /// Waits until the gate has been opened after an outage.
    pub async fn opened(&self) {
        self.opened.notified().await;
    }

    /// While the gate is shut, asks whether the stores answer, and opens it when they do.
    pub async fn watch<F: Future<Output = bool>>(
        &self,
        mut probe: impl FnMut() -> F,
        pulse: &Pulse,
        stop: &CancellationToken,
    ) {
        let mut shut = self.shut.subscribe();
        let mut pause = SHORTEST_PAUSE;
        loop {
            pulse.alive_for(Duration::from_mins(1));
            if *shut.borrow_and_update() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
                if probe().await {
                    self.shut.send_replace(false);
                    self.opened.notify_one();
                    tracing::info!("all stores answer: reading goes on");
                }
            } else {
                pause = SHORTEST_PAUSE;
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = shut.changed() => {}
                    () = tokio::time::sleep(Duration::from_secs(5)) => {}
                }
            }
        }
    }
}
