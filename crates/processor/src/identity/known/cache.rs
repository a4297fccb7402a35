//! The bounded in-process copy of committed mappings.
//!
//! An entry may be out of date: another instance may have merged its person away. That is harmless for rows (see
//! ARCHITECTURE.md); whatever changes identity reads PostgreSQL under lock instead. Nor is an entry believed for ever: a
//! while after PostgreSQL was asked last it falls due, and is looked up again when it is used.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use rand::Rng;

use crate::config::PropertyOrder;
use crate::event::{DistinctId, Event, Key, KeyRef, ProjectId};

use crate::identity::decision::properties::Version;
use crate::identity::decision::resolve::Mapping;

/// Room is made at once for at most so many: a cache that grows as it fills takes twice as much in the end. What is not
/// used yet is address space only.
const MOST_RESERVED: usize = 1_000_000;

/// Key as the cache owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CachedKey {
    project: ProjectId,
    distinct_id: DistinctId,
}

impl CachedKey {
    fn borrowed(&self) -> KeyRef<'_> {
        KeyRef::new(self.project, &self.distinct_id)
    }
}

impl Hash for CachedKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl Equivalent<CachedKey> for KeyRef<'_> {
    fn equivalent(&self, key: &CachedKey) -> bool {
        *self == key.borrowed()
    }
}

/// A mapping, and when it is to be looked up again.
#[derive(Debug, Clone, Copy)]
struct Entry {
    mapping: Mapping,
    due: Instant,
}

/// Distinct ids and their persons, the least used going first when full.
pub struct PersonCache {
    entries: Cache<CachedKey, Entry>,
    believed_for: Duration,
}

impl PersonCache {
    /// A cache for this many distinct ids, each looked up again after at most so long.
    pub fn new(capacity: usize, believed_for: Duration) -> Self {
        let entries = Cache::new(capacity);
        entries.reserve(capacity.min(MOST_RESERVED));
        Self {
            entries,
            believed_for,
        }
    }

    /// What is remembered of a key, and whether it is due at `now`.
    pub fn get(&self, key: &Key, now: Instant) -> Option<(Mapping, bool)> {
        let entry = self.entries.get(&key.borrowed())?;
        Some((entry.mapping, entry.due <= now))
    }

    /// Remembers a committed mapping that was read at `now`. What was read together falls due at different times.
    pub fn insert(&self, key: &Key, mapping: Mapping, now: Instant) {
        let due = now + self.believed_for.mul_f64(rand::rng().random_range(0.5..1.0));
        self.put(key, Entry { mapping, due });
    }

    /// The same of a mapping that was not compared with Redis. Returns whether it is to be: when nothing was remembered, or
    /// another person, or what is remembered is due. Otherwise it falls due as before.
    pub fn learn(&self, key: &Key, mapping: Mapping, now: Instant) -> bool {
        let before = self.entries.get(&key.borrowed());
        match before {
            Some(before) if before.mapping.person == mapping.person && before.due > now => {
                if before.mapping != mapping {
                    self.put(key, Entry { mapping, ..before });
                }
                false
            }
            _ => {
                self.insert(key, mapping, now);
                true
            }
        }
    }

    /// Remembers a committed mapping that Redis was not told of: it is due at once.
    pub fn note(&self, key: &Key, mapping: Mapping, now: Instant) {
        self.put(key, Entry { mapping, due: now });
    }

    fn put(&self, key: &Key, entry: Entry) {
        let owned = CachedKey {
            project: key.project,
            distinct_id: key.distinct_id.clone(),
        };
        self.entries.insert(owned, entry);
    }
}

/// Whether an event asks nothing of PostgreSQL when the cache is right about its keys.
pub(crate) fn needs_nothing(
    event: &Event,
    order: PropertyOrder,
    mapping: impl Fn(u32) -> Option<Mapping>,
) -> bool {
    if event.has_user_properties() {
        return false;
    }
    let Some(identify) = event.identify else {
        return true;
    };
    // Persons are only ever joined: two ids seen on one person stay on one person, identified stays identified. But when
    // they were joined by an event behind this one, properties have to know.
    match (mapping(event.key), identify.anonymous.map(mapping)) {
        (Some(user), None) => user.identified,
        (Some(user), Some(Some(anonymous))) => {
            user.identified
                && user.person == anonymous.person
                && anonymous.moved <= Version::of(event.timestamp, event.source, order)
        }
        _ => false,
    }
}
