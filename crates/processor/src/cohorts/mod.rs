//! Cohorts: who is a member is computed on a schedule, in the order of their references, and shown only when complete.

mod blame;
mod context;
mod cycle;
mod due;
mod look;
mod members;
mod outcome;
mod plan;
mod progress;
mod registry;
mod run;

use std::sync::Arc;
use std::time::Duration;

pub use cycle::Cycle;
pub use due::{is_stale, is_waiting};
pub use look::{count_members, members};
pub use outcome::{LOCK, Outcome, Stopped};
pub use plan::Selection;
pub use progress::Progress;
pub use registry::{Cohort, Counts, Failing, Registry};

use crate::config::CohortConfig;
use crate::metrics;
use crate::runtime::gate::Gate;
use crate::runtime::task::Task;
use crate::traces::{self, Trace};

/// The cycle on its schedule, until the drain begins. While a store is away it waits.
pub async fn on_schedule(mut cycle: Cycle, settings: CohortConfig, gate: Arc<Gate>, task: Task) -> bool {
    let mut next = tokio::time::Instant::now() + settings.initial_delay;
    loop {
        task.pulse.beat();
        tokio::select! {
            biased;
            () = task.shutdown.draining().cancelled() => return true,
            () = tokio::time::sleep_until(next) => {}
            () = tokio::time::sleep(Duration::from_secs(5)) => continue,
        }
        next = tokio::time::Instant::now() + settings.interval;
        if gate.is_shut() {
            continue;
        }
        let log = |cohort: &Cohort, error: &str| {
            tracing::warn!(
                project = %cohort.project, cohort = %cohort.id, name = cohort.name, error,
                "cohort could not be computed: readers keep seeing its last membership"
            );
        };
        let trace = Trace::begin(traces::COHORTS);
        match trace.around(cycle.run(&Selection::Due, &task, log)).await {
            Ok(outcome) => {
                metrics::cohort_run_took(outcome.took);
                metrics::cohorts(outcome.computed.len(), outcome.failed.len());
                outcome.log();
            }
            Err(error) => {
                trace.failed(&error);
                tracing::warn!(%error, "cohort memberships could not be computed: tried again next time");
            }
        }
        task.pulse.operation_ended();
    }
}
