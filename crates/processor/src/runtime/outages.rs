//! Which stores are away now, as far as this process has seen: what is logged once and reported. Which of them have yet to
//! prove that they work is the gate's own knowledge.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::stores::Store;

/// Notes that a store takes work again, however that was found out.
pub fn is_back(store: Store) {
    if note(store.name(), false) {
        tracing::info!(%store, "store is back");
    }
}

/// Presets that were exhausted and have not succeeded since, by name.
static AWAY: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The stores that are away now.
pub fn away() -> Vec<&'static str> {
    AWAY.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .copied()
        .filter(|name| {
            [Store::Redis, Store::Postgres, Store::ClickHouse]
                .map(Store::name)
                .contains(name)
        })
        .collect()
}

/// Notes a store's state. `true` when this is news: several operations may find the same store away at the same time.
pub(super) fn note(store: &'static str, away: bool) -> bool {
    let mut stores = AWAY.lock().unwrap_or_else(PoisonError::into_inner);
    if away {
        stores.insert(store)
    } else {
        stores.remove(store)
    }
}
