//! The loops of the identity and landing stages: batches in order, each loop with its sign of life.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::event::Batch;
use crate::identity::{Identity, Resolved};
use crate::runtime::gate::{Fate, Trials};
use crate::runtime::retry::GaveUp;
use crate::runtime::task::Task;
use crate::stores::{Store, StoreError};
use crate::warehouse::plan::{Plan, Planner};

use super::aside::Aside;
use super::land::Lander;

/// Batches that may land at the same time.
const LANDING: u32 = 2;

/// The identity stage's loop: in order, one batch at a time. A batch that PostgreSQL does not take is set aside.
pub(crate) async fn identify(
    mut identity: Identity,
    aside: Arc<Aside>,
    mut batches: mpsc::Receiver<Batch>,
    out: mpsc::Sender<(Resolved, Plan)>,
    task: Task,
) -> bool {
    let mut planner = Planner::default();
    let impatient = task.within_presets();
    while let Some(mut batch) = next(&mut batches, &task).await {
        let mut trials = Trials::default();
        loop {
            let admission = aside.gate.pass(Store::Postgres, &task).await;
            match identity.resolve(batch, &impatient).await {
                Ok(resolved) => {
                    if resolved.wrote {
                        aside.gate.took(Store::Postgres);
                        admission.succeeded();
                    } else {
                        // Not to be held while the batch waits for the next stage: a trial there may wait for this one.
                        drop(admission);
                    }
                    let plan = planner.plan(&resolved.batch);
                    if hand_on(&out, (resolved, plan), &task).await.is_err() {
                        return true;
                    }
                    break;
                }
                Err((refused, failure)) => {
                    batch = *refused;
                    let fate = aside.not_taken(&mut batch, None, failure, admission, &mut trials, &task);
                    match fate.await {
                        Ok(Fate::SetAside) => break,
                        Ok(Fate::Held) => {}
                        Err(gave_up) => return ended(&gave_up),
                    }
                }
            }
        }
    }
    true
}

/// The landing stage's loop: several batches at a time, unless one repeats what earlier ones wrote. What was
/// delivered before needs no such care: no entry is in two batches, and other instances' inserts are waited for.
pub(crate) async fn land(
    lander: Arc<Lander>,
    mut resolved: mpsc::Receiver<(Resolved, Plan)>,
    task: Task,
) -> bool {
    let places = Arc::new(Semaphore::new(LANDING as usize));
    let mut landing: JoinSet<bool> = JoinSet::new();
    let mut fine = true;
    while let Some((resolved, plan)) = next(&mut resolved, &task).await {
        let wanted = if plan.repeats() { LANDING } else { 1 };
        let Some(place) = wait_for_place(&places, wanted, &task).await else {
            break;
        };
        let (lander, task) = (lander.clone(), task.clone());
        landing.spawn(async move {
            let landed = lander.land(resolved, plan, &task).await;
            drop(place);
            landed.map_or_else(|gave_up| ended(&gave_up), |()| true)
        });
        while let Some(ended) = landing.try_join_next() {
            fine &= ended.unwrap_or(false);
        }
        if !fine {
            break;
        }
    }
    while let Some(ended) = landing.join_next().await {
        fine &= ended.unwrap_or(false);
    }
    fine
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

async fn wait_for_place(places: &Arc<Semaphore>, wanted: u32, task: &Task) -> Option<OwnedSemaphorePermit> {
    // One future for the whole wait: a fresh one would lose its place in the queue.
    let place = places.clone().acquire_many_owned(wanted);
    tokio::pin!(place);
    loop {
        tokio::select! {
            place = &mut place => return place.ok(),
            // The batches that are landing show their own life through the same pulse.
            () = tokio::time::sleep(Duration::from_mins(1)) => tracing::debug!(pulse = task.pulse.name(), "landing is slow"),
        }
    }
}

/// Says why a stage ended early; whether that is how it should be.
fn ended(gave_up: &GaveUp<StoreError>) -> bool {
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
