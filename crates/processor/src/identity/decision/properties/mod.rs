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
//! - The sides of merges are kept apart as long as they take no more than a sixteenth of a person's bytes, the newest
//!   merges first; the others are joined for good. A write of a merged person that arrives later still, from before such
//!   a merge, is left out.
//! - History goes before values do: where room is needed, the oldest sides of merges are joined for good, and then of each
//!   key's set-onces only the oldest and the newest stay.
//! - Then a write that makes the person larger is left out, and one that does not is taken. An event's writes are taken in
//!   the order of their keys. At this edge, and only here, what came first stays.
//! - Of a merged person, what the survivor has no value for is taken over in the order of keys, as far as it fits.

mod change;
mod key_state;
mod lineage;
mod onces;
mod stored;
mod version;
mod weight;
pub mod writes;

use std::collections::BTreeSet;
use std::hash::BuildHasher;

use self::change::Change;
use self::lineage::{Lineage, Writes};
pub use self::version::Version;
pub use self::weight::Limits;
use self::weight::Weight;
use self::writes::PropertyWrites;

/// Of the bytes that a person may take, the sides of merges that are kept apart may take one in so many.
const HISTORY: usize = 16;
/// `$identify`s per person that are known to have been no merge, because one from before was; beyond, the oldest are
/// forgotten.
const MOST_EARLIER: usize = 256;

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
        let mut left_out = 0;
        let Some(here) = self.lineage.writes_at(version, moves) else {
            return writes.iter().count();
        };
        for change in writes.iter() {
            if !write(here, change, version, &mut self.weight, limits) {
                left_out += 1;
            }
        }
        if moves.iter().any(|moved| *moved > version) {
            // Perhaps a side that nothing had been known of until now.
            self.keep_bounds(limits);
        }
        left_out
    }

    /// Takes over what a merged person had: where both have a value, the survivor's stays. `at` is when the
    /// `$identify` was, `moves` the merges that moved its distinct id. Returns how many keys do not fit.
    pub fn absorb(&mut self, merged: Self, at: Version, moves: &[Version], limits: Limits) -> usize {
        let fits = limits.hold(self.weight + merged.weight);
        let own: BTreeSet<String> = if fits {
            BTreeSet::new()
        } else {
            self.lineage.flat().0.keys().cloned().collect()
        };
        self.lineage.merge(at, moves, merged.lineage);
        self.keep_bounds(limits);
        if fits {
            return 0;
        }
        let mut left_out = 0;
        let taken_over = self.lineage.own.0.keys().rev();
        let taken_over: Vec<String> = taken_over.filter(|key| !own.contains(*key)).cloned().collect();
        for key in taken_over {
            if limits.hold(self.weight) {
                break;
            }
            if let Some(state) = self.lineage.own.0.remove(&key) {
                self.weight = self.weight - Weight::of_key(&key, &state);
                left_out += 1;
            }
        }
        left_out
    }

    /// An `$identify` at `at` found its user and its anonymous id joined already: when one from behind it did that, the
    /// merge belongs to `at`. `user` and `anonymous` are the merges that moved the two ids.
    pub fn joined_at(&mut self, at: Version, user: &[Version], anonymous: &[Version], limits: Limits) {
        self.lineage.merge_earlier(at, user, anonymous);
        self.keep_bounds(limits);
    }

    /// A number that another content has as good as never; another in every process, so that no client can aim at it.
    pub fn fingerprint(&self, hasher: &impl BuildHasher) -> u64 {
        hasher.hash_one(self)
    }

    /// How many keys a person has whose properties cannot be taken over.
    pub fn key_count(&self) -> usize {
        self.weight.keys
    }

    fn weigh(&mut self) {
        self.weight = Weight::of_lineage(&self.lineage);
    }

    /// Joins for good what may not be kept apart.
    fn keep_bounds(&mut self, limits: Limits) {
        self.lineage.keep_depth();
        self.lineage.forget_earlier(MOST_EARLIER);
        let most = limits.bytes / HISTORY;
        let too_many = |lineage: &Lineage| {
            let mut room = most;
            let newest_first = lineage.merged.iter().rev();
            let mut newest_first = newest_first.map(|(at, side)| (*at, Weight::of_merged(side).bytes));
            let end = newest_first.find(|(_, bytes)| match room.checked_sub(*bytes) {
                Some(left) => {
                    room = left;
                    false
                }
                None => true,
            });
            end.map(|(at, _)| at)
        };
        if too_many(&self.lineage).is_some() {
            self.lineage.forget_outranked();
            if let Some(newest) = too_many(&self.lineage) {
                self.lineage.join_up_to(newest);
            }
        }
        self.weigh();
        self.make_room(Weight::default(), limits);
    }

    /// Forgets history until so much more fits, or there is none left.
    fn make_room(&mut self, wanted: Weight, limits: Limits) {
        while !limits.hold(self.weight + wanted) {
            let mut excess = self.weight + wanted - limits.weight();
            let mut newest = None;
            for (at, side) in &self.lineage.merged {
                newest = Some(*at);
                excess = excess - Weight::of_merged(side);
                if excess == Weight::default() {
                    break;
                }
            }
            let Some(newest) = newest else {
                break;
            };
            self.lineage.join_up_to(newest);
            self.weigh();
        }
        if !limits.hold(self.weight + wanted) {
            for state in self.lineage.own.0.values_mut() {
                state.onces.leave_ends();
            }
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
    let known = here.0.get_mut(key);
    if known.as_ref().is_some_and(|state| state.outranks(version)) {
        return true;
    }
    let before = known
        .as_ref()
        .map_or_else(Weight::default, |state| Weight::of_key(key, state));
    // It may part a row of equal set-onces, whose value is stored once more then.
    if limits.hold(*weight + before + Weight::of_change(key, change)) {
        let state = match known {
            Some(state) => state,
            None => here.key(key),
        };
        change.join_to(state, version);
        *weight = *weight - before + Weight::of_key(key, state);
        return true;
    }
    let mut state = known.as_deref().cloned().unwrap_or_default();
    change.join_to(&mut state, version);
    let after = Weight::of_key(key, &state);
    let total = *weight - before + after;
    if !limits.hold(total) && !after.fits_in(before) {
        return false;
    }
    *weight = total;
    match known {
        Some(known) => *known = state,
        None => *here.key(key) = state,
    }
    true
}

#[cfg(test)]
mod histories_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod lineage_tests;
#[cfg(test)]
mod stored_tests;
#[cfg(test)]
mod tests;
