//! When dead letters are replayed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::complaint::Complaint;
use crate::runtime::gate::Gate;
use crate::runtime::outages;
use crate::runtime::task::Task;
use crate::stores::Store;
use crate::warehouse::STILL_RUNS;

use super::outcome::{Outcome, RunContext, Stopped};
use super::replayer::Replayer;
use super::selection::Selection;

/// How soon it is looked again whether letters are left.
const SOON_AGAIN: Duration = Duration::from_secs(5);

/// Replays dead letters until the drain begins: every interval, first thing after an outage, and soon again while some are
/// left.
pub(crate) async fn on_schedule(
    mut replayer: Replayer,
    interval: Duration,
    gate: Arc<Gate>,
    task: Task,
) -> bool {
    let mut next = tokio::time::Instant::now();
    let mut witnesses = Witnesses::default();
    let mut complaint = Complaint::default();
    loop {
        task.pulse.beat();
        tokio::select! {
            biased;
            () = task.shutdown.draining().cancelled() => return true,
            () = gate.letters_wanted() => {
                if !gate.is_shut() && let Err(error) = replayer.try_again().await {
                    tracing::debug!(%error, "the replay's circuit could not be closed");
                }
            }
            () = tokio::time::sleep_until(next) => {}
            () = tokio::time::sleep(SOON_AGAIN) => {
                // Another instance may have set aside what it cannot replay any more.
                match replayer.has_work().await {
                    Ok(false) => continue,
                    Err(error) if !error.is_wrong_type() => continue,
                    Ok(true) | Err(_) => {}
                }
            }
        }
        next = tokio::time::Instant::now() + interval;
        if !gate.lets_letters() {
            continue;
        }
        let witnesses = witnesses.since_last(replayer.taken(&gate).await);
        let context = RunContext {
            ignore_circuit: gate.is_shut() || !witnesses.is_empty(),
            witnesses,
            rest: interval,
            task: &task,
        };
        match replayer.run(&Selection::default(), &context, |_| {}).await {
            Ok(outcome) => {
                complaint = Complaint::default();
                if outcome.left_queue > 0 {
                    tracing::info!(
                        replayed = outcome.left_queue,
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
        task.pulse.operation_ended();
    }
}

/// Tells the gate what a run has shown of the stores.
fn tell(gate: &Gate, outcome: &Outcome) {
    match &outcome.stopped {
        Some(Stopped::TakesNone(error)) => {
            tracing::debug!(%error, "no letter was taken: a batch is to show whether the store works");
            gate.letters_left();
        }
        // Letters wait for it, and a batch that was never sent before does not.
        Some(Stopped::Away(error)) if error.code == STILL_RUNS => {
            tracing::debug!(%error, "letters wait for an insert: a batch is to show whether the store works");
            gate.letters_left();
        }
        Some(Stopped::Away(error)) => {
            tracing::debug!(%error, "a store failed while replaying");
            gate.letters_failed();
        }
        Some(stopped) => tracing::debug!(%stopped, "replaying ended early"),
        // Their entries have to land first, and do so when the stages go on; or a batch shows whether the stores work.
        None if outcome.pending + outcome.failing > 0 => gate.letters_left(),
        None if outcome.left_queue > outcome.rejected => {
            outages::is_back(Store::Postgres);
            outages::is_back(Store::ClickHouse);
            gate.letters_landed();
        }
        None => {}
    }
}

/// How often the stores had taken live work of each instance when a run began.
#[derive(Default)]
struct Witnesses {
    before: HashMap<String, [u64; 2]>,
}

impl Witnesses {
    /// The stores that have taken live work since the last run. What is not known of an instance from before shows
    /// nothing.
    fn since_last(&mut self, now: HashMap<String, [u64; 2]>) -> BTreeSet<Store> {
        let before = std::mem::replace(&mut self.before, now);
        let has_taken = |store: usize| {
            self.before.iter().any(|(instance, now)| {
                before
                    .get(instance)
                    .is_some_and(|before| before[store] < now[store])
            })
        };
        let stores = [Store::Postgres, Store::ClickHouse].into_iter().enumerate();
        stores
            .filter_map(|(n, store)| has_taken(n).then_some(store))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(counts: &[(&str, [u64; 2])]) -> HashMap<String, [u64; 2]> {
        counts
            .iter()
            .map(|(name, counts)| ((*name).to_owned(), *counts))
            .collect()
    }

    #[test]
    fn a_store_is_a_witness_when_an_instance_known_before_has_given_it_more() {
        let mut witnesses = Witnesses::default();
        assert!(witnesses.since_last(taken(&[("a", [5, 5])])).is_empty());
        let more = witnesses.since_last(taken(&[("a", [5, 6]), ("b", [9, 9])]));
        assert_eq!(more, BTreeSet::from([Store::ClickHouse]));
        let begun_anew = witnesses.since_last(taken(&[("a", [1, 1]), ("b", [10, 9])]));
        assert_eq!(begun_anew, BTreeSet::from([Store::Postgres]));
    }
}
