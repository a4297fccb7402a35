//! Which stores are away now, as far as this process has seen: what is logged once and reported. Which of them have yet to
//! prove that they work is the gate's own knowledge.
//!
//! A loop that a store serves no more while others are served (its own connection is refused, or leads to another node) misses
//! the store until it is served itself: the outage lasts until none of these loops misses it. What an operator has to do for one
//! of them is said for as long, whatever others are told meanwhile.

use std::collections::BTreeMap;
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
    /// What it said last to the loops that miss it until it has served them, by their numbers.
    missed_by: BTreeMap<u64, Said>,
}

/// What a store said, and what an operator has to do.
type Said = (String, Option<&'static str>);

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
    let is_known = known.contains_key(store);
    let outage = known.entry(store).or_insert_with(|| Outage {
        store,
        since: Instant::now(),
        error: String::new(),
        advice: None,
        missed_by: BTreeMap::new(),
    });
    if let Some(number) = missed_by {
        outage.missed_by.insert(number, (error.clone(), advice));
    }
    outage.update((error, advice)) || !is_known
}

/// Notes what a store says that is known to be away. `true` when an operator has to act, and that is news.
pub(super) fn note_still_away(store: &'static str, error: String, advice: Option<&'static str>) -> bool {
    known()
        .get_mut(store)
        .is_some_and(|outage| outage.update((error, advice)))
}

impl Outage {
    /// `true` when an operator has to act, and that is news.
    fn update(&mut self, said: Said) -> bool {
        let had_advice = self.advice.is_some();
        let lasting = self.missed_by.values().find(|(_, advice)| advice.is_some());
        (self.error, self.advice) = match (said.1, lasting) {
            (None, Some(lasting)) => lasting.clone(),
            _ => said,
        };
        count(self.store, true, self.advice.is_some());
        !had_advice && self.advice.is_some()
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
    let Some(outage) = known.get_mut(store) else {
        return false;
    };
    if outage.missed_by.remove(&missed_by).is_none() {
        return false;
    }
    let Some(another) = outage.missed_by.values().next().cloned() else {
        return remove(&mut known, store);
    };
    let _not_news = outage.update(another);
    false
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
