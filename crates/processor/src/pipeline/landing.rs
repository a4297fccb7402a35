//! The landing stage's loop: joins batches into inserts, and lands them several at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::identity::Resolved;
use crate::intake::Ledger;
use crate::runtime::task::Task;
use crate::traces;
use crate::warehouse::plan::Planner;

use super::land::Lander;
use super::pack::{Pack, PackBounds};
use super::settle::KeysBeingSet;
use super::stages::ended;

/// Packs whose rows may be inserted at the same time.
const PLACES: u32 = 2;
/// A loop that waits for batches shows life this often.
const BEAT: Duration = Duration::from_secs(5);

/// The stage.
pub(crate) struct Landing {
    /// Lands a pack.
    pub lander: Arc<Lander>,
    /// Says whether reading waits for something to land.
    pub ledger: Arc<Ledger>,
    /// What is inserted at once.
    pub bounds: PackBounds,
    /// What the loop works under.
    pub task: Task,
}

/// A batch whose person keys are being set.
struct Arrived {
    batch: Box<Resolved>,
    keys: Option<KeysBeingSet>,
}

/// What the loop has to do next.
enum Step {
    Batch(Option<Box<Resolved>>),
    Place(OwnedSemaphorePermit),
    Landed(Result<bool, JoinError>),
    /// Reading waits, and nothing is landing: what there is, is to land.
    NoMoreComes,
    Tick,
}

impl Landing {
    /// Runs until the stage before has ended, then lands what is left. `false` when a store refuses a statement.
    pub(crate) async fn run(self, mut batches: mpsc::Receiver<Resolved>) -> bool {
        let places = Arc::new(Semaphore::new(PLACES as usize));
        let mut planner = Planner::default();
        let mut landing: JoinSet<bool> = JoinSet::new();
        let mut pack: Option<Pack> = None;
        // Too large to be inserted with the pack before it.
        let mut next: Option<Arrived> = None;
        let (mut fine, mut no_more_comes, mut has_ended) = (true, false, false);
        while fine {
            if pack.is_none() {
                no_more_comes = false;
                pack = next.take().map(|first| self.pack(first));
            }
            if has_ended && pack.is_none() {
                break;
            }
            let is_due = has_ended
                || next.is_some()
                || pack.as_ref().is_some_and(|pack| pack.is_due() || no_more_comes);
            // A pack that waits for a place grows meanwhile.
            let takes_more = !has_ended && next.is_none() && !pack.as_ref().is_some_and(Pack::is_full);
            let step = tokio::select! {
                biased;
                place = places.clone().acquire_owned(), if is_due && pack.is_some() => match place {
                    Ok(place) => Step::Place(place),
                    Err(_closed) => break,
                },
                batch = batches.recv(), if takes_more => Step::Batch(batch.map(Box::new)),
                Some(landed) = landing.join_next() => Step::Landed(landed),
                () = self.ledger.wait_until_full(), if pack.is_some() && landing.is_empty() && !is_due => Step::NoMoreComes,
                () = tokio::time::sleep_until(next_look(pack.as_ref(), is_due)) => Step::Tick,
            };
            match step {
                Step::Batch(batch) => {
                    self.task.pulse.beat();
                    has_ended = batch.is_none();
                    next = batch.and_then(|batch| self.add(&mut pack, self.arrived(batch)).err());
                }
                Step::Place(place) => {
                    if let Some(pack) = pack.take() {
                        let places = &places;
                        self.begin(pack, (place, places), &mut planner, &mut landing)
                            .await;
                    }
                }
                Step::Landed(landed) => fine &= landed.unwrap_or(false),
                Step::NoMoreComes => no_more_comes = true,
                // A pack that waits for a place shows no life of its own: those that are landing do.
                Step::Tick if is_due => {
                    tracing::debug!(pulse = self.task.pulse.name(), "landing is slow");
                }
                Step::Tick => self.task.pulse.beat(),
            }
        }
        while let Some(ended) = landing.join_next().await {
            fine &= ended.unwrap_or(false);
        }
        fine
    }

    /// Sees to a batch's person keys at once, however long its rows have to wait.
    fn arrived(&self, mut batch: Box<Resolved>) -> Arrived {
        let keys = std::mem::take(&mut batch.person_keys);
        let settler = &self.lander.settler;
        let keys = (!keys.is_empty()).then(|| {
            let span = batch.batch.trace.span(traces::PERSON_KEYS);
            settler.set_person_keys(keys, batch.asked_at, span)
        });
        Arrived { batch, keys }
    }

    fn pack(&self, first: Arrived) -> Pack {
        let mut pack = Pack::new(*first.batch, self.bounds);
        pack.waits_for(first.keys);
        pack
    }

    fn add(&self, pack: &mut Option<Pack>, arrived: Arrived) -> Result<(), Arrived> {
        let Arrived { batch, keys } = arrived;
        match pack {
            Some(pack) => {
                if let Err(batch) = pack.join(batch) {
                    return Err(Arrived { batch, keys });
                }
                pack.waits_for(keys);
            }
            None if batch.batch.is_empty() && batch.failed_alone.is_empty() => {}
            None => *pack = Some(self.pack(Arrived { batch, keys })),
        }
        Ok(())
    }

    /// Lands a pack beside others, unless it repeats what earlier ones wrote, or is large. What was delivered before needs
    /// no such care: no entry is in two batches, and other instances' inserts are waited for.
    async fn begin(
        &self,
        pack: Pack,
        (place, places): (OwnedSemaphorePermit, &Arc<Semaphore>),
        planner: &mut Planner,
        landing: &mut JoinSet<bool>,
    ) {
        let is_large = pack.is_large();
        let (resolved, keys) = pack.into_parts();
        let plan = planner.plan(&resolved.batch);
        let others = if plan.repeats() || is_large {
            places.clone().acquire_many_owned(PLACES - 1).await.ok()
        } else {
            None
        };
        let (lander, task) = (self.lander.clone(), self.task.clone());
        landing.spawn(async move {
            let landed = lander.land(resolved, plan, (place, others), keys, &task).await;
            landed.map_or_else(|gave_up| ended(&gave_up), |()| true)
        });
    }
}

/// When to look again if nothing happens.
fn next_look(pack: Option<&Pack>, is_due: bool) -> Instant {
    let tick = Instant::now() + BEAT;
    match pack {
        Some(pack) if !is_due => pack.due_by_age().min(tick),
        _ => tick,
    }
}
