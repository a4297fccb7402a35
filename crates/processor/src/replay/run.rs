//! One run over the dead letters: page by page in the queue's order, as cautiously as the letters have deserved.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use stream_reply::StreamId;

use crate::event::Reason;
use crate::metrics;
use crate::runtime::lock::Lock;
use crate::runtime::retry;
use crate::set_aside::Letter;
use crate::stores::{Store, StoreError};
use crate::traces::{self, Trace};

use super::attempts::{self, Pace};
use super::outcome::{Landed, Outcome, RunContext, Stopped, Waiting};
use super::refusals::{self, Refusals};
use super::replayer::Replayer;
use super::selection::Selection;

/// Live events go first: between two steps the machine is theirs for a moment.
const YIELD: Duration = Duration::from_millis(10);
/// Letters tried alone in vain, and none taken between, after which a run ends; the next one begins behind them.
const MOST_IN_VAIN: usize = 50;
/// A letter whose entry is pending is not read again before this: the entry has to land, or to be taken over, first.
const PENDING_RESTS: Duration = Duration::from_secs(15);

/// A run under way.
pub(super) struct Run<'a> {
    replayer: &'a mut Replayer,
    lock: &'a Lock,
    selection: &'a Selection,
    context: &'a RunContext<'a>,
    outcome: Outcome,
    /// Letters up to here are replayed one by one.
    one_by_one_until: StreamId,
    /// Letters up to here were tried together in vain: alone, each is tried once.
    in_vain_until: StreamId,
    in_vain: usize,
    refusals: HashMap<StreamId, Refusals>,
    failed: Vec<Failed>,
    /// Stores that took something: what they fail on is at fault itself.
    taken_by: BTreeSet<Store>,
    now_ms: u64,
    /// When the first of the letters that are left may be tried again.
    next_ms: u64,
}

/// A letter that a store failed on alone; its text, which may have megabytes, stays in the queue.
struct Failed {
    id: StreamId,
    /// Attempts made before it became a letter.
    before: u32,
    /// A store has failed on it before, while it took others.
    is_known: bool,
    error: StoreError,
    attempts: u32,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        replayer: &'a mut Replayer,
        lock: &'a Lock,
        selection: &'a Selection,
        context: &'a RunContext<'a>,
    ) -> Self {
        Self {
            replayer,
            lock,
            selection,
            context,
            outcome: Outcome::default(),
            one_by_one_until: StreamId::MIN,
            in_vain_until: StreamId::MIN,
            in_vain: 0,
            refusals: HashMap::new(),
            failed: Vec::new(),
            taken_by: context.witnesses.clone(),
            now_ms: jiff::Timestamp::now().as_millisecond() as u64,
            next_ms: u64::MAX,
        }
    }

    /// Replays until the queue's end, or until something stops the run.
    ///
    /// # Errors
    /// Redis's.
    pub(super) async fn finish(mut self, progress: &mut impl FnMut(usize)) -> Result<Outcome, StoreError> {
        self.refusals = refusals::all(&self.replayer.queue.redis).await?;
        // What is rejected again stands behind the others: a run ends where the queue ended when it began.
        let last = self.replayer.queue.last().await?;
        let mut after = std::mem::replace(&mut self.replayer.resume, StreamId::MIN);
        let waiting = self.replayer.waiting(self.now_ms);
        if let Some(waiting) = waiting {
            after = after.max(waiting.last);
            self.outcome.failing += waiting.letters;
            self.next_ms = waiting.until_ms;
        }
        while after < last && self.outcome.stopped.is_none() {
            let Some(next) = self.page(after, last, progress).await? else {
                break;
            };
            after = next;
        }
        self.judge().await?;
        let letters = self.outcome.failing + self.outcome.pending;
        if self.outcome.stopped.is_none() {
            self.replayer.waiting = (letters > 0).then_some(Waiting {
                letters,
                last,
                until_ms: self.next_ms,
            });
        }
        Ok(self.outcome)
    }

    /// Replays some letters after an id. Returns the id to go on after; `None` at the end of the queue.
    async fn page(
        &mut self,
        after: StreamId,
        last: StreamId,
        progress: &mut impl FnMut(usize),
    ) -> Result<Option<StreamId>, StoreError> {
        self.context.task.pulse.alive_for(Duration::from_mins(1));
        let page = self.replayer.queue.after(after, self.replayer.step).await?;
        let Some(end) = page.last().map(|letter| letter.id) else {
            return Ok(None);
        };
        let mut letters = self.selected(page, last);
        let Some(first) = letters.first().map(|letter| letter.id) else {
            return Ok(Some(end));
        };
        if self.must_stop().await {
            return Ok(None);
        }
        let pace = attempts::begins(&self.replayer.queue.redis, first).await?;
        if pace != Pace::None {
            self.one_by_one_until = self.one_by_one_until.max(end);
        }
        let mut next = end;
        if first <= self.one_by_one_until {
            letters.truncate(1);
            next = first;
        }
        let trace = Trace::begin(traces::REPLAY);
        trace.note(traces::LETTERS, letters.len() as i64);
        let lock = self.lock;
        let replayed = tokio::select! {
            biased;
            () = lock.lost().cancelled() => Err(Stopped::LockLost),
            replayed = trace.around(self.step(&mut letters, pace)) => replayed,
        };
        if let Err(stopped) = &replayed {
            trace.failed(stopped);
        }
        drop(trace);
        // A lost lock is an orderly end too: no letter is to blame for it.
        attempts::ended(&self.replayer.queue.redis, first).await?;
        match replayed {
            // Found out by the question before the insert.
            Err(Stopped::Stopping) if self.lock.lost().is_cancelled() => {
                self.outcome.stopped = Some(Stopped::LockLost);
            }
            Ok(landed) => self.landed(letters, landed, progress).await?,
            // Neither this run nor the circuit is to blame Redis's trouble on the other stores.
            Err(Stopped::Away(error)) if error.store == Store::Redis => return Err(error),
            Err(Stopped::TakesNone(_)) if letters.len() > 1 => {
                self.one_by_one_until = self.one_by_one_until.max(end);
                self.in_vain_until = end;
                return Ok(Some(after));
            }
            Err(Stopped::TakesNone(error)) => self.failed_alone(&letters, &error, first),
            Err(stopped) => self.outcome.stopped = Some(stopped),
        }
        Ok(Some(next))
    }

    /// The letters of a page that are to be replayed in this run.
    fn selected(&mut self, page: Vec<Letter>, last: StreamId) -> Vec<Letter> {
        let rest_ms = self.context.rest.as_millis() as u64;
        let mut letters = Vec::new();
        for letter in page {
            if letter.id > last || !self.selection.takes(&letter, self.now_ms) {
                continue;
            }
            let refusals = self.refusals.get(&letter.id).copied().unwrap_or_default();
            let rests_until = refusals.rests_until(rest_ms);
            if self.now_ms < rests_until {
                self.outcome.failing += 1;
                self.next_ms = self.next_ms.min(rests_until);
            } else {
                letters.push(letter);
            }
        }
        letters
    }

    async fn must_stop(&mut self) -> bool {
        if self.context.task.is_draining() {
            self.outcome.stopped = Some(Stopped::Stopping);
        } else if !self.lock.is_held().await {
            self.outcome.stopped = Some(Stopped::LockLost);
        }
        self.outcome.stopped.is_some()
    }

    /// Lands letters, without those whose entries are still pending, which are taken out.
    async fn step(&mut self, letters: &mut Vec<Letter>, pace: Pace) -> Result<Landed, Stopped> {
        let pending = self.replayer.pending(letters).await.map_err(Stopped::Away)?;
        self.outcome.pending += pending.len();
        if !pending.is_empty() {
            let rest = PENDING_RESTS.min(self.context.rest);
            self.next_ms = self.next_ms.min(self.now_ms + rest.as_millis() as u64);
        }
        letters.retain(|letter| !pending.contains(&letter.id));
        let mut landed = Landed {
            rejected: 0,
            taken_by: BTreeSet::new(),
            failed_alone: Vec::new(),
        };
        let Some(first) = letters.first() else {
            return Ok(landed);
        };
        if pace == Pace::Refuse {
            self.replayer
                .refuse(first, Reason::CrashLoop, self.context)
                .await?;
            landed.rejected = 1;
            return Ok(landed);
        }
        let task = self.context.task;
        let patience = if first.id <= self.in_vain_until {
            task.once()
        } else {
            task.within_presets()
        };
        self.replayer.replay(letters, &patience, self.context).await
    }

    /// Takes letters that have landed off the queue.
    async fn landed(
        &mut self,
        letters: Vec<Letter>,
        landed: Landed,
        progress: &mut impl FnMut(usize),
    ) -> Result<(), StoreError> {
        self.outcome.rejected += landed.rejected;
        if !landed.taken_by.is_empty() {
            self.in_vain = 0;
        }
        self.taken_by.extend(landed.taken_by);
        let mut gone = Vec::new();
        for letter in letters {
            let source = self.replayer.source(&letter);
            let mut failed = landed.failed_alone.iter();
            match failed.find(|failed| failed.event.source == source) {
                Some(failed) => {
                    let failed = self.failed(&letter, &failed.error, failed.attempts);
                    self.failed.push(failed);
                }
                None => gone.push(letter.id),
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.remove(&gone).await?;
        self.replayer.circuit.succeeded().await?;
        progress(gone.len());
        tokio::time::sleep(YIELD).await;
        Ok(())
    }

    async fn remove(&mut self, ids: &[StreamId]) -> Result<(), StoreError> {
        self.replayer.queue.remove(ids).await?;
        let known: Vec<StreamId> = ids
            .iter()
            .copied()
            .filter(|id| self.refusals.contains_key(id))
            .collect();
        refusals::forget(&self.replayer.queue.redis, &known).await?;
        metrics::replayed(ids.len());
        self.outcome.left_queue += ids.len();
        Ok(())
    }

    /// Whether a store has failed on a letter before, while it took others.
    fn is_counted(&self, letter: &Letter) -> bool {
        let known = self.refusals.get(&letter.id);
        letter.stood_alone() || known.is_some_and(|known| known.is_counted())
    }

    /// A store took nothing of a single letter.
    fn failed_alone(&mut self, letters: &[Letter], error: &StoreError, first: StreamId) {
        let attempts = if first <= self.in_vain_until {
            1
        } else {
            retry::attempts_at(error.store)
        };
        let is_known = |letter: &Letter| self.is_counted(letter);
        self.in_vain += usize::from(!letters.iter().all(is_known));
        if self.in_vain >= MOST_IN_VAIN {
            self.replayer.resume = first;
            self.outcome.stopped = Some(Stopped::TakesNone(error.clone()));
        }
        for letter in letters {
            let failed = self.failed(letter, error, attempts);
            self.failed.push(failed);
        }
    }

    fn failed(&self, letter: &Letter, error: &StoreError, attempts: u32) -> Failed {
        Failed {
            id: letter.id,
            before: letter.attempts.parse().unwrap_or(0),
            is_known: self.is_counted(letter),
            error: error.clone(),
            attempts,
        }
    }

    /// Counts the failures of letters whose store took something else, and rejects those that fail for good.
    async fn judge(&mut self) -> Result<(), StoreError> {
        let mut nothing_taken = None;
        for failed in std::mem::take(&mut self.failed) {
            let known = self.refusals.get(&failed.id).copied().unwrap_or_default();
            let takes_others = self.taken_by.contains(&failed.error.store);
            let is_known = takes_others || failed.is_known;
            let counts = takes_others && !failed.error.is_contention();
            // Where nothing shows yet that the letter is at fault, it is tried again as soon as the stores may be back.
            let at_ms = if is_known { self.now_ms } else { 0 };
            let refusals = known.and(failed.attempts, failed.before, counts, at_ms);
            if refusals.is_for_good() {
                self.reject(failed, refusals).await?;
                continue;
            }
            refusals::note(&self.replayer.queue.redis, failed.id, refusals).await?;
            self.outcome.failing += 1;
            let rest_ms = self.context.rest.as_millis() as u64;
            self.next_ms = self.next_ms.min(refusals.rests_until(rest_ms));
            if !is_known {
                nothing_taken = Some(failed.error);
            }
        }
        if self.outcome.stopped.is_none() {
            self.outcome.stopped = nothing_taken.map(Stopped::TakesNone);
        }
        let has_failed = matches!(
            self.outcome.stopped,
            Some(Stopped::Away(_) | Stopped::TakesNone(_))
        );
        if has_failed && self.replayer.circuit.failed().await? {
            tracing::warn!("dead letters rest: stores failed too often while replaying");
        }
        Ok(())
    }

    /// Rejects a letter that stores fail on for good.
    async fn reject(&mut self, failed: Failed, refusals: Refusals) -> Result<(), StoreError> {
        let Some(letter) = self.replayer.queue.get(failed.id).await? else {
            return Ok(());
        };
        let reason = Reason::CannotBeSettled {
            error: failed.error.message,
            attempts: refusals.attempts,
        };
        if self.replayer.refuse(&letter, reason, self.context).await.is_ok() {
            self.refusals.insert(letter.id, refusals);
            self.remove(&[letter.id]).await?;
            self.outcome.rejected += 1;
        }
        Ok(())
    }
}
