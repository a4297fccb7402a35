//! Batches whose persons are too much to be held at once: they are committed in parts, in stream order.
//!
//! A part that is committed stays so when a later one fails: doing it again changes nothing.

use rustc_hash::{FxHashMap, FxHashSet};
use uuid::Uuid;

use crate::event::{Batch, Event};
use crate::runtime::pulse::Pulse;
use crate::runtime::retry::GaveUp;
use crate::runtime::shutdown::Shutdown;
use crate::stores::StoreError;

use crate::identity::commit::aftermath::Aftermath;
use crate::identity::publish::overrides::Moved;
use crate::identity::decision::resolve::Mapping;
use crate::identity::stage::Identity;

/// Text of persons that one transaction loads; parsed, it takes a few times as much.
pub(crate) const MOST_LOADED: u64 = 8 << 20;

/// The persons of a batch are too much for one transaction.
#[derive(Debug, Default)]
pub(crate) struct TooMuch {
    /// What each would take to load.
    pub(crate) sizes: FxHashMap<Uuid, u64>,
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
            let of_event: Vec<Uuid> = keys
                .filter_map(|key| Some(self.mappings.get(&key)?.person))
                .collect();
            let size = |person: &Uuid| self.sizes.get(person).copied().unwrap_or_default();
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

/// Decided events that PostgreSQL has.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// The person of each event's row.
    pub(crate) persons: Vec<Uuid>,
    /// Distinct ids that moved.
    pub(crate) moved: Vec<Moved>,
    /// Where the keys that PostgreSQL was asked about belong.
    pub(crate) mappings: FxHashMap<u32, Mapping>,
    /// Events whose merge would have joined two identified users.
    pub(crate) refused: Vec<usize>,
    /// Events of which that many property writes do not fit.
    pub(crate) left_out: Vec<(usize, usize)>,
    /// Whether anything was written.
    pub(crate) wrote: bool,
    /// What follows.
    pub(crate) aftermath: Aftermath,
}

impl Committed {
    /// Adds what was decided about the events behind.
    pub(crate) fn append(&mut self, next: Self) {
        let before = self.persons.len();
        self.persons.extend(next.persons);
        self.moved.extend(next.moved);
        self.mappings.extend(next.mappings);
        self.wrote |= next.wrote;
        self.refused
            .extend(next.refused.into_iter().map(|event| event + before));
        let left_out = next.left_out.into_iter();
        self.left_out
            .extend(left_out.map(|(event, writes)| (event + before, writes)));
    }
}

/// What became of an attempt to commit a batch.
pub(crate) enum Attempt {
    Committed(Committed),
    TooMuch(TooMuch),
}

impl Identity {
    /// Commits a batch, in as many parts as it takes.
    ///
    /// # Errors
    /// [`GaveUp`], with the events of the batch as they were, except for those that have become rejects.
    pub(crate) async fn commit(
        &mut self,
        batch: &mut Batch,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<Committed, GaveUp<StoreError>> {
        let too_much = match self.try_commit(batch, pulse, shutdown).await? {
            Attempt::Committed(committed) => return Ok(committed),
            Attempt::TooMuch(too_much) => too_much,
        };
        let mut waiting = std::mem::take(&mut batch.events);
        let mut sizes = too_much.parts(&waiting);
        sizes.reverse();
        tracing::debug!(
            events = waiting.len(),
            parts = sizes.len(),
            "persons are large: committing in parts"
        );
        let mut done = Vec::new();
        let mut committed = Committed::default();
        while let Some(size) = sizes.pop() {
            let behind = waiting.split_off(size);
            batch.events = std::mem::replace(&mut waiting, behind);
            match self.try_commit(batch, pulse, shutdown).await {
                Ok(Attempt::Committed(part)) => {
                    self.remember_part(batch, &part);
                    committed.append(part);
                    done.append(&mut batch.events);
                }
                Ok(Attempt::TooMuch(too_much)) => {
                    let again = too_much.parts(&batch.events);
                    sizes.extend(again.iter().rev());
                    batch.events.append(&mut waiting);
                    waiting = std::mem::take(&mut batch.events);
                }
                Err(gave_up) => {
                    done.append(&mut batch.events);
                    done.append(&mut waiting);
                    batch.events = done;
                    return Err(gave_up);
                }
            }
        }
        batch.events = done;
        Ok(committed)
    }
}

#[cfg(test)]
mod tests {
    use stream_reply::{EntryBlock, StreamId};

    use super::*;
    use crate::event::decode;
    use crate::event::field::FIELDS;
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
            let person = Uuid::from_u128(u128::from(key) + 1);
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
