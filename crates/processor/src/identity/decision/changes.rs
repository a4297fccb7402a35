//! What a batch changes about persons' properties.

use std::collections::hash_map::Entry;
use std::hash::RandomState;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::{Batch, Event, PersonId};

use super::moves::Moves;
use super::properties::writes::PropertyWrites;
use super::properties::{Limits, Properties, Version};
use super::resolve::{Decision, Merge};
use super::rules::Rules;

/// A person as locked.
#[derive(Debug)]
pub(crate) enum LockedPerson {
    /// Its properties.
    Loaded(Properties),
    /// It has more than is loaded.
    TooLarge,
    /// What is wrong with them.
    Unreadable(String),
}

/// A person's stored properties cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("properties of person {person}: {error}")]
pub(crate) struct UnreadablePerson {
    person: PersonId,
    error: String,
}

/// What a batch changes besides mappings.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Properties, in the order of the persons' ids.
    pub(crate) properties: Vec<PropertyChange>,
    /// The moves of every key and person when the batch is over.
    pub(crate) moves: Moves,
    /// Events of which that many property writes do not fit.
    pub(crate) left_out: Vec<(usize, usize)>,
}

/// New properties of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PropertyChange {
    /// The person.
    pub(crate) person: PersonId,
    /// `persons.properties` as JSON text.
    pub(crate) properties: String,
    /// `persons.property_versions` as JSON text.
    pub(crate) versions: String,
    /// Another person was merged into this one.
    pub(crate) survived: bool,
}

/// What the batch's events change about properties, in stream order, merges included. Persons whose properties end up
/// as they were are left out.
pub(crate) fn changes(
    batch: &Batch,
    outcome: &Decision,
    locked: FxHashMap<PersonId, LockedPerson>,
    moves: Moves,
    rules: Rules,
) -> Result<Changes, UnreadablePerson> {
    let mut persons = Persons::new(locked, rules.limits);
    let mut moves = moves;
    let mut survivors = FxHashSet::default();
    let mut left_out = Vec::new();
    let mut merges = outcome.merges.iter().peekable();
    let mut attached = outcome.attached.iter().peekable();
    let mut refused = outcome.refused.iter().peekable();
    for (index, event) in batch.events.iter().enumerate() {
        let at = Version::of(event.timestamp, event.source, rules.order);
        let user = moves.of(event.key, outcome.homes[event.key as usize]);
        let mut decided = refused.next_if(|refused| **refused == index).is_some();
        let mut does_not_fit = 0;
        while let Some(merge) = merges.next_if(|merge| merge.event == index) {
            does_not_fit += persons.merge(merge, at, &user)?;
            moves.merge(merge, at, &user);
            survivors.remove(&merge.from);
            survivors.insert(merge.into);
            decided = true;
        }
        while let Some(attached) = attached.next_if(|attached| attached.event == index) {
            moves.attach(attached, at, &user);
            decided = true;
        }
        if let Some(anonymous) = event.identify.and_then(|identify| identify.anonymous)
            && !decided
        {
            let anonymous = moves.of(anonymous, outcome.homes[anonymous as usize]);
            if anonymous.iter().any(|moved| *moved > at)
                && let Some(person) = persons.of(outcome.persons[index])?
            {
                person.joined_at(at, &user, &anonymous, rules.limits);
            }
        }
        does_not_fit += persons.write(batch, event, outcome.persons[index], at, &user)?;
        if does_not_fit > 0 {
            left_out.push((index, does_not_fit));
        }
    }
    moves.close();
    Ok(Changes {
        properties: persons.changed(&survivors),
        moves,
        left_out,
    })
}

/// Persons' properties while a batch is gone through.
struct Persons {
    locked: FxHashMap<PersonId, LockedPerson>,
    current: FxHashMap<PersonId, Current>,
    limits: Limits,
    hasher: RandomState,
}

/// What is known of a person.
enum Current {
    /// Its properties, and the fingerprint of what they were; none of a person that had none.
    Loaded(Properties, Option<u64>),
    /// It has more than is loaded: it keeps what it has.
    TooLarge,
}

impl Persons {
    fn new(locked: FxHashMap<PersonId, LockedPerson>, limits: Limits) -> Self {
        Self {
            locked,
            current: FxHashMap::default(),
            limits,
            hasher: RandomState::new(),
        }
    }

    /// A person's properties; `None` when they are too large to be loaded.
    fn of(&mut self, person: PersonId) -> Result<Option<&mut Properties>, UnreadablePerson> {
        let current = match self.current.entry(person) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(load(&mut self.locked, &self.hasher, person)?),
        };
        Ok(match current {
            Current::Loaded(properties, _) => Some(properties),
            Current::TooLarge => None,
        })
    }

    /// Joins what an event writes. Returns how many writes do not fit.
    fn write(
        &mut self,
        batch: &Batch,
        event: &Event,
        person: PersonId,
        at: Version,
        user: &[Version],
    ) -> Result<usize, UnreadablePerson> {
        if !event.has_user_properties() {
            return Ok(0);
        }
        let limits = self.limits;
        let writes = PropertyWrites::of(batch.user_properties(event), limits);
        if writes.is_empty() {
            return Ok(writes.too_large());
        }
        Ok(match self.of(person)? {
            Some(properties) => writes.too_large() + properties.apply(&writes, at, user, limits),
            None => writes.count(),
        })
    }

    /// Joins two persons. When one of them is too large to be loaded, the survivor keeps what it has. Returns how many
    /// keys are not taken over, at least one when they cannot be counted.
    fn merge(&mut self, merge: &Merge, at: Version, user: &[Version]) -> Result<usize, UnreadablePerson> {
        let merged = match self.current.remove(&merge.from) {
            Some(known) => known,
            None => load(&mut self.locked, &self.hasher, merge.from)?,
        };
        let limits = self.limits;
        let survivor = self.of(merge.into)?;
        Ok(match (merged, survivor) {
            (Current::Loaded(merged, _), Some(survivor)) => survivor.absorb(merged, at, user, limits),
            (Current::Loaded(merged, _), None) => merged.key_count(),
            (Current::TooLarge, _) => 1,
        })
    }

    fn changed(self, survivors: &FxHashSet<PersonId>) -> Vec<PropertyChange> {
        let mut changes = Vec::new();
        for (person, current) in self.current {
            let Current::Loaded(properties, before) = current else {
                continue;
            };
            let survived = survivors.contains(&person);
            let now = Some(properties.fingerprint(&self.hasher));
            if survived || before.map_or(properties != Properties::default(), |_| now != before) {
                changes.push(PropertyChange {
                    person,
                    properties: properties.to_values(),
                    versions: properties.to_versions(),
                    survived,
                });
            }
        }
        changes.sort_unstable_by_key(|change| change.person);
        changes
    }
}

fn load(
    locked: &mut FxHashMap<PersonId, LockedPerson>,
    hasher: &RandomState,
    person: PersonId,
) -> Result<Current, UnreadablePerson> {
    match locked.remove(&person) {
        None => Ok(Current::Loaded(Properties::default(), None)),
        Some(LockedPerson::Loaded(properties)) => {
            let fingerprint = properties.fingerprint(hasher);
            Ok(Current::Loaded(properties, Some(fingerprint)))
        }
        Some(LockedPerson::TooLarge) => Ok(Current::TooLarge),
        Some(LockedPerson::Unreadable(error)) => Err(UnreadablePerson { person, error }),
    }
}
