//! The decision, and nothing but the decision: events in stream order over what PostgreSQL said under lock.
//!
//! No clock, no randomness, no I/O. What an `$identify` changes holds for the events behind it; those before it
//! keep the person they had, and the override carries them over.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::config::MergePolicy;
use crate::event::{Batch, DistinctId, PersonId};

use crate::identity::decision::properties::Version;

/// What PostgreSQL says about one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// The person.
    pub person: PersonId,
    /// Whether this distinct id has been the subject of an `$identify`.
    pub identified: bool,
    /// The newest `$identify` that moved it to another person; the newest there can be when that is not known.
    pub moved: Version,
}

/// What the stores say about a batch.
#[derive(Debug, Default)]
pub struct Known {
    /// Per key of the batch; `None` for an anonymous id that has no mapping.
    pub mappings: Vec<Option<Mapping>>,
    /// Identified distinct ids per person. Two of them say as much as all.
    pub identified: FxHashMap<PersonId, Vec<DistinctId>>,
}

/// One person becoming part of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    /// The person that goes.
    pub from: PersonId,
    /// The person it went into at that moment; a later merge of the same batch may take that one further.
    pub into: PersonId,
    /// Index of the event that caused it.
    pub event: usize,
}

/// An anonymous id that had no mapping, given to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// The anonymous id's key.
    pub key: u32,
    /// Its person when the batch is over.
    pub person: PersonId,
    /// Index of the event that did it.
    pub event: usize,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The person of each event's row.
    pub persons: Vec<PersonId>,
    /// The person of each key when the batch is over.
    pub final_persons: Vec<Option<PersonId>>,
    /// Keys that became identified.
    pub identified: Vec<u32>,
    /// The person each key had or was given first, before any merge of the batch.
    pub homes: Vec<Option<PersonId>>,
    /// Unseen anonymous ids that were given to a person, in order.
    pub attached: Vec<Attached>,
    /// Merges, in order.
    pub merges: Vec<Merge>,
    /// Every key that is identified when the batch is over.
    pub identified_keys: FxHashSet<u32>,
    /// Events whose merge would have joined two identified users.
    pub refused: Vec<usize>,
}

impl Decision {
    /// Where a person ended up after all merges of the batch.
    pub fn survivor(&self, person: PersonId) -> PersonId {
        self.merges
            .iter()
            .fold(person, |at, merge| if at == merge.from { merge.into } else { at })
    }

    /// Whether PostgreSQL has to be told anything.
    pub fn changes_identity(&self) -> bool {
        !(self.identified.is_empty() && self.attached.is_empty() && self.merges.is_empty())
    }
}

/// Decides a batch. `known.mappings` has an entry per key of the batch.
pub fn resolve(batch: &Batch, known: &Known, policy: MergePolicy) -> Decision {
    let mut state = State::new(batch, known);
    for (index, event) in batch.events.iter().enumerate() {
        let user = event.key;
        let person = state.person_or_new(batch, user);
        if let Some(identify) = event.identify {
            state.identify(batch, user);
            if let Some(anonymous) = identify.anonymous {
                state.join(batch, index, user, anonymous, policy);
            }
        }
        // Merging goes into the user's person, so it is the same before and after.
        state.outcome.persons.push(person);
    }
    state.finish()
}

struct State {
    /// Per key: the person it was given, before merges of this batch.
    person: Vec<Option<PersonId>>,
    identified_keys: FxHashSet<u32>,
    /// Where merged persons of this batch went, one hop.
    went: FxHashMap<PersonId, PersonId>,
    /// Per living person: identified distinct ids.
    identified: FxHashMap<PersonId, Vec<DistinctId>>,
    outcome: Decision,
}

impl State {
    fn new(batch: &Batch, known: &Known) -> Self {
        let identified_keys = known.mappings.iter().enumerate();
        let identified_keys = identified_keys
            .filter(|(_, m)| m.is_some_and(|m| m.identified))
            .map(|(k, _)| k as u32)
            .collect();
        Self {
            person: known.mappings.iter().map(|m| m.map(|m| m.person)).collect(),
            identified_keys,
            went: FxHashMap::default(),
            identified: known.identified.clone(),
            outcome: Decision {
                persons: Vec::with_capacity(batch.events.len()),
                ..Decision::default()
            },
        }
    }

    /// The living person of a key.
    fn person(&self, key: u32) -> Option<PersonId> {
        let mut person = self.person[key as usize]?;
        while let Some(into) = self.went.get(&person) {
            person = *into;
        }
        Some(person)
    }

    fn person_or_new(&mut self, batch: &Batch, key: u32) -> PersonId {
        self.person(key).unwrap_or_else(|| {
            let person = batch.keys[key as usize].new_person();
            self.person[key as usize] = Some(person);
            person
        })
    }

    fn identify(&mut self, batch: &Batch, user: u32) {
        if self.identified_keys.insert(user) {
            let person = self.person_or_new(batch, user);
            self.identified
                .entry(person)
                .or_default()
                .push(batch.keys[user as usize].distinct_id.clone());
            self.outcome.identified.push(user);
        }
    }

    fn join(&mut self, batch: &Batch, event: usize, user: u32, anonymous: u32, policy: MergePolicy) {
        let into = self.person_or_new(batch, user);
        let Some(from) = self.person(anonymous) else {
            self.person[anonymous as usize] = Some(into);
            self.outcome.attached.push(Attached {
                key: anonymous,
                person: into,
                event,
            });
            return;
        };
        if from == into {
            return;
        }
        let user_id = &batch.keys[user as usize].distinct_id;
        let of_somebody_else = self
            .identified
            .get(&from)
            .is_some_and(|ids| ids.iter().any(|id| id != user_id));
        if policy == MergePolicy::Guarded && of_somebody_else {
            self.outcome.refused.push(event);
            return;
        }
        let moved = self.identified.remove(&from).unwrap_or_default();
        self.identified.entry(into).or_default().extend(moved);
        self.went.insert(from, into);
        self.outcome.merges.push(Merge { from, into, event });
    }

    fn finish(mut self) -> Decision {
        self.outcome.final_persons = (0..self.person.len())
            .map(|key| self.person(key as u32))
            .collect();
        for attached in &mut self.outcome.attached {
            if let Some(person) = self.outcome.final_persons[attached.key as usize] {
                attached.person = person;
            }
        }
        self.outcome.homes = self.person;
        self.outcome.identified_keys = self.identified_keys;
        self.outcome
    }
}
