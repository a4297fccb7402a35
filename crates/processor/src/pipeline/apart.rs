//! Processing suspects apart: nothing else is on its way while one of them may be what ends workers.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::event::{Batch, Reason, Source, decode};
use crate::intake::caution::Caution;
use crate::intake::{Delivery, Intake, Ledger};
use crate::runtime::retry;
use crate::runtime::task::Task;

use super::traced;

/// Hands suspects on in groups, and waits for each to land.
pub(super) struct Apart {
    /// Says what has landed.
    pub(super) ledger: Arc<Ledger>,
    /// Has the record of solitary attempts.
    pub(super) intake: Intake,
    /// Stream names, in the ledger's order.
    streams: Arc<[String]>,
    /// Where batches go.
    pub(super) out: mpsc::Sender<Batch>,
    /// Gather's sign of life.
    pub(super) task: Task,
    caution: Caution,
    /// An entry of each batch that was handed on and may not have landed.
    in_flight: Vec<Source>,
    /// The last batch said that more follows.
    promised_more: bool,
}

impl Apart {
    pub(super) fn new(
        ledger: Arc<Ledger>,
        intake: Intake,
        streams: Arc<[String]>,
        out: mpsc::Sender<Batch>,
        task: Task,
    ) -> Self {
        Self {
            ledger,
            intake,
            streams,
            out,
            task,
            caution: Caution::default(),
            in_flight: Vec::new(),
            promised_more: false,
        }
    }

    /// Notes a batch that is handed on.
    pub(super) fn handed_on(&mut self, batch: &Batch) {
        traced::describe(batch, &self.streams);
        self.in_flight.retain(|source| self.ledger.holds(*source));
        self.in_flight.extend(batch.sources().next());
        self.promised_more = batch.more_follows;
    }

    /// Whether the batch that was handed on last said that more follows: another one is owed, if only an empty one.
    pub(super) fn promised_more(&self) -> bool {
        self.promised_more
    }

    /// Hands on what came before, then the entries of a delivery at these indices, in their order, as many together as
    /// caution lets; one that is alone as a reject when being alone did not help. Always waits until everything before has
    /// landed. `None` when the drain was abandoned or the next stage is gone.
    pub(super) async fn hand_on(
        &mut self,
        before: Batch,
        delivery: &Delivery,
        stream: &str,
        indices: &[usize],
    ) -> Option<()> {
        if !before.is_empty() || self.promised_more {
            self.send(before).await?;
        }
        self.everything_landed().await?;
        let mut waiting = indices;
        while !waiting.is_empty() {
            let (group, rest) = self.caution.next(waiting);
            let batch = match group {
                [alone] => self.alone(delivery, stream, *alone).await?,
                group => batch_of(delivery, stream, group),
            };
            tracing::debug!(stream, entries = group.len(), "suspects are processed apart");
            self.send(batch).await?;
            self.everything_landed().await?;
            self.caution.landed();
            waiting = rest;
        }
        Some(())
    }

    /// Counts the attempt that is about to be made.
    async fn alone(&self, delivery: &Delivery, stream: &str, index: usize) -> Option<Batch> {
        let entry = delivery.block.entry(index);
        let may_try = self.task.retry(retry::REDIS, || async {
            self.intake.may_try(stream, entry.id()).await
        });
        if may_try.await.ok()? {
            return Some(batch_of(delivery, stream, &[index]));
        }
        let source = Source {
            stream: delivery.stream,
            id: entry.id(),
            redelivered: true,
        };
        let mut batch = Batch::solitary();
        batch.trace = traced::begin();
        batch
            .rejects
            .push(decode::refuse(source, entry, Reason::CrashLoop));
        Some(batch)
    }

    async fn send(&mut self, batch: Batch) -> Option<()> {
        self.handed_on(&batch);
        self.task.pulse.while_waiting(self.out.send(batch)).await.ok()
    }

    /// Waits until all batches that were handed on have landed. `None` when the next stage is gone.
    async fn everything_landed(&mut self) -> Option<()> {
        for source in std::mem::take(&mut self.in_flight) {
            let landed = async {
                tokio::select! {
                    () = self.ledger.wait_for_release(source.stream, source.id) => Some(()),
                    () = self.out.closed() => None,
                }
            };
            self.task.pulse.while_waiting(landed).await?;
        }
        Some(())
    }
}

fn batch_of(delivery: &Delivery, stream: &str, group: &[usize]) -> Batch {
    let mut batch = Batch::solitary();
    batch.trace = traced::begin();
    let others: Vec<usize> = (0..delivery.block.len())
        .filter(|index| group.binary_search(index).is_err())
        .collect();
    let block = delivery.block.clone();
    decode::append(&mut batch, block, delivery.stream, stream, true, &others);
    batch
}
