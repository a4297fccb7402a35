//! Looks after the streams beside the reading: notices within a second when a group was made again, says when unread
//! entries are about to be lost, trims a stream that has gone quiet, and forgets suspects that are gone.

use std::sync::Arc;
use std::time::Duration;

use crate::runtime::task::Task;
use crate::stores::{Redis, StoreError};

use super::continuity::Continuity;
use crate::intake::ledger::Ledger;

use super::{group, suspects, trim};

/// Between two looks at the groups.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two trims.
const LOOKS_PER_TRIM: u32 = 5;
/// Looks between two passes over what is noted of suspects.
const LOOKS_PER_PASS: u32 = 15;
/// Longest that a round takes while Redis answers slowly.
const LONGEST_ROUND: Duration = Duration::from_mins(1);
/// At so many entries ingest refuses.
pub(crate) const REFUSED_AT: u64 = 900_000;
/// So many unread ones are said to be many…
const MANY_UNREAD: u64 = REFUSED_AT / 10 * 8;
/// …until they are fewer than this.
const FEWER_UNREAD: u64 = REFUSED_AT / 10 * 7;

/// Whether a stream's unread entries are many.
#[derive(Debug, Default)]
struct Level {
    many: bool,
}

impl Level {
    /// What is news, if anything: that they are many, or no longer.
    fn news(&mut self, unread: u64) -> Option<bool> {
        let many = unread > if self.many { FEWER_UNREAD } else { MANY_UNREAD };
        (std::mem::replace(&mut self.many, many) != many).then_some(many)
    }
}

/// The loop.
pub(crate) struct Watch {
    /// Shared connection.
    pub redis: Redis,
    /// Stream names, in the ledger's order.
    pub streams: Arc<[String]>,
    /// What we hold.
    pub ledger: Arc<Ledger>,
    /// Whether consumed entries are trimmed.
    pub trim: bool,
}

impl Watch {
    /// Runs until the drain is over: what is held during the drain may become another's too.
    pub(crate) async fn run(mut self, task: Task) {
        let streams = self.streams.clone();
        let known = streams.iter().map(|stream| {
            let known = Continuity::new(stream, self.trim, false);
            (known, Level::default())
        });
        let mut known: Vec<(Continuity, Level)> = known.collect();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut round = 0u32;
        loop {
            tokio::select! {
                () = task.shutdown.draining().cancelled() => return,
                () = task.shutdown.abandoned().cancelled() => return,
                _ = ticks.tick() => {}
            }
            task.pulse.alive_for(LONGEST_ROUND);
            // Redis being away is no fault of this loop; the reader reports it.
            if let Err(error) = self.round(&mut known, round).await {
                tracing::debug!(%error, "the streams could not be looked after");
            }
            round = round.wrapping_add(1);
        }
    }

    /// Each stream for itself: where one's server is away, the others are looked after.
    async fn round(&mut self, known: &mut [(Continuity, Level)], round: u32) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for (index, known) in known.iter_mut().enumerate() {
            let looked = self.look(index as u16, known, round).await;
            outcome = outcome.and(looked);
        }
        if round % LOOKS_PER_PASS == LOOKS_PER_PASS - 1 {
            suspects::forget_acknowledged(&self.redis, &self.streams).await?;
        }
        outcome
    }

    async fn look(
        &self,
        index: u16,
        (known, level): &mut (Continuity, Level),
        round: u32,
    ) -> Result<(), StoreError> {
        let stream = &self.streams[index as usize];
        let look = group::look(&self.redis, known).await?;
        known.note(&look, &self.ledger, index);
        // Redis may count entries as unread that are gone.
        let unread = look.lag.unwrap_or(look.length).min(look.length);
        match level.news(unread) {
            Some(true) => tracing::warn!(
                stream,
                unread,
                limit = REFUSED_AT,
                "over 80 % of what the stream holds before ingest refuses is unread: start more workers, or events will be lost"
            ),
            Some(false) => tracing::info!(stream, unread, "unread entries have become fewer"),
            None => {}
        }
        if self.trim && round % LOOKS_PER_TRIM == LOOKS_PER_TRIM - 1 {
            trim::trim_or_warn(&self.redis, stream).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_state_is_said_once() {
        let mut level = Level::default();
        let said: Vec<Option<bool>> = [
            0, 720_000, 720_001, 900_000, 700_000, 630_001, 630_000, 10, 720_001,
        ]
        .into_iter()
        .map(|unread| level.news(unread))
        .collect();
        let silent = [None, None];
        assert_eq!(said[..2], silent);
        assert_eq!(said[2..6], [Some(true), None, None, None]);
        assert_eq!(said[6..], [Some(false), None, Some(true)]);
    }
}
