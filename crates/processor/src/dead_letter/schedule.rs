//! When dead letters are replayed.

use std::sync::Arc;
use std::time::Duration;

use crate::runtime::complaint::Complaint;
use crate::runtime::gate::Gate;
use crate::runtime::pulse::Pulse;
use crate::runtime::retry;
use crate::runtime::shutdown::Shutdown;
use crate::stores::Store;

use super::replay::{Replayer, Selection, Stopped};

/// How soon it is looked again whether letters are left.
const SOON_AGAIN: Duration = Duration::from_secs(5);

/// Replays dead letters until the drain begins: every interval, first thing after an outage, and soon again while some are
/// left.
pub async fn on_schedule(
    mut replayer: Replayer,
    interval: Duration,
    gate: Arc<Gate>,
    pulse: Pulse,
    shutdown: Shutdown,
) -> bool {
    let mut next = tokio::time::Instant::now();
    let mut complaint = Complaint::default();
    loop {
        pulse.beat();
        tokio::select! {
            biased;
            () = shutdown.draining().cancelled() => return true,
            () = gate.letters_wanted() => {
                if !gate.is_shut() && let Err(error) = replayer.try_again().await {
                    tracing::debug!(%error, "the replay's circuit could not be closed");
                }
            }
            () = tokio::time::sleep_until(next) => {}
            () = tokio::time::sleep(SOON_AGAIN) => {
                // Another instance may have set aside what it cannot replay any more.
                match replayer.waiting().await {
                    Ok(0) => continue,
                    Err(error) if !error.is_wrong_type() => continue,
                    Ok(_) | Err(_) => {}
                }
            }
        }
        next = tokio::time::Instant::now() + interval;
        if !gate.lets_letters() {
            continue;
        }
        let selection = Selection::default();
        match replayer
            .run(&selection, gate.is_shut(), &pulse, &shutdown, |_| {})
            .await
        {
            Ok(outcome) => {
                complaint = Complaint::default();
                if outcome.settled > 0 {
                    tracing::info!(
                        replayed = outcome.settled,
                        rejected = outcome.rejected,
                        "dead letters replayed"
                    );
                }
                match outcome.stopped {
                    Some(Stopped::Away(error)) => {
                        tracing::debug!(%error, "a store failed while replaying");
                        gate.letters_failed();
                    }
                    Some(stopped) => tracing::debug!(%stopped, "replaying ended early"),
                    // Their entries have to land first, and do so when the stages go on.
                    None if outcome.pending > 0 => gate.letters_wait(),
                    None if outcome.settled > outcome.rejected => {
                        retry::is_back(Store::Postgres);
                        retry::is_back(Store::ClickHouse);
                        gate.letters_landed();
                    }
                    None => {}
                }
            }
            Err(error) if error.is_wrong_type() => {
                if complaint.is_news(&error.message) {
                    tracing::error!(%error, "dead letters are not replayed until this is mended");
                }
            }
            Err(error) => tracing::debug!(%error, "dead letters could not be replayed yet"),
        }
        pulse.operation_ended();
    }
}
