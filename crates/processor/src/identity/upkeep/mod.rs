//! What is done beside the stream, so that the three stores come to say the same.
//!
//! These loops beat while they work: every statement and request of theirs has a time limit of its own.

pub mod audit;
pub mod forget;
pub mod history;
pub mod inherited;
pub mod mover;
pub mod projects;
pub mod view;
mod walk;

use std::time::Duration;

use uuid::Uuid;

use crate::event::{DistinctId, ProjectId};
use crate::runtime::lock::Lock;
use crate::runtime::task::Task;
use crate::stores::StoreError;

use crate::identity::decision::properties::Limits;
use crate::identity::moved::Moved;
use crate::identity::publish::overrides::Publisher;
use crate::identity::upkeep::forget::Forgetter;
use crate::identity::upkeep::inherited::Inherited;
use crate::identity::upkeep::mover::Mover;

/// How often overrides that a crash left unpublished are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// How often merges are looked for that have distinct ids left over.
const MOVE_INTERVAL: Duration = Duration::from_secs(2);

/// So that not every instance publishes the same.
pub(crate) const LOCK: &str = "processor:sweep:lock";
/// Others wait this long for an instance that died while it held the lock…
const SWEEP_LOCK_TTL: Duration = Duration::from_secs(10);
/// …and look this soon whether it is free.
const LOCKED_AGAIN: Duration = Duration::from_secs(5);

/// Publishes overrides that a crash between two stores left behind, and forgets merges that are `memory_days` old.
pub async fn sweep(publisher: Publisher, memory_days: Option<i32>, task: Task) {
    let mut forgetter = Forgetter::new(publisher.postgres.clone(), memory_days);
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = task.shutdown.draining().cancelled() => return,
            _ = task.pulse.while_waiting(ticks.tick()) => {}
        }
        match task
            .pulse
            .while_waiting(sweep_once(&publisher, &mut forgetter, &task))
            .await
        {
            Ok(None) => ticks.reset_after(LOCKED_AGAIN),
            Ok(Some(0)) => {}
            Ok(Some(published)) => tracing::info!(published, "published overrides that were left behind"),
            Err(error) => tracing::debug!(%error, "left-behind overrides could not be published yet"),
        }
    }
}

/// Publishes all there are, and says how many; nothing when another instance is doing it. Then forgets some of what is old.
async fn sweep_once(
    publisher: &Publisher,
    forgetter: &mut Forgetter,
    task: &Task,
) -> Result<Option<usize>, StoreError> {
    let Some(lock) = Lock::acquire(&publisher.redis, LOCK, SWEEP_LOCK_TTL).await? else {
        return Ok(None);
    };
    let mut after = Moved {
        project: ProjectId(Uuid::nil()),
        distinct_id: DistinctId::default(),
        unseen_at: None,
    };
    let mut published = 0;
    let swept = loop {
        if task.is_draining() || !lock.is_held().await {
            break Ok(Some(published));
        }
        match publisher.sweep(&mut after).await {
            Ok(Some(some)) => published += some,
            Ok(None) => break Ok(Some(published)),
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = forgetter.step(&lock, task.shutdown.draining()).await {
        tracing::debug!(%error, "old merges are forgotten later");
    }
    if let Err(error) = lock.release().await {
        tracing::debug!(%error, "the sweep's lock could not be released: it ends by itself");
    }
    swept
}

/// Moves, piece by piece, what merges have left over of persons with very many distinct ids, and takes over what the
/// predecessor has begun.
pub async fn finish_merges(publisher: Publisher, limits: Limits, task: Task) {
    let mut inherited = Inherited::new(publisher.postgres.clone(), publisher.redis.clone(), limits);
    let mut mover = Mover::new(publisher);
    let mut ticks = tokio::time::interval(MOVE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = task.shutdown.draining().cancelled() => return,
            _ = task.pulse.while_waiting(ticks.tick()) => {}
        }
        if let Err(error) = task.pulse.while_waiting(inherited.step()).await {
            tracing::debug!(%error, "inherited merges could not be taken over yet");
        }
        let mut moved = 0;
        while !task.is_draining() {
            match task.pulse.while_waiting(mover.step()).await {
                Ok(Some(piece)) => moved += piece,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "merges are finished later");
                    break;
                }
            }
        }
        if moved > 0 {
            tracing::info!(moved, "moved distinct ids that merges had left over");
        }
    }
}
