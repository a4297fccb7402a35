//! Deliveries into batches: decode, validate, and close a batch by count, bytes or age.
//!
//! A batch is closed as soon as the next stage can take it and it is large or old enough; while that stage is busy
//! it grows, up to its bound. Under backlog it grows to that bound anyway: large inserts cost a fraction per row.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::event::{Batch, Reason, Source, decode};
use crate::intake::{Delivery, Ledger, suspects};
use crate::runtime::pulse::Pulse;
use crate::runtime::retry;
use crate::runtime::shutdown::Shutdown;
use crate::stores::RedisConnection;

/// With nothing arriving for this long, what there is need not wait for more…
const QUIET: Duration = Duration::from_millis(100);
/// …but batches are not closed more often than this for that reason: two inserts a second.
const LEAST_INTERVAL: Duration = Duration::from_millis(500);

/// Bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Closed at this many events.
    pub events: usize,
    /// Grows up to this many while more is waiting.
    pub most_events: usize,
    /// Closed at this many bytes.
    pub bytes: usize,
    /// Closed at this age.
    pub age: Duration,
}

/// The stage.
pub struct Gather {
    /// Stream names, in the ledger's order.
    pub streams: Arc<[String]>,
    /// Bounds of a batch.
    pub bounds: Bounds,
    /// Says what has landed.
    pub ledger: Arc<Ledger>,
    /// For suspects.
    pub redis: RedisConnection,
    /// Sign of life.
    pub pulse: Pulse,
}

/// A batch in the making.
struct Open {
    batch: Batch,
    bytes: usize,
    since: Instant,
    last: Instant,
    backlog: bool,
}

impl Open {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            batch: Batch::default(),
            bytes: 0,
            since: now,
            last: now,
            backlog: false,
        }
    }
}

impl Gather {
    /// Runs until intake ends, then closes what is open. Ends early when the next stage is gone.
    pub async fn run(
        self,
        mut deliveries: mpsc::Receiver<Delivery>,
        out: mpsc::Sender<Batch>,
        shutdown: Shutdown,
    ) {
        let mut open = Open::new();
        // An entry of the batch that was handed on last: batches land in their order.
        let mut last_out: Option<Source> = None;
        let mut closed = Instant::now();
        loop {
            let wait_until = self.next_decision(&open, closed);
            let delivery = tokio::select! {
                delivery = deliveries.recv() => Some(delivery),
                () = tokio::time::sleep_until(wait_until) => None,
            };
            self.pulse.beat();
            match delivery {
                Some(None) => break,
                Some(Some(delivery)) => {
                    if !delivery.suspects.is_empty() {
                        let before = std::mem::replace(&mut open, Open::new()).batch;
                        let apart = self.set_apart(&delivery, before, last_out.take(), &out, &shutdown);
                        if apart.await.is_none() {
                            return;
                        }
                    }
                    self.append(&mut open, delivery);
                }
                None => {}
            }
            if !open.batch.is_empty() && self.is_ready(&open, closed) {
                let Some(permit) = self.permit(&open, &out).await else {
                    return;
                };
                let Some(permit) = permit else { continue };
                last_out = open.batch.sources().next();
                permit.send(std::mem::replace(&mut open, Open::new()).batch);
                closed = Instant::now();
            }
        }
        if !open.batch.is_empty() {
            // Nobody left to take it means that the drain was abandoned: its entries stay pending.
            let _pending = out.send(open.batch).await;
        }
    }

    fn next_decision(&self, open: &Open, closed: Instant) -> Instant {
        if open.batch.is_empty() {
            // Nothing to decide; wake up only to show life.
            return Instant::now() + Duration::from_secs(5);
        }
        let by_age = open.since + self.bounds.age;
        let when_quiet = (open.last + QUIET).max(closed + LEAST_INTERVAL);
        // When overdue, because the next stage is busy, look again shortly.
        by_age
            .min(when_quiet)
            .max(Instant::now() + Duration::from_millis(5))
    }

    fn is_ready(&self, open: &Open, closed: Instant) -> bool {
        let now = Instant::now();
        let events = open.batch.len();
        self.is_full(open)
            || now >= open.since + self.bounds.age
            || (events >= self.bounds.events && !open.backlog)
            || (now >= open.last + QUIET && now >= closed + LEAST_INTERVAL)
    }

    fn is_full(&self, open: &Open) -> bool {
        open.batch.len() >= self.bounds.most_events || open.bytes >= self.bounds.bytes
    }

    /// Leave to hand the batch on. A full one waits for it, which is the backpressure; any other goes on growing
    /// while there is none. `None` when the next stage is gone.
    #[allow(clippy::option_option, reason = "gone, busy, or free")]
    async fn permit<'a>(
        &self,
        open: &Open,
        out: &'a mpsc::Sender<Batch>,
    ) -> Option<Option<mpsc::Permit<'a, Batch>>> {
        if !self.is_full(open) {
            return match out.try_reserve() {
                Ok(permit) => Some(Some(permit)),
                Err(mpsc::error::TrySendError::Full(())) => Some(None),
                Err(mpsc::error::TrySendError::Closed(())) => None,
            };
        }
        loop {
            tokio::select! {
                permit = out.reserve() => return permit.ok().map(Some),
                // The stage behind shows its own life; waiting for it is legitimate.
                () = tokio::time::sleep(Duration::from_secs(5)) => self.pulse.beat(),
            }
        }
    }

    fn append(&self, open: &mut Open, delivery: Delivery) {
        let now = Instant::now();
        if open.batch.is_empty() {
            open.since = now;
        }
        open.last = now;
        open.backlog = delivery.backlog;
        open.bytes += delivery.block.byte_len();
        let mut skip = delivery.skip;
        skip.extend(delivery.suspects);
        let name = &self.streams[delivery.stream as usize];
        decode::append(
            &mut open.batch,
            delivery.block,
            delivery.stream,
            name,
            delivery.redelivered,
            &skip,
        );
    }

    /// Hands on what came before, then each suspect in a batch of its own, or as a reject when being alone did not help;
    /// always waiting until it has landed. `None` when the drain was abandoned or the next stage is gone.
    async fn set_apart(
        &self,
        delivery: &Delivery,
        before: Batch,
        last_out: Option<Source>,
        out: &mpsc::Sender<Batch>,
        shutdown: &Shutdown,
    ) -> Option<()> {
        let in_flight = before.sources().next().or(last_out);
        if !before.is_empty() {
            out.send(before).await.ok()?;
        }
        if let Some(source) = in_flight {
            self.landed(source, out).await?;
        }
        let name = &self.streams[delivery.stream as usize];
        for suspect in &delivery.suspects {
            let entry = delivery.block.entry(*suspect);
            let source = Source {
                stream: delivery.stream,
                id: entry.id(),
                redelivered: true,
            };
            let may_try = retry::persist(retry::REDIS, &self.pulse, shutdown, || async {
                suspects::may_try(&mut self.redis.clone(), name, source.id).await
            });
            let mut batch = Batch::solitary();
            if may_try.await.ok()? {
                let others: Vec<usize> = (0..delivery.block.len()).filter(|i| i != suspect).collect();
                let block = delivery.block.clone();
                decode::append(&mut batch, block, delivery.stream, name, true, &others);
            } else {
                batch
                    .rejects
                    .push(decode::refuse(source, entry, Reason::CrashLoop));
            }
            out.send(batch).await.ok()?;
            self.landed(source, out).await?;
        }
        Some(())
    }

    /// Waits until an entry that was handed on has landed. `None` when the next stage is gone.
    async fn landed(&self, source: Source, out: &mpsc::Sender<Batch>) -> Option<()> {
        loop {
            tokio::select! {
                () = self.ledger.wait_for_release(source.stream, source.id) => return Some(()),
                () = out.closed() => return None,
                // The stages behind show their own life; waiting for them is legitimate.
                () = tokio::time::sleep(Duration::from_secs(5)) => self.pulse.beat(),
            }
        }
    }
}
