//! Replaying: letters go through the whole pipeline again, in order, and leave the queue when they have landed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use stream_reply::StreamId;

use crate::event::{Reason, Source};
use crate::identity::Identity;
use crate::intake;
use crate::pipeline::settle::Settler;
use crate::runtime::gate::Gate;
use crate::runtime::instances;
use crate::runtime::retry::GaveUp;
use crate::runtime::task::Task;
use crate::set_aside::Queue;
use crate::set_aside::letter::{self, Letter};
use crate::stores::{Store, StoreError};
use crate::warehouse::plan::Planner;

use super::circuit::Circuit;
use super::outcome::{Landed, RunContext, Stopped, Waiting};

/// Replays letters of one queue.
pub(crate) struct Replayer {
    pub(super) queue: Queue,
    identity: Identity,
    planner: Planner,
    pub(super) settler: Settler,
    pub(super) circuit: Circuit,
    pub(super) streams: Arc<[String]>,
    pub(super) step: usize,
    /// Where the next run begins, when one has ended after many letters that no store took.
    pub(super) resume: StreamId,
    /// Letters that the last run left, as their time has not come.
    pub(super) waiting: Option<Waiting>,
}

impl Replayer {
    /// A replayer with a pipeline of its own; `step` letters at a time.
    pub(crate) fn new(
        queue: Queue,
        (identity, settler): (Identity, Settler),
        streams: Arc<[String]>,
        step: usize,
        (threshold, reset): (u32, Duration),
    ) -> Self {
        let circuit = Circuit {
            redis: queue.redis.clone(),
            threshold,
            reset,
        };
        Self {
            queue,
            identity,
            planner: Planner::default(),
            settler,
            circuit,
            streams,
            step,
            resume: StreamId::MIN,
            waiting: None,
        }
    }

    /// All stores take work again after an outage: no instance needs to wait any longer.
    ///
    /// # Errors
    /// Redis's.
    pub(crate) async fn try_again(&mut self) -> Result<(), StoreError> {
        self.circuit.half_open().await
    }

    /// Whether there are letters whose time has come.
    ///
    /// # Errors
    /// Redis's.
    pub(crate) async fn has_work(&self) -> Result<bool, StoreError> {
        let waiting = self.waiting(jiff::Timestamp::now().as_millisecond() as u64);
        Ok(match waiting {
            Some(waiting) => self.queue.last().await? > waiting.last,
            None => self.queue.count().await? > 0,
        })
    }

    /// How often the stores have taken live work: of this process as its gate has it now, of other instances as they last
    /// reported.
    pub(super) async fn taken(&self, gate: &Gate) -> HashMap<String, [u64; 2]> {
        let mut taken = match instances::taken(&self.queue.redis).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::debug!(%error, "what stores have taken of other instances is not known");
                HashMap::new()
            }
        };
        // No consumer has an empty name.
        taken.insert(String::new(), gate.times_taken());
        taken
    }

    /// Letters that are not to be read before their time.
    pub(super) fn waiting(&self, now_ms: u64) -> Option<Waiting> {
        self.waiting.filter(|waiting| now_ms < waiting.until_ms)
    }

    /// The letters whose entries are still pending: the instance that set them aside died before it could acknowledge them,
    /// or is about to. They land with their entries, wherever those are; until then no other instance may try.
    pub(super) async fn pending(&self, letters: &[Letter]) -> Result<HashSet<StreamId>, StoreError> {
        let entries = letters
            .iter()
            .filter(|letter| self.streams.contains(&letter.stream))
            .filter_map(|letter| Some((letter, letter.stream_id?)));
        let entries: Vec<(&Letter, StreamId)> = entries.collect();
        let asked: Vec<(&str, StreamId)> = entries
            .iter()
            .map(|(letter, id)| (letter.stream.as_str(), *id))
            .collect();
        let pending = intake::are_pending(&self.queue.redis, &asked).await?;
        let pending = entries.iter().zip(pending).filter(|(_, pending)| *pending);
        Ok(pending.map(|((letter, _), _)| letter.id).collect())
    }

    /// Rejects a letter that is never to be replayed again.
    pub(super) async fn refuse(
        &self,
        letter: &Letter,
        reason: Reason,
        context: &RunContext<'_>,
    ) -> Result<(), Stopped> {
        let mut batch = letter::refused(letter, &self.streams, reason);
        self.settler
            .reject(&mut batch, context.task)
            .await
            .map_err(|_gave_up| Stopped::Stopping)
    }

    /// Lands letters together, whose texts are taken; those that a store fails on alone are left out.
    pub(super) async fn replay(
        &mut self,
        letters: &mut [Letter],
        patience: &Task,
        context: &RunContext<'_>,
    ) -> Result<Landed, Stopped> {
        let batch = letter::batch(letters, &self.streams);
        let stopped = |gave_up| match gave_up {
            GaveUp::Away(error) | GaveUp::Poison(error) => Stopped::Away(error),
            GaveUp::TakesNone(error) => Stopped::TakesNone(error),
            GaveUp::Abandoned(_) => Stopped::Stopping,
        };
        let resolve = self.identity.resolve(batch, patience);
        let resolved = Box::pin(resolve).await;
        let mut resolved = resolved.map_err(|(_, gave_up)| stopped(gave_up))?;
        let plan = self.planner.plan(&resolved.batch);
        let inserted = self
            .settler
            .settle(&mut resolved, &plan, patience, context.task)
            .await
            .map_err(stopped)?;
        self.settler.catalogue.observe(&resolved.batch);
        let mut taken_by = BTreeSet::new();
        taken_by.extend(resolved.wrote.then_some(Store::Postgres));
        taken_by.extend((inserted > 0).then_some(Store::ClickHouse));
        Ok(Landed {
            rejected: resolved.batch.rejects.len(),
            taken_by,
            failed_alone: resolved.failed_alone,
        })
    }

    /// Where a letter's event came from.
    pub(super) fn source(&self, letter: &Letter) -> Source {
        letter::source(letter, &self.streams)
    }
}
