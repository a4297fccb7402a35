//! Processing suspects apart: nothing else is on its way while one of them may be what ends workers.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

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
    /// An entry of each batch that was handed on and may not have landed…
    in_flight: Vec<Source>,
    /// …and what each of them has a receiver of: its parts may be acknowledged one after another, those that failed alone
    /// and the rest.
    on_their_way: watch::Sender<()>,
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
            on_their_way: watch::Sender::new(()),
            promised_more: false,
        }
    }

    /// Notes a batch that is handed on.
    pub(super) fn handed_on(&mut self, batch: &mut Batch) {
        traced::describe(batch, &self.streams);
        batch.on_its_way = Some(Arc::new(self.on_their_way.subscribe()));
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

    async fn send(&mut self, mut batch: Batch) -> Option<()> {
        self.handed_on(&mut batch);
        self.task.pulse.while_waiting(self.out.send(batch)).await.ok()
    }

    /// Waits until all batches that were handed on have landed. `None` when the drain was abandoned or the next stage is gone.
    async fn everything_landed(&mut self) -> Option<()> {
        // What was given up has not landed, and nothing more is let go of.
        let abandoned = self.task.shutdown.abandoned();
        for source in std::mem::take(&mut self.in_flight) {
            let landed = async {
                tokio::select! {
                    () = abandoned.cancelled() => None,
                    () = self.ledger.wait_for_release(source.stream, source.id) => Some(()),
                    () = self.out.closed() => None,
                }
            };
            self.task.pulse.while_waiting(landed).await?;
        }
        let all_ended = async {
            tokio::select! {
                biased;
                () = self.out.closed() => None,
                () = abandoned.cancelled() => None,
                () = self.on_their_way.closed() => Some(()),
            }
        };
        self.task.pulse.while_waiting(all_ended).await
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stream_reply::{EntryBlock, StreamId};

    use super::*;
    use crate::config::RedisConfig;
    use crate::event::field::FIELDS;
    use crate::runtime::shutdown::Shutdown;
    use crate::stores::Redis;

    #[tokio::test]
    async fn a_batch_of_which_a_part_was_acknowledged_has_not_landed() {
        let ledger = Arc::new(Ledger::new(10, 1 << 20));
        let redis = Redis::new(&RedisConfig::from_url("redis://127.0.0.1:1").unwrap());
        let streams: Arc<[String]> = Arc::new(["s".to_owned()]);
        let intake = Intake::new(redis, streams.clone(), ledger.clone(), false);
        let (out, mut batches) = mpsc::channel(2);
        let task = Task::new("gather", Duration::from_secs(30), &Shutdown::default());
        let mut apart = Apart::new(ledger.clone(), intake, streams, out, task);
        let ids = [1, 2].map(|ms| StreamId::new(ms, 0));
        let block = EntryBlock::of("s", &FIELDS, ids.map(|id| (id, [("event_name", "e")])));
        ledger.take(0, &block, ledger.given_from_now());
        let mut batch = Batch::default();
        decode::append(&mut batch, block, 0, "s", false, &[]);
        let sources: Vec<Source> = batch.sources().collect();
        assert_eq!(sources.len(), 2);
        apart.send(batch).await.unwrap();
        let mut joined = Batch::default();
        joined.join(batches.recv().await.unwrap());
        // The first of them failed alone.
        ledger.release(sources[..1].iter().copied());
        let landed = apart.everything_landed();
        tokio::pin!(landed);
        assert!(futures::poll!(&mut landed).is_pending(), "the other one has not");
        ledger.release(sources[1..].iter().copied());
        drop(joined);
        assert_eq!(landed.await, Some(()));
    }
}
