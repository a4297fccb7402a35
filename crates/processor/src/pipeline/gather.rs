//! Deliveries into batches: decode, validate, and close a batch by count, bytes or age.
//!
//! A batch is closed as soon as the next stage can take it and it is large or old enough; while that stage is busy
//! it grows, up to its bound. Under backlog it grows to that bound anyway, and says that more follows: landing joins such
//! batches into one insert (`pack.rs`). When nothing follows after all, an empty batch says so.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::event::{Batch, decode};
use crate::intake::{Delivery, Intake, Ledger, caution};
use crate::runtime::task::Task;
use crate::runtime::work;

use super::apart::Apart;
use super::traced;

/// With nothing arriving for this long, what there is need not wait for more…
const QUIET: Duration = Duration::from_millis(100);
/// …but batches are not closed more often than this for that reason: two inserts a second.
const LEAST_INTERVAL: Duration = Duration::from_millis(500);

/// Bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Closed at this many events.
    pub events: usize,
    /// Grows up to this many while more is waiting.
    pub most_events: usize,
    /// Grows up to this many bytes.
    pub bytes: usize,
    /// Closed at this age.
    pub age: Duration,
}

/// The stage.
pub(crate) struct Gather {
    /// Stream names, in the ledger's order.
    pub streams: Arc<[String]>,
    /// Bounds of a batch.
    pub bounds: Bounds,
    /// Says what has landed.
    pub ledger: Arc<Ledger>,
    /// Says whether a suspect may be tried.
    pub intake: Intake,
    /// What the loop works under.
    pub task: Task,
}

/// A batch in the making.
struct Open {
    batch: Batch,
    bytes: usize,
    since: Instant,
    last: Instant,
    /// Streams of which more is waiting right behind what is here.
    ahead: FxHashSet<u16>,
}

impl Open {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            batch: Batch::default(),
            bytes: 0,
            since: now,
            last: now,
            ahead: FxHashSet::default(),
        }
    }

    /// Whether more is waiting: larger batches are gathered.
    fn is_backlog(&self) -> bool {
        !self.ahead.is_empty()
    }
}

impl Gather {
    /// Runs until intake ends, then closes what is open. Ends early when the next stage is gone.
    pub(crate) async fn run(self, mut deliveries: mpsc::Receiver<Delivery>, out: mpsc::Sender<Batch>) {
        let mut open = Open::new();
        let mut apart = Apart::new(
            self.ledger.clone(),
            self.intake.clone(),
            self.streams.clone(),
            out.clone(),
            self.task.clone(),
        );
        let mut closed = Instant::now();
        loop {
            let wait_until = self.next_decision(&open, closed, apart.promised_more());
            let delivery = tokio::select! {
                delivery = deliveries.recv() => Some(delivery),
                () = tokio::time::sleep_until(wait_until) => None,
            };
            self.task.pulse.beat();
            match delivery {
                Some(None) => break,
                Some(Some(delivery)) => {
                    let Some(delivery) = self.suspects_first(&mut open, &mut apart, delivery).await else {
                        return;
                    };
                    self.append(&mut open, delivery);
                }
                None => {}
            }
            let nothing_followed =
                open.batch.is_empty() && apart.promised_more() && Instant::now() >= closed + QUIET;
            // A trickle has followed instead of what was promised: what waits for that waits no longer.
            let little_followed =
                apart.promised_more() && !open.is_backlog() && Instant::now() >= closed + QUIET;
            let is_ready = !open.batch.is_empty() && (little_followed || self.is_ready(&open, closed));
            if nothing_followed || is_ready {
                let Some(permit) = self.permit(&open, &out).await else {
                    return;
                };
                let Some(permit) = permit else { continue };
                let keeps_coming = Instant::now() < open.last + QUIET || !deliveries.is_empty();
                open.batch.more_follows = open.is_backlog() && keeps_coming;
                apart.handed_on(&mut open.batch);
                permit.send(std::mem::replace(&mut open, Open::new()).batch);
                closed = Instant::now();
            }
        }
        if !open.batch.is_empty() {
            // That the next stage is gone means that the drain was abandoned: its entries stay pending.
            traced::describe(&open.batch, &self.streams);
            let _pending = self.task.pulse.while_waiting(out.send(open.batch)).await;
        }
    }

    fn next_decision(&self, open: &Open, closed: Instant, promised_more: bool) -> Instant {
        let soon = Instant::now() + Duration::from_millis(5);
        if open.batch.is_empty() && promised_more {
            return (closed + QUIET).max(soon);
        }
        if open.batch.is_empty() {
            // Nothing to decide; wake up only to show life.
            return Instant::now() + Duration::from_secs(5);
        }
        let by_age = open.since + self.bounds.age;
        let when_quiet = if promised_more && !open.is_backlog() {
            closed + QUIET
        } else {
            (open.last + QUIET).max(closed + LEAST_INTERVAL)
        };
        // When overdue, because the next stage is busy, look again shortly.
        by_age.min(when_quiet).max(soon)
    }

    fn is_ready(&self, open: &Open, closed: Instant) -> bool {
        let now = Instant::now();
        let events = open.batch.len();
        self.is_full(open)
            || now >= open.since + self.bounds.age
            || (events >= self.bounds.events && !open.is_backlog())
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
        self.task.pulse.while_waiting(out.reserve()).await.ok().map(Some)
    }

    /// Has the suspects of a delivery land before anything behind them. Returns the delivery without what is done; `None`
    /// when the drain was abandoned or the next stage is gone.
    async fn suspects_first(
        &self,
        open: &mut Open,
        apart: &mut Apart,
        mut delivery: Delivery,
    ) -> Option<Delivery> {
        let indices = caution::apart(&delivery.suspects, &delivery.skip);
        let Some(first) = indices.first().copied() else {
            return Some(delivery);
        };
        let without = |skip: &[usize], done: &dyn Fn(usize) -> bool| {
            let all = 0..delivery.block.len();
            all.filter(|index| done(*index) || skip.binary_search(index).is_ok())
                .collect::<Vec<_>>()
        };
        let ahead = without(&delivery.skip, &|index| index >= first);
        let behind = without(&delivery.skip, &|index| {
            index < first || indices.binary_search(&index).is_ok()
        });
        if ahead.len() < delivery.block.len() {
            let ahead = Delivery {
                block: delivery.block.clone(),
                skip: ahead,
                suspects: Vec::new(),
                ..delivery
            };
            self.append(open, ahead);
        }
        let before = std::mem::replace(open, Open::new()).batch;
        let name = &self.streams[delivery.stream as usize];
        apart.hand_on(before, &delivery, name, &indices).await?;
        delivery.skip = behind;
        delivery.suspects.clear();
        Some(delivery)
    }

    fn append(&self, open: &mut Open, delivery: Delivery) {
        if delivery.skip.len() == delivery.block.len() {
            return;
        }
        let _working = work::DECODE.begin();
        let now = Instant::now();
        if open.batch.is_empty() {
            open.since = now;
            open.batch.since = Some(now.into_std());
            open.batch.trace = traced::begin();
        }
        open.last = now;
        if delivery.backlog {
            open.ahead.insert(delivery.stream);
        } else {
            open.ahead.remove(&delivery.stream);
        }
        open.bytes += delivery.block.byte_len();
        let name = &self.streams[delivery.stream as usize];
        decode::append(
            &mut open.batch,
            delivery.block,
            delivery.stream,
            name,
            delivery.redelivered,
            &delivery.skip,
        );
    }
}
