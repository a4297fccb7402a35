//! Keeps what we hold ours: refreshes the idle time of entries held for long, so that no other consumer takes them
//! over while we wait for a store.

use std::time::Duration;

use crate::runtime::task::Task;
use crate::stores::StoreError;

use super::group;
use super::ownership::Ownership;

/// Ids refreshed between two signs of life.
const IDS_PER_ROUND_TRIP: usize = 500;
/// Longest that a command takes, one way or the other.
const LONGEST_COMMAND: Duration = Duration::from_secs(30);
/// A consumer with nothing pending is forgotten after this.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);

/// Refreshes ownership and forgets consumers that are long gone.
pub(crate) struct Keeper {
    /// What we hold, and who has it.
    pub ownership: Ownership,
}

impl Keeper {
    /// Runs until the drain is over: what is held during the drain must stay ours too.
    pub(crate) async fn run(mut self, task: Task) {
        let mut ticks = tokio::time::interval((self.ownership.claim_idle / 4).max(Duration::from_millis(50)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut rounds = 0u32;
        loop {
            tokio::select! {
                () = task.shutdown.draining().cancelled() => return,
                () = task.shutdown.abandoned().cancelled() => return,
                _ = ticks.tick() => {}
            }
            // Redis being away is no fault of this loop; the reader reports it.
            task.pulse.alive_for(LONGEST_COMMAND);
            if let Err(error) = self.round(rounds % 20 == 19, &task).await {
                tracing::debug!(%error, "ownership of held entries could not be refreshed");
            }
            rounds = rounds.wrapping_add(1);
        }
    }

    /// Each stream for itself: where one's server is away, what is held of the others stays ours.
    async fn round(&mut self, forget: bool, task: &Task) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for index in 0..self.ownership.streams.len() {
            let kept = self.keep(index as u16, forget, task).await;
            outcome = outcome.and(kept);
        }
        outcome
    }

    async fn keep(&self, index: u16, forget: bool, task: &Task) -> Result<(), StoreError> {
        let Ownership {
            redis,
            streams,
            ledger,
            consumer,
            claim_idle,
            ..
        } = &self.ownership;
        let stream = &streams[index as usize];
        // What was refreshed in the round before is refreshed in this one.
        let held = ledger.unconfirmed(index, *claim_idle / 8);
        for ids in held.chunks(IDS_PER_ROUND_TRIP) {
            task.pulse.alive_for(LONGEST_COMMAND);
            // What is no consumer's stays unconfirmed: its row is looked up.
            let _nobodys = self.ownership.refresh(index, ids).await?;
        }
        if forget {
            let idle_ms = ABANDONED_AFTER.as_millis() as u64;
            for name in group::remove_abandoned(redis, stream, consumer, idle_ms).await? {
                tracing::info!(
                    stream,
                    consumer = name,
                    "consumer idle for an hour removed from the group"
                );
            }
        }
        Ok(())
    }
}
