//! The form in which a person's writes lie in PostgreSQL: `persons.properties` is what readers know, plain;
//! `persons.property_versions` holds the rest.
//!
//! Without merges it is an object: per key when it was set or unset, and its set-onces. With merges it is an array that
//! holds everything, values included: the first writes, each merge as `[version, merged person, writes since]`, and what was
//! taken for a merge, each with the one that was.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::key_state::KeyState;
use super::lineage::{Lineage, Merged, Writes};
use super::version::Version;

/// A key's writes.
#[derive(Debug, Default, Serialize, Deserialize)]
struct StoredKey {
    /// The value was set then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<Version>,
    /// To this; left out where `persons.properties` tells.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "even_null"
    )]
    v: Option<Box<RawValue>>,
    /// The key was unset then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    u: Option<Version>,
    /// Set-onces, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    o: Vec<(Version, Box<RawValue>)>,
}

/// A value that is there, `null` included.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

impl StoredKey {
    fn of(state: &KeyState, with_value: bool) -> Self {
        let mut stored = Self::default();
        match &state.decided {
            Some((at, Some(value))) => {
                stored.s = Some(*at);
                stored.v = raw(value).filter(|_| with_value);
            }
            Some((at, None)) => stored.u = Some(*at),
            None => {}
        }
        let onces = state.onces.iter();
        stored.o = onces.filter_map(|(at, value)| Some((*at, raw(value)?))).collect();
        stored
    }

    fn state(self, value: Option<&str>) -> KeyState {
        let set = self.v.as_deref().map(RawValue::get).or(value);
        let decided = match (self.s, self.u) {
            (Some(at), _) => set.map(|value| (at, Some(value.to_owned()))),
            (None, Some(at)) => Some((at, None)),
            (None, None) => None,
        };
        let onces = self.o.into_iter();
        KeyState {
            decided,
            onces: onces.map(|(at, value)| (at, value.get().to_owned())).collect(),
        }
    }
}

type StoredWrites = BTreeMap<String, StoredKey>;

/// A lineage with merges, and the `$identify`s that were found to have been no merge, each with the one that was.
#[derive(Debug, Serialize, Deserialize)]
struct StoredLineage(
    StoredWrites,
    Vec<(Version, StoredLineage, StoredWrites)>,
    Vec<(Version, Version)>,
);

impl StoredLineage {
    fn of(lineage: &Lineage) -> Self {
        let merges = lineage.merges.iter();
        let merges = merges.map(|merged| (merged.at, Self::of(&merged.from), stored(&merged.after, true)));
        let earlier = lineage.earlier.iter().map(|(merge, place)| (*merge, *place));
        Self(stored(&lineage.first, true), merges.collect(), earlier.collect())
    }

    fn lineage(self) -> Lineage {
        let merges = self.1.into_iter().map(|(at, from, after)| Merged {
            at,
            from: from.lineage(),
            after: writes(after),
        });
        Lineage {
            first: writes(self.0),
            merges: merges.collect(),
            earlier: self.2.into_iter().collect(),
        }
    }
}

fn stored(writes: &Writes, with_values: bool) -> StoredWrites {
    let keys = writes.0.iter();
    keys.map(|(key, state)| (key.clone(), StoredKey::of(state, with_values)))
        .collect()
}

fn writes(stored: StoredWrites) -> Writes {
    let keys = stored.into_iter();
    Writes(keys.map(|(key, state)| (key, state.state(None))).collect())
}

/// Reads both columns.
///
/// # Errors
/// When either is not the JSON it has to be.
pub(super) fn load(properties: &str, versions: Option<&str>) -> Result<Lineage, serde_json::Error> {
    let values: BTreeMap<String, Box<RawValue>> = serde_json::from_str(properties)?;
    let versions = versions.unwrap_or("{}");
    let mut lineage = if versions.trim_start().starts_with('[') {
        serde_json::from_str::<StoredLineage>(versions)?.lineage()
    } else {
        let stored: StoredWrites = serde_json::from_str(versions)?;
        let states = stored.into_iter().map(|(key, stored)| {
            let value = values.get(&key).map(|value| value.get());
            let state = stored.state(value);
            (key, state)
        });
        Lineage {
            first: Writes(states.collect()),
            ..Lineage::default()
        }
    };
    take_in_edits(&mut lineage, &values);
    Ok(lineage)
}

/// What somebody else wrote into `persons.properties`: values from before there were versions, and edits since. They
/// stand until a newer write; the merges before them are no longer told apart.
fn take_in_edits(lineage: &mut Lineage, values: &BTreeMap<String, Box<RawValue>>) {
    let mut current = lineage.current();
    let mut edited = false;
    for (key, value) in values {
        let known = current.0.get(key);
        if known.and_then(KeyState::value) == Some(value.get()) {
            continue;
        }
        edited = true;
        let at = known.and_then(|state| state.decided.as_ref().map(|(at, _)| *at));
        let state = current.key(key);
        state.decided = Some((at.unwrap_or(Version::OLDEST), Some(value.get().to_owned())));
        state.onces.clear();
    }
    if edited {
        *lineage = Lineage {
            first: current,
            ..Lineage::default()
        };
    }
}

/// `persons.properties`.
pub(super) fn values(lineage: &Lineage) -> String {
    let current = lineage.current();
    let values = current.0.iter();
    let values: BTreeMap<&String, Box<RawValue>> = values
        .filter_map(|(key, state)| Some((key, raw(state.value()?)?)))
        .collect();
    serde_json::to_string(&values).unwrap_or_else(|_| "{}".into())
}

/// `persons.property_versions`.
pub(super) fn versions(lineage: &Lineage) -> String {
    let json = if lineage.merges.is_empty() && lineage.earlier.is_empty() {
        serde_json::to_string(&stored(&lineage.first, false))
    } else {
        serde_json::to_string(&StoredLineage::of(lineage))
    };
    json.unwrap_or_else(|_| "{}".into())
}

fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).ok()
}
