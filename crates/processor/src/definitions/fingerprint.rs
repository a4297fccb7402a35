//! Fingerprints: 128 bits that stand for a name in the caches, so that entries have a fixed size and two names practically
//! never collide.

use rand::Rng;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::event::ProjectId;

/// Stands for the name of an event, of a property, or of a property of one event.
pub(super) type Fingerprint = u128;

/// Makes fingerprints. Each process draws its own seed, so a client cannot choose names that collide.
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
    /// The fingerprint of a project: the scope that all its names are made in.
    pub(super) fn project(self, project: ProjectId) -> Fingerprint {
        xxh3_128_with_seed(project.0.as_bytes(), self.seed)
    }
}

/// The fingerprint of a name within `scope`. `kind` tells apart equal names of different things.
pub(super) fn within(scope: Fingerprint, kind: Kind, name: &str) -> Fingerprint {
    let (low, high) = (scope as u64, (scope >> 64) as u64);
    let name = xxh3_128_with_seed(name.as_bytes(), low.wrapping_add(kind as u64));
    // The seed depends on one half of the scope; this adds the other half.
    name ^ (u128::from(high) << 64)
}

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Event = 1,
    EventProperty = 2,
    PersonProperty = 3,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn names_meet_only_when_all_their_parts_are_the_same() {
        let all = Fingerprints::default();
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for project in [1, 2] {
            let project = all.project(ProjectId(Uuid::from_u128(project)));
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
