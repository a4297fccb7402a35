//! Names that were written in the current hour. Bounded: a name that is evicted is written once more.

use std::sync::atomic::{AtomicU32, Ordering};

use quick_cache::sync::Cache;

use super::fingerprint::Fingerprint;

/// Names remembered of each kind ("How it is written" in docs/contract.md).
const CAPACITY: usize = 100_000;

/// Whether a name that was written this hour has to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It has not.
    Done,
    /// Its property has no type yet: a later value may give it one.
    Untyped,
}

/// Names written this hour.
#[derive(Debug)]
pub(super) struct Seen {
    hour: AtomicU32,
    /// Event names of a project.
    pub(super) events: Names,
    /// Properties of a project.
    pub(super) properties: Names,
    /// Properties of an event. Done only when the property itself is done.
    pub(super) event_properties: Names,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            hour: AtomicU32::new(0),
            events: Names::new(CAPACITY),
            properties: Names::new(CAPACITY),
            event_properties: Names::new(CAPACITY),
        }
    }
}

impl Seen {
    /// Forgets all names when a new hour has begun: they have to be written again.
    pub(super) fn begin(&self, hour: u32) {
        if self.hour.swap(hour, Ordering::Relaxed) != hour {
            for names in [&self.events, &self.properties, &self.event_properties] {
                names.names.clear();
            }
        }
    }
}

/// Names of one kind.
#[derive(Debug)]
pub(super) struct Names {
    names: Cache<Fingerprint, u32>,
}

impl Names {
    fn new(capacity: usize) -> Self {
        Self {
            names: Cache::new(capacity),
        }
    }

    /// What is known of a name in this hour; nothing when it was not written.
    pub(super) fn get(&self, name: Fingerprint, hour: u32) -> Option<Written> {
        let value = self.names.get(&name)?;
        (value >> 1 == hour).then_some(if value & 1 == 1 {
            Written::Done
        } else {
            Written::Untyped
        })
    }

    /// Remembers that a name was written in this hour.
    pub(super) fn mark(&self, name: Fingerprint, hour: u32, known: Written) {
        self.names
            .insert(name, hour << 1 | u32::from(known == Written::Done));
    }

    /// Remembers that several names were written in this hour.
    pub(super) fn mark_all(&self, names: impl Iterator<Item = (Fingerprint, Written)>, hour: u32) {
        for (name, known) in names {
            self.mark(name, hour, known);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_in_another_hour_counts_for_nothing() {
        let names = Names::new(10);
        names.mark(7, 1, Written::Done);
        assert_eq!(names.get(7, 1), Some(Written::Done));
        assert_eq!(names.get(7, 2), None);
        names.mark(7, 2, Written::Untyped);
        assert_eq!(names.get(7, 2), Some(Written::Untyped));
        assert_eq!(names.get(8, 2), None);
    }

    #[test]
    fn a_new_hour_makes_room() {
        let seen = Seen::default();
        seen.begin(1);
        seen.events.mark(7, 1, Written::Done);
        seen.begin(1);
        assert_eq!(seen.events.len(), 1);
        seen.begin(2);
        assert_eq!(seen.events.len(), 0);
    }

    #[test]
    fn a_full_cache_goes_on_remembering_new_names() {
        let names = Names::new(100);
        for name in 0..10_000 {
            names.mark(name, 1, Written::Done);
            assert_eq!(
                names.get(name, 1),
                Some(Written::Done),
                "the newest is remembered"
            );
        }
        assert!(names.len() <= 100);
    }
}
