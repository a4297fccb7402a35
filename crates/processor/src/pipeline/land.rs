//! Landing: a batch is settled, and only then acknowledged. What a store does not take is set aside instead, or held.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use crate::identity::Resolved;
use crate::runtime::gate::{Fate, Trials};
use crate::runtime::retry::GaveUp;
use crate::runtime::task::Task;
use crate::runtime::work;
use crate::stores::{Store, StoreError};
use crate::warehouse::plan::Plan;
use crate::{metrics, traces};

use super::aside::Aside;
use super::settle::{KeysBeingSet, Settler};

/// Everything landing needs.
pub(crate) struct Lander {
    /// Makes batches durable.
    pub settler: Arc<Settler>,
    /// Takes what a store does not.
    pub aside: Arc<Aside>,
}

impl Lander {
    /// Lands one batch, or sets it aside. Its `place` is given up when its rows are in, before it is acknowledged; by then
    /// its person `keys` are set as well.
    ///
    /// # Errors
    /// [`GaveUp`] at the drain's limit: what was not acknowledged stays pending.
    pub(crate) async fn land(
        &self,
        mut resolved: Resolved,
        plan: Plan,
        place: impl Send,
        keys: Vec<KeysBeingSet>,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        let landed = self.settle(&mut resolved, plan, place, keys, task).await;
        if let Err(gave_up) = &landed {
            resolved.batch.trace.failed(gave_up);
        }
        landed
    }

    async fn settle(
        &self,
        resolved: &mut Resolved,
        mut plan: Plan,
        place: impl Send,
        keys: Vec<KeysBeingSet>,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        resolved.batch.trace.note_where_it_lands();
        let within_presets = task.within_presets();
        let mut trials = Trials::default();
        loop {
            let admission = self.aside.gate.pass(Store::ClickHouse, task).await;
            let span = resolved.batch.trace.span(traces::LAND);
            let rejected = resolved.batch.rejects.len();
            let settled = self
                .settler
                .settle(resolved, &plan, &within_presets, task)
                .boxed();
            let working = work::LAND.begin();
            let settled = span.around(settled).await;
            drop(working);
            let more = resolved.batch.rejects.len().saturating_sub(rejected);
            span.note(traces::REJECTED, more as i64);
            match &settled {
                Ok(rows) => span.note(traces::ROWS, *rows as i64),
                Err(failure) => span.failed(failure),
            }
            drop(span);
            let failure = match settled {
                Ok(0) => break,
                Ok(_rows) => {
                    self.aside.gate.took(Store::ClickHouse);
                    admission.succeeded();
                    break;
                }
                Err(failure) => failure,
            };
            let Resolved { batch, persons, .. } = &mut *resolved;
            let fate = self
                .aside
                .not_taken(batch, Some(persons), failure, admission, &mut trials, task);
            if fate.await? == Fate::SetAside {
                all_ended(keys, task).await;
                return self.aside.add_alone(resolved, task).await;
            }
            // Letters may have been written without an answer, and be replayed at the same time.
            plan.look_up_all();
        }
        drop(place);
        all_ended(keys, task).await;
        self.aside.add_alone(resolved, task).await?;
        let span = resolved.batch.trace.span(traces::ACKNOWLEDGE);
        let acknowledged = span.around(self.aside.acknowledge(&resolved.batch, task));
        let left = work::ACKNOWLEDGE.during(acknowledged).await?;
        drop(span);
        count(resolved, left);
        work::settled(resolved.batch.events.len().saturating_sub(left));
        self.settler.catalogue.observe(&resolved.batch);
        resolved.batch.trace.scope(|| {
            tracing::debug!(
                events = resolved.batch.events.len(),
                rejected = resolved.batch.rejects.len(),
                moved = resolved.moved.len(),
                entries = resolved.batch.id_range().join(" to "),
                "batch settled"
            );
        });
        Ok(())
    }
}

/// Counts what has settled, but for entries that are another instance's; and how old each event is.
fn count(resolved: &Resolved, left: usize) {
    let events = &resolved.batch.events;
    metrics::settled(events.len().saturating_sub(left));
    if !metrics::are_counted() {
        return;
    }
    let now = jiff::Timestamp::now().as_millisecond();
    // Entries that came together stand together.
    for together in events.chunk_by(|a, b| a.source.id.ms == b.source.id.ms) {
        let age = now.saturating_sub_unsigned(together[0].source.id.ms);
        metrics::settled_at_age(Duration::from_millis(age.max(0).unsigned_abs()), together.len());
    }
}

async fn all_ended(keys: Vec<KeysBeingSet>, task: &Task) {
    for keys in keys {
        keys.ended(task).await;
    }
}
