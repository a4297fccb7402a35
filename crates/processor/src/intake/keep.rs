//! Keeps what we hold ours: refreshes the idle time of entries held for long, so that no other consumer takes them
//! over while we wait for a store.

use std::sync::Arc;
use std::time::Duration;

use crate::runtime::pulse::Pulse;
use crate::runtime::shutdown::Shutdown;
use crate::stores::{RedisConnection, StoreError};

use super::{GROUP, Ledger, group};

/// Ids in one `XCLAIM`.
const IDS_PER_COMMAND: usize = 1000;
/// Longest that a command takes, one way or the other.
const LONGEST_COMMAND: Duration = Duration::from_secs(30);
/// A consumer with nothing pending is forgotten after this.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);

/// Refreshes ownership and forgets consumers that are long gone.
pub struct Keeper {
    /// Shared connection.
    pub redis: RedisConnection,
    /// Stream names, in the ledger's order.
    pub streams: Arc<[String]>,
    /// Our name in the group.
    pub consumer: String,
    /// What we hold.
    pub ledger: Arc<Ledger>,
    /// After this long without acknowledgement others may take an entry over.
    pub claim_idle: Duration,
    /// Sign of life.
    pub pulse: Pulse,
}

impl Keeper {
    /// Runs until the drain is over: what is held during the drain must stay ours too.
    pub async fn run(mut self, shutdown: Shutdown, drained: tokio_util::sync::CancellationToken) {
        let mut ticks = tokio::time::interval((self.claim_idle / 4).max(Duration::from_millis(50)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut rounds = 0u32;
        loop {
            tokio::select! {
                () = drained.cancelled() => return,
                () = shutdown.abandoned().cancelled() => return,
                _ = ticks.tick() => {}
            }
            // Redis being away is no fault of this loop; the reader reports it.
            self.pulse.alive_for(LONGEST_COMMAND);
            if let Err(error) = self.round(rounds % 20 == 19).await {
                tracing::debug!(%error, "ownership of held entries could not be refreshed");
            }
            rounds = rounds.wrapping_add(1);
        }
    }

    async fn round(&mut self, forget: bool) -> Result<(), StoreError> {
        for (index, stream) in self.streams.clone().iter().enumerate() {
            let held = self.ledger.held_longer_than(index as u16, self.claim_idle / 4);
            for ids in held.chunks(IDS_PER_COMMAND) {
                self.pulse.alive_for(LONGEST_COMMAND);
                let mut command = redis::cmd("XCLAIM");
                command.arg(stream).arg(GROUP).arg(&self.consumer).arg(0);
                for id in ids {
                    command.arg(id.to_string());
                }
                // JUSTID leaves the delivery count alone: this is the same delivery.
                command.arg("IDLE").arg(0).arg("JUSTID");
                command
                    .query_async::<redis::Value>(&mut self.redis)
                    .await
                    .map_err(|e| StoreError::redis("refreshing ownership", &e))?;
            }
            if forget {
                let idle_ms = ABANDONED_AFTER.as_millis() as u64;
                for name in group::remove_abandoned(&mut self.redis, stream, &self.consumer, idle_ms).await? {
                    tracing::info!(
                        stream,
                        consumer = name,
                        "consumer idle for an hour removed from the group"
                    );
                }
            }
        }
        Ok(())
    }
}
