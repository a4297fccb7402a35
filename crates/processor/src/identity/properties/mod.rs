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

mod key_state;
mod lineage;
mod stored;
mod version;
pub mod writes;

use self::lineage::Lineage;
pub use self::version::Version;
use self::writes::{Change, PropertyWrites};

/// The properties of one person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    lineage: Lineage,
}

impl Properties {
    /// Reads `persons.properties` and `persons.property_versions`.
    ///
    /// # Errors
    /// When either is not the JSON it has to be.
    pub fn load(properties: &str, versions: Option<&str>) -> Result<Self, serde_json::Error> {
        let lineage = stored::load(properties, versions)?;
        Ok(Self { lineage })
    }

    /// Joins what one event writes. `moves` are the merges that moved the event's distinct id, at any
    /// time: a write from before a merge is joined on the side it came from.
    pub fn apply(&mut self, writes: &PropertyWrites, version: Version, moves: &[Version]) {
        let here = self.lineage.writes_at(version, moves);
        for (key, change) in writes.iter() {
            let state = here.key(key);
            match change {
                Change::Set(value) => state.decide(version, Some(value)),
                Change::Once(value) => state.once(version, value),
                Change::Unset => state.decide(version, None),
            }
        }
    }

    /// Takes over what a merged person had: where both have a value, the survivor's stays. `at` is when the
    /// `$identify` was, `moves` the merges that moved its distinct id.
    pub fn absorb(&mut self, merged: Self, at: Version, moves: &[Version]) {
        self.lineage.merge(at, moves, merged.lineage);
    }

    /// An `$identify` at `at` found its user and its anonymous id joined already: when one from behind it did that, the
    /// merge belongs to `at`. `user` and `anonymous` are the merges that moved the two ids.
    pub fn joined_at(&mut self, at: Version, user: &[Version], anonymous: &[Version]) {
        self.lineage.merge_earlier(at, user, anonymous);
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

#[cfg(test)]
mod tests;
