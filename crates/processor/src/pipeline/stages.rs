//! The identity stage's loop, and how a loop waits, hands on and ends early.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::event::Batch;
use crate::identity::{Identity, Resolved};
use crate::runtime::gate::{Fate, Trials};
use crate::runtime::retry::GaveUp;
use crate::runtime::task::Task;
use crate::runtime::work;
use crate::stores::{Store, StoreError};
use crate::{metrics, traces};

use super::aside::Aside;

/// The identity stage's loop: in order, one batch at a time. A batch that PostgreSQL does not take is set aside.
pub(crate) async fn identify(
    mut identity: Identity,
    aside: Arc<Aside>,
    mut batches: mpsc::Receiver<Batch>,
    out: mpsc::Sender<Resolved>,
    task: Task,
) -> bool {
    let impatient = task.within_presets();
    while let Some(mut batch) = next(&mut batches, &task).await {
        if batch.is_empty() {
            let nothing = Resolved::without_events(batch);
            if hand_on(&out, nothing, &task).await.is_err() {
                return true;
            }
            continue;
        }
        let mut trials = Trials::default();
        loop {
            let admission = aside.gate.pass(Store::Postgres, &task).await;
            let working = work::IDENTITY.begin();
            let span = batch.trace.span(traces::IDENTITY);
            let rejected = batch.rejects.len();
            metrics::resolving(batch.events.len());
            let resolved = span.around(identity.resolve(batch, &impatient)).await;
            metrics::resolving(0);
            drop(working);
            match resolved {
                Ok(resolved) => {
                    span.note(traces::MOVED, resolved.moved.len() as i64);
                    let more = resolved.batch.rejects.len().saturating_sub(rejected);
                    span.note(traces::REJECTED, more as i64);
                    drop(span);
                    if resolved.wrote {
                        aside.gate.took(Store::Postgres);
                        admission.succeeded();
                    } else {
                        // Not to be held while the batch waits for the next stage: a trial there may wait for this one.
                        drop(admission);
                    }
                    if hand_on(&out, resolved, &task).await.is_err() {
                        return true;
                    }
                    break;
                }
                Err((refused, failure)) => {
                    batch = *refused;
                    span.failed(&failure);
                    drop(span);
                    let fate = aside.not_taken(&mut batch, None, failure, admission, &mut trials, &task);
                    match fate.await {
                        Ok(Fate::SetAside) => {
                            // What waits for this batch must not wait on.
                            let nothing = Resolved::without_events(Batch::nothing(batch.more_follows));
                            if hand_on(&out, nothing, &task).await.is_err() {
                                return true;
                            }
                            break;
                        }
                        Ok(Fate::Held) => {}
                        Err(gave_up) => return ended(&gave_up),
                    }
                }
            }
        }
    }
    true
}

/// The next item. Waiting for one is legitimate.
async fn next<T>(items: &mut mpsc::Receiver<T>, task: &Task) -> Option<T> {
    loop {
        tokio::select! {
            item = items.recv() => {
                task.pulse.beat();
                return item;
            }
            () = tokio::time::sleep(Duration::from_secs(5)) => task.pulse.beat(),
        }
    }
}

/// Hands an item on. Waiting for the next stage is legitimate: it shows its own life.
async fn hand_on<T>(out: &mpsc::Sender<T>, item: T, task: &Task) -> Result<(), ()> {
    loop {
        tokio::select! {
            permit = out.reserve() => {
                permit.map_err(|_closed| ())?.send(item);
                return Ok(());
            }
            () = tokio::time::sleep(Duration::from_secs(5)) => task.pulse.beat(),
        }
    }
}

/// Says why a stage ended early; whether that is how it should be.
pub(super) fn ended(gave_up: &GaveUp<StoreError>) -> bool {
    match gave_up {
        GaveUp::Abandoned(_) | GaveUp::Away(_) | GaveUp::TakesNone(_) => {
            tracing::warn!(reason = %gave_up, "batch left pending");
            true
        }
        GaveUp::Poison(_) => {
            tracing::error!(reason = %gave_up, "a store refuses a statement: run `qurvo-processor check`");
            false
        }
    }
}
