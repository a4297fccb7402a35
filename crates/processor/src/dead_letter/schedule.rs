//! When dead letters are replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::complaint::Complaint;
use crate::runtime::gate::Gate;
use crate::runtime::pulse::Pulse;
use crate::runtime::retry;
use crate::runtime::shutdown::Shutdown;
use crate::stores::Store;

use super::replay::{Outcome, Replayer, RunContext, Selection, Stopped};

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
    let mut witnesses = Witnesses::default();
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
        let witnesses = witnesses.since_last(&gate);
        let context = RunContext {
            ignore_circuit: gate.is_shut() || !witnesses.is_empty(),
            witnesses,
            rest: interval,
            pulse: &pulse,
            shutdown: &shutdown,
        };
        match replayer.run(&Selection::default(), &context, |_| {}).await {
            Ok(outcome) => {
                complaint = Complaint::default();
                if outcome.settled > 0 {
                    tracing::info!(
                        replayed = outcome.settled,
                        rejected = outcome.rejected,
                        "dead letters replayed"
                    );
                }
                tell(&gate, &outcome);
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

/// Tells the gate what a run has shown of the stores.
fn tell(gate: &Gate, outcome: &Outcome) {
    match &outcome.stopped {
        Some(Stopped::TakesNone(error)) => {
            tracing::debug!(%error, "no letter was taken: a batch is to show whether the store works");
            gate.letters_left();
        }
        Some(Stopped::Away(error)) => {
            tracing::debug!(%error, "a store failed while replaying");
            gate.letters_failed();
        }
        Some(stopped) => tracing::debug!(%stopped, "replaying ended early"),
        // Their entries have to land first, and do so when the stages go on; or a batch shows whether the stores work.
        None if outcome.pending + outcome.failing > 0 => gate.letters_left(),
        None if outcome.settled > outcome.rejected => {
            retry::is_back(Store::Postgres);
            retry::is_back(Store::ClickHouse);
            gate.letters_landed();
        }
        None => {}
    }
}

/// How often the stores had taken live work when a run began.
#[derive(Default)]
struct Witnesses {
    before: BTreeMap<Store, u64>,
}

impl Witnesses {
    /// The stores that have taken live work since the last run.
    fn since_last(&mut self, gate: &Gate) -> BTreeSet<Store> {
        let has_taken = |store: &Store| {
            let now = gate.times_taken(*store);
            self.before.insert(*store, now).is_some_and(|before| before < now)
        };
        [Store::Postgres, Store::ClickHouse]
            .into_iter()
            .filter(has_taken)
            .collect()
    }
}
