//! Batches whose persons are too much to be held at once, and how they are divided.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::{Event, PersonId};

use crate::identity::decision::resolve::Mapping;

/// Text of persons that one transaction loads; parsed, it takes a few times as much.
pub(crate) const MOST_LOADED: u64 = 8 << 20;

/// The persons of a batch are too much for one transaction.
#[derive(Debug, Default)]
pub(crate) struct TooMuch {
    /// What each would take to load.
    pub(crate) sizes: FxHashMap<PersonId, u64>,
    /// Whose key is whose.
    pub(crate) mappings: FxHashMap<u32, Mapping>,
}

impl TooMuch {
    /// How many events each part may have, so that its persons fit. An event alone always does.
    pub(crate) fn parts(&self, events: &[Event]) -> Vec<usize> {
        let mut parts = Vec::new();
        let mut persons = FxHashSet::default();
        let (mut events_in_part, mut bytes) = (0, 0);
        for event in events {
            let keys = std::iter::once(event.key).chain(event.identify.and_then(|i| i.anonymous));
            let of_event: Vec<PersonId> = keys
                .filter_map(|key| Some(self.mappings.get(&key)?.person))
                .collect();
            let size = |person: &PersonId| self.sizes.get(person).copied().unwrap_or_default();
            let new = of_event.iter().filter(|person| !persons.contains(*person));
            let more: u64 = new.map(size).sum();
            if events_in_part > 0 && bytes + more > MOST_LOADED {
                parts.push(events_in_part);
                persons.clear();
                (events_in_part, bytes) = (0, 0);
            }
            for person in of_event {
                if persons.insert(person) {
                    bytes += self.sizes.get(&person).copied().unwrap_or_default();
                }
            }
            events_in_part += 1;
        }
        parts.push(events_in_part);
        parts
    }
}

#[cfg(test)]
mod tests {
    use stream_reply::{EntryBlock, StreamId};
    use uuid::Uuid;

    use super::*;
    use crate::event::field::FIELDS;
    use crate::event::{Batch, decode};
    use crate::identity::decision::properties::Version;

    #[test]
    fn events_are_taken_together_as_far_as_their_persons_fit() {
        let of = ["a", "b", "a", "c", "c", "large", "d"];
        let entries = of.iter().enumerate().map(|(n, distinct_id)| {
            let fields = [
                ("project_id", "11111111-1111-1111-1111-111111111111"),
                ("distinct_id", *distinct_id),
                ("event_name", "e"),
            ];
            (StreamId::new(n as u64 + 1, 0), fields)
        });
        let mut batch = Batch::default();
        let block = EntryBlock::of("s", &FIELDS, entries);
        decode::append(&mut batch, block, 0, "s", false, &[]);
        let third = MOST_LOADED / 3 + 1;
        let mut too_much = TooMuch::default();
        for (size, key) in [third, third, third, 100 * third, third].into_iter().zip(0..) {
            let person = PersonId(Uuid::from_u128(u128::from(key) + 1));
            let mapping = Mapping {
                person,
                identified: false,
                moved: Version::OLDEST,
            };
            too_much.mappings.insert(key, mapping);
            too_much.sizes.insert(person, size);
        }
        assert_eq!(too_much.parts(&batch.events), [3, 2, 1, 1]);
    }
}
