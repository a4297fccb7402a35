//! Person properties as a join of versioned writes: whatever the order of delivery, however often repeated, the same
//! writes and merges end in the same properties.
//!
//! The rules, for one person:
//! - Of `$set` and `$unset` of a key, the newest decides.
//! - `$set_once` counts only when it is newer than that, and only where no value was set; of several, the oldest.
//!
//! And at a merge, as of the time of its `$identify`: the survivor's values stay, what it has none for is taken over;
//! later writes of either are the survivor's. Values that the platform wrote before there were versions are older than any
//! write.
//!
//! A person is bounded ([`Limits`]). What does not fit is left out, by rules that ask as little as they can about the order
//! of delivery:
//! - A value that alone is larger than a person may be, and all writes of an event that writes more keys than a person may
//!   have, are never taken.
//! - History goes before values do: where room is needed, the oldest sides of merges are joined for good, as if there had
//!   been more merges than are kept apart.
//! - Then a write that makes the person larger is left out, and one that does not is taken. An event's writes are taken in
//!   the order of their keys. At this edge, and only here, what came first stays.
//! - Of a merged person, what the survivor has no value for is taken over in the order of keys, as far as it fits.

mod key_state;
mod lineage;
mod stored;
mod version;
mod weight;
pub mod writes;

use std::hash::BuildHasher;

use self::lineage::{Lineage, Writes};
pub use self::version::Version;
pub use self::weight::Limits;
use self::weight::Weight;
use self::writes::{Change, PropertyWrites};

/// The properties of one person.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Properties {
    lineage: Lineage,
    weight: Weight,
}

impl Properties {
    /// Reads `persons.properties` and `persons.property_versions`.
    ///
    /// # Errors
    /// When either is not the JSON it has to be.
    pub fn load(properties: &str, versions: Option<&str>) -> Result<Self, serde_json::Error> {
        let lineage = stored::load(properties, versions)?;
        let weight = Weight::of_lineage(&lineage);
        Ok(Self { lineage, weight })
    }

    /// Joins what one event writes. `moves` are the merges that moved the event's distinct id, at any
    /// time: a write from before a merge is joined on the side it came from. Returns how many keys do not fit.
    pub fn apply(
        &mut self,
        writes: &PropertyWrites,
        version: Version,
        moves: &[Version],
        limits: Limits,
    ) -> usize {
        self.make_room(writes.weight(), limits);
        let merges = self.lineage.merge_count();
        let here = self.lineage.writes_at(version, moves);
        let mut left_out = 0;
        for (key, change) in writes.iter() {
            if !write(here, (key, change), version, &mut self.weight, limits) {
                left_out += 1;
            }
        }
        if self.lineage.merge_count() != merges {
            // Sides that nothing had been known of until now.
            self.lineage.keep_bounds();
            self.weigh();
            self.make_room(Weight::default(), limits);
        }
        left_out
    }

    /// Takes over what a merged person had: where both have a value, the survivor's stays. `at` is when the
    /// `$identify` was, `moves` the merges that moved its distinct id. Returns how many keys do not fit.
    pub fn absorb(&mut self, merged: Self, at: Version, moves: &[Version], limits: Limits) -> usize {
        let fits = limits.hold(self.weight + merged.weight);
        let own = if fits {
            Writes::default()
        } else {
            self.lineage.current()
        };
        self.lineage.merge(at, moves, merged.lineage);
        self.weigh();
        self.make_room(Weight::default(), limits);
        if fits {
            return 0;
        }
        let mut left_out = 0;
        let taken_over = self.lineage.first.0.keys().rev();
        let taken_over: Vec<String> = taken_over
            .filter(|key| !own.0.contains_key(*key))
            .cloned()
            .collect();
        for key in taken_over {
            if limits.hold(self.weight) {
                break;
            }
            if let Some(state) = self.lineage.first.0.remove(&key) {
                self.weight = self.weight - Weight::of_key(&key, &state);
                left_out += 1;
            }
        }
        left_out
    }

    /// An `$identify` at `at` found its user and its anonymous id joined already: when one from behind it did that, the
    /// merge belongs to `at`. `user` and `anonymous` are the merges that moved the two ids.
    pub fn joined_at(&mut self, at: Version, user: &[Version], anonymous: &[Version]) {
        self.lineage.merge_earlier(at, user, anonymous);
        self.weigh();
    }

    /// A number that another content has as good as never; another in every process, so that nobody can aim at it.
    pub fn fingerprint(&self, hasher: &impl BuildHasher) -> u64 {
        hasher.hash_one(self)
    }

    /// How many keys somebody has whose properties cannot be taken over.
    pub fn key_count(&self) -> usize {
        self.weight.keys
    }

    fn weigh(&mut self) {
        self.weight = Weight::of_lineage(&self.lineage);
    }

    /// Joins the oldest sides of merges until so much more fits, or there are none left.
    fn make_room(&mut self, wanted: Weight, limits: Limits) {
        while !limits.hold(self.weight + wanted) && !self.lineage.merges.is_empty() {
            self.lineage.join_oldest();
            self.weigh();
        }
    }

    /// The properties as their readers know them, JSON text.
    pub fn to_values(&self) -> String {
        stored::values(&self.lineage)
    }

    /// What else has to be kept, JSON text.
    pub fn to_versions(&self) -> String {
        stored::versions(&self.lineage)
    }
}

/// Joins a change of one key if it fits; whether it did. What has no effect fits.
fn write(
    here: &mut Writes,
    (key, change): (&str, &Change),
    version: Version,
    weight: &mut Weight,
    limits: Limits,
) -> bool {
    let known = here.0.get(key);
    if known.is_some_and(|state| state.outranks(version)) {
        return true;
    }
    let mut state = known.cloned().unwrap_or_default();
    match change {
        Change::Set(value) => state.decide(version, Some(value)),
        Change::Once(value) => state.once(version, value),
        Change::Unset => state.decide(version, None),
    }
    let before = known.map_or_else(Weight::default, |state| Weight::of_key(key, state));
    let after = Weight::of_key(key, &state);
    let total = *weight - before + after;
    if !limits.hold(total) && !after.fits_in(before) {
        return false;
    }
    *weight = total;
    match here.0.get_mut(key) {
        Some(known) => *known = state,
        None => drop(here.0.insert(key.to_owned(), state)),
    }
    true
}

#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod tests;
