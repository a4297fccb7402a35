//! Which stores are away now, as far as this process has seen: what is logged once and reported. Which of them have yet to
//! prove that they work is the gate's own knowledge.
//!
//! A loop that a store serves no more while others are served (its own connection is refused, or leads to another node) misses
//! the store until it is served itself: the outage lasts until none of these loops misses it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::metrics;
use crate::stores::Store;

/// What is known of a store that is away.
#[derive(Debug, Clone)]
pub struct Outage {
    /// Which one.
    pub store: &'static str,
    /// When it was found to be away.
    pub since: Instant,
    /// What was said last.
    pub error: String,
    /// What an operator has to do, where no waiting helps.
    pub advice: Option<&'static str>,
    /// Loops that miss it until it has served them, by their numbers.
    missed_by: BTreeSet<u64>,
}

/// Notes that a store takes work again, however that was found out.
pub fn is_back(store: Store) {
    if remove(&mut known(), store.name()) {
        tracing::info!(%store, "store is back");
    }
}

/// Presets that were exhausted and have not succeeded since, by name.
static AWAY: Mutex<BTreeMap<&'static str, Outage>> = Mutex::new(BTreeMap::new());

/// Stores that leave requests without an answer, and since when.
static UNANSWERED: Mutex<BTreeMap<&'static str, Instant>> = Mutex::new(BTreeMap::new());

/// Notes since when a store leaves requests without an answer; nothing when it answers.
pub fn note_unanswered(store: Store, since: Option<Instant>) {
    let mut silent = UNANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
    match since {
        Some(since) => silent.insert(store.name(), since),
        None => silent.remove(store.name()),
    };
}

/// Stores that leave requests without an answer now, and since when.
pub fn unanswered() -> Vec<(&'static str, Instant)> {
    let silent = UNANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
    silent.iter().map(|(store, since)| (*store, *since)).collect()
}

fn known() -> MutexGuard<'static, BTreeMap<&'static str, Outage>> {
    AWAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stores that are away now.
pub fn away() -> Vec<Outage> {
    let is_store = |name: &str| Store::named(name).is_some();
    let known = known();
    known
        .values()
        .filter(|outage| is_store(outage.store))
        .cloned()
        .collect()
}

/// Notes that a store is away, and which loop misses it, if one does. `true` when this is news: several operations may find the
/// same store away at the same time.
pub(super) fn note_away(
    store: &'static str,
    error: String,
    advice: Option<&'static str>,
    missed_by: Option<u64>,
) -> bool {
    let mut known = known();
    if let Some(outage) = known.get_mut(store) {
        outage.missed_by.extend(missed_by);
        return outage.update(error, advice);
    }
    let outage = Outage {
        store,
        since: Instant::now(),
        error,
        advice,
        missed_by: missed_by.into_iter().collect(),
    };
    known.insert(store, outage);
    count(store, true, advice.is_some());
    true
}

/// Notes what a store says that is known to be away. `true` when an operator has to act, and that is news.
pub(super) fn note_still_away(store: &'static str, error: String, advice: Option<&'static str>) -> bool {
    known()
        .get_mut(store)
        .is_some_and(|outage| outage.update(error, advice))
}

impl Outage {
    /// `true` when an operator has to act, and that is news.
    fn update(&mut self, error: String, advice: Option<&'static str>) -> bool {
        let is_news = self.advice.is_none() && advice.is_some();
        (self.error, self.advice) = (error, advice);
        count(self.store, true, advice.is_some());
        is_news
    }
}

/// Notes that a store has served an operation that found it away. `true` when it is back for everybody, and that is news.
pub(super) fn note_back(store: &'static str) -> bool {
    let mut known = known();
    let is_missed = known
        .get(store)
        .is_some_and(|outage| !outage.missed_by.is_empty());
    !is_missed && remove(&mut known, store)
}

/// Notes that a loop misses a store no more. `true` when nobody does, and that is news.
pub(super) fn note_served(store: &'static str, missed_by: u64) -> bool {
    let mut known = known();
    let was_last = known
        .get_mut(store)
        .is_some_and(|outage| outage.missed_by.remove(&missed_by) && outage.missed_by.is_empty());
    was_last && remove(&mut known, store)
}

fn remove(known: &mut BTreeMap<&'static str, Outage>, store: &'static str) -> bool {
    let was_away = known.remove(store).is_some();
    if was_away {
        count(store, false, false);
    }
    was_away
}

/// A preset may be another's than a store's.
fn count(name: &str, is_away: bool, needs_operator: bool) {
    if let Some(store) = Store::named(name) {
        metrics::store_away(store.label(), is_away, needs_operator);
    }
}
