//! What stands for a name in the caches: 128 bits, so that what they remember has one size and two names never meet.

use rand::Rng;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Stands for an event's name, a property's, or a property's under an event.
pub(super) type Fingerprint = u128;

/// Makes fingerprints. Each process makes others, so nobody can choose names that meet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fingerprints {
    seed: u64,
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self {
            seed: rand::rng().random(),
        }
    }
}

impl Fingerprints {
    /// Of a project; the beginning of all others.
    pub(super) fn project(self, project: Uuid) -> Fingerprint {
        xxh3_128_with_seed(project.as_bytes(), self.seed)
    }
}

/// Of a name within what `scope` stands for. `kind` keeps names of one spelling apart that mean different things.
pub(super) fn within(scope: Fingerprint, kind: Kind, name: &str) -> Fingerprint {
    let (low, high) = (scope as u64, (scope >> 64) as u64);
    let name = xxh3_128_with_seed(name.as_bytes(), low.wrapping_add(kind as u64));
    // The seed takes in half of the scope; this takes in the other.
    name ^ (u128::from(high) << 64)
}

/// What a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Event = 1,
    EventProperty = 2,
    PersonProperty = 3,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_meet_only_when_all_their_parts_are_the_same() {
        let all = Fingerprints::default();
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for project in [1, 2] {
            let project = all.project(Uuid::from_u128(project));
            for event in ["", "a", "a:b", "b"] {
                let event = within(project, Kind::Event, event);
                for scope in [project, event] {
                    for kind in [Kind::EventProperty, Kind::PersonProperty] {
                        for key in ["", "a", "b", "b:c", "c", "a:b"] {
                            seen.insert(within(scope, kind, key));
                            count += 1;
                        }
                    }
                }
            }
        }
        // The project's own come once per event.
        assert_eq!(seen.len(), count - 2 * 3 * 2 * 6);
    }
}
