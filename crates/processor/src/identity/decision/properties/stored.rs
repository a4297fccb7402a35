//! The form in which a person's writes lie in PostgreSQL: `persons.properties` is what readers know, plain;
//! `persons.property_versions` holds the rest.
//!
//! Without merges it is an object: per key when it was set or unset, and its set-onces. With merges it is an array that
//! holds everything, values included: the person's own writes before the first merge, each merge as `[version, merged
//! person, own writes behind it]`, and what was taken for a merge, each with the one that was; a pair that begins with the
//! oldest version there can be says up to where merges are joined for good.
//!
//! Behind which merge an own write is stored is nothing that we ask: they are joined when they are read. Earlier versions
//! of this program go from merge to merge and find the same values, as long as
//! - a set or an unset is stored behind the newest merge before it: an unset removes what that merge brought;
//! - so is the oldest set-once of a key, which hides nothing that an older merge brought. The others stay with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::key_state::KeyState;
use super::lineage::{Lineage, Writes};
use super::onces::{Once, Onces};
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
    /// Set-onces, oldest first; of equal values in a row the first one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    o: Vec<(Version, Box<RawValue>)>,
    /// For each of them the others in its row: by how much each differs from the one before, behind a `~` where the value
    /// was said throughout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    m: Vec<String>,
}

/// A value that is there, `null` included.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

impl StoredKey {
    /// Where `persons.properties` tells the value.
    fn of(state: &KeyState) -> Self {
        let mut stored = Self::default();
        match &state.decided {
            Some((at, Some(_))) => stored.s = Some(*at),
            Some((at, None)) => stored.u = Some(*at),
            None => {}
        }
        stored.add_onces(&state.onces);
        stored
    }

    fn decide(&mut self, at: Version, value: Option<&str>) {
        match value {
            Some(value) => {
                self.s = Some(at);
                self.v = raw(value);
            }
            None => self.u = Some(at),
        }
    }

    fn state(self, value: Option<&str>) -> KeyState {
        let set = self.v.as_deref().map(RawValue::get).or(value);
        let decided = match (self.s, self.u) {
            (Some(at), _) => set.map(|value| (at, Some(value.to_owned()))),
            (None, Some(at)) => Some((at, None)),
            (None, None) => None,
        };
        let onces = onces(&self.o, &self.m);
        KeyState { decided, onces }
    }

    fn add_onces(&mut self, onces: &Onces) {
        let mut last: Option<&Once> = None;
        for once in onces.iter() {
            let last_of_row = last.filter(|last| last.value == once.value);
            if let (Some(last), Some(row)) = (last_of_row, self.m.last_mut()) {
                if !row.is_empty() {
                    row.push(' ');
                }
                if once.throughout {
                    row.push('~');
                }
                once.at.push_difference(last.at, row);
            } else if let Some(value) = raw(&once.value) {
                self.o.push((once.at, value));
                self.m.push(String::new());
            }
            last = Some(once);
        }
        if self.m.iter().all(String::is_empty) {
            self.m.clear();
        }
    }
}

fn onces(rows: &[(Version, Box<RawValue>)], more: &[String]) -> Onces {
    let mut onces = Onces::default();
    let more = more.iter().map(String::as_str).chain(std::iter::repeat(""));
    for ((at, value), more) in rows.iter().zip(more) {
        let value: Arc<str> = value.get().into();
        let mut at = *at;
        let mut push = |at, throughout| {
            let value = Arc::clone(&value);
            onces.push(Once {
                at,
                value,
                throughout,
            });
        };
        push(at, false);
        for difference in more.split_ascii_whitespace() {
            let said = difference.strip_prefix('~');
            let Some(next) = at.plus(said.unwrap_or(difference)) else {
                break;
            };
            at = next;
            push(at, said.is_some());
        }
    }
    onces
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
        let mut parts = parts(lineage).into_iter();
        let first = parts.next().unwrap_or_default();
        let merged = lineage.merged.iter().zip(parts);
        let merged = merged.map(|((at, side), behind)| (*at, Self::of(side), behind));
        let joined = lineage.joined.iter().map(|joined| (Version::OLDEST, *joined));
        let earlier = lineage.earlier.iter().map(|(merge, place)| (*merge, *place));
        Self(first, merged.collect(), joined.chain(earlier).collect())
    }

    fn lineage(self) -> Lineage {
        let mut lineage = Lineage {
            own: writes(self.0),
            earlier: self.2.into_iter().collect(),
            ..Lineage::default()
        };
        lineage.joined = lineage.earlier.remove(&Version::OLDEST);
        for (at, side, behind) in self.1 {
            lineage.own.join(writes(behind));
            lineage.merged.insert(at, side.lineage());
        }
        lineage
    }
}

/// A person's own writes before its first merge, and those behind each.
fn parts(lineage: &Lineage) -> Vec<StoredWrites> {
    let merges: Vec<Version> = lineage.merged.keys().copied().collect();
    let mut parts = Vec::new();
    parts.resize_with(merges.len() + 1, StoredWrites::new);
    let behind = |at: Version| merges.partition_point(|merge| *merge <= at);
    for (key, state) in &lineage.own.0 {
        if let Some((at, value)) = &state.decided {
            let part = &mut parts[behind(*at)];
            let stored = part.entry(key.clone()).or_default();
            stored.decide(*at, value.as_deref());
        }
        if let Some(oldest) = state.onces.oldest() {
            let part = &mut parts[behind(oldest.at)];
            part.entry(key.clone()).or_default().add_onces(&state.onces);
        }
    }
    parts
}

fn stored(writes: &Writes) -> StoredWrites {
    let keys = writes.0.iter();
    keys.map(|(key, state)| (key.clone(), StoredKey::of(state)))
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
            own: Writes(states.collect()),
            ..Lineage::default()
        }
    };
    take_in_edits(&mut lineage, &values);
    Ok(lineage)
}

/// What another program wrote into `persons.properties`: values from before there were versions, and edits since. They
/// stand until a newer write; the merges before them are no longer told apart.
fn take_in_edits(lineage: &mut Lineage, values: &BTreeMap<String, Box<RawValue>>) {
    let known = lineage.values();
    let edits = values.iter().map(|(key, value)| (key, value.get()));
    let edits: Vec<_> = edits
        .filter(|(key, value)| known.get(key.as_str()) != Some(value))
        .collect();
    if edits.is_empty() {
        return;
    }
    let mut own = lineage.flat().into_owned();
    for (key, value) in edits {
        let state = own.key(key);
        let at = state.decided.as_ref().map_or(Version::OLDEST, |(at, _)| *at);
        *state = KeyState {
            decided: Some((at, Some(value.to_owned()))),
            ..KeyState::default()
        };
    }
    *lineage = Lineage {
        own,
        ..Lineage::default()
    };
}

/// `persons.properties`.
pub(super) fn values(lineage: &Lineage) -> String {
    let values = lineage.values().into_iter();
    let values: BTreeMap<&str, Box<RawValue>> = values
        .filter_map(|(key, value)| Some((key, raw(value)?)))
        .collect();
    serde_json::to_string(&values).unwrap_or_else(|_| "{}".into())
}

/// `persons.property_versions`.
pub(super) fn versions(lineage: &Lineage) -> String {
    let json = if lineage.merged.is_empty() && lineage.earlier.is_empty() && lineage.joined.is_none() {
        serde_json::to_string(&stored(&lineage.own))
    } else {
        serde_json::to_string(&StoredLineage::of(lineage))
    };
    json.unwrap_or_else(|_| "{}".into())
}

fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).ok()
}
