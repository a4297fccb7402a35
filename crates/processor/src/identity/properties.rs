//! Person properties as a join of versioned writes: whatever the order of delivery, however often repeated, the newest
//! write of a key decides.
//!
//! Per key two writes matter: the newest `$set` or `$unset`, and the oldest `$set_once` above it. The value is the
//! set's; after an unset, or without either, the set-once's. Values that the platform wrote before there were
//! versions count as sets older than any write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use stream_reply::StreamId;

use super::property_writes::{Change, PropertyWrites};

/// When a write happened: event time, never later than the entry's arrival, then the entry id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(i64, u64, u64);

impl Version {
    /// Older than every write.
    const OLDEST: Self = Self(i64::MIN, 0, 0);

    /// The version of what an event writes. A clock that runs ahead cannot pin a value into the future.
    pub fn new(event_time_ms: i64, entry: StreamId) -> Self {
        Self(event_time_ms.min(entry.ms as i64), entry.ms, entry.seq)
    }
}

/// The two writes of a key that matter. Values are JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct KeyState {
    /// Newest set (with a value) or unset (without).
    decided: Option<(Version, Option<String>)>,
    /// Oldest set-once above it.
    once: Option<(Version, String)>,
}

impl KeyState {
    fn value(&self) -> Option<&str> {
        match &self.decided {
            Some((_, Some(value))) => Some(value),
            _ => self.once.as_ref().map(|(_, value)| value.as_str()),
        }
    }

    fn decide(&mut self, version: Version, value: Option<&str>) {
        if self
            .decided
            .as_ref()
            .is_some_and(|(newest, _)| *newest >= version)
        {
            return;
        }
        self.decided = Some((version, value.map(str::to_owned)));
        self.once = self.once.take().filter(|(at, _)| *at > version);
    }

    fn once(&mut self, version: Version, value: &str) {
        let above = self.decided.as_ref().is_none_or(|(newest, _)| version > *newest);
        let oldest = self.once.as_ref().is_none_or(|(at, _)| version < *at);
        if above && oldest {
            self.once = Some((version, value.to_owned()));
        }
    }
}

/// Versions of a key as stored beside its value.
#[derive(Debug, Default, Serialize, Deserialize)]
struct StoredVersions {
    /// The value was set then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<Version>,
    /// The key was unset then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    u: Option<Version>,
    /// A set-once happened then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    o: Option<Version>,
    /// Its value, while a set covers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v: Option<Box<RawValue>>,
}

/// The properties of one person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    keys: BTreeMap<String, KeyState>,
}

impl Properties {
    /// Reads `persons.properties` and `persons.property_versions`.
    ///
    /// # Errors
    /// When either is not the JSON object it has to be.
    pub fn load(properties: &str, versions: Option<&str>) -> Result<Self, serde_json::Error> {
        let values: BTreeMap<String, Box<RawValue>> = serde_json::from_str(properties)?;
        let mut versions: BTreeMap<String, StoredVersions> = versions
            .map(serde_json::from_str)
            .transpose()?
            .unwrap_or_default();
        let mut keys = BTreeMap::new();
        for (key, value) in values {
            let value = value.get().to_owned();
            let state = match versions.remove(&key) {
                Some(StoredVersions {
                    s: Some(at), o, v, ..
                }) => KeyState {
                    decided: Some((at, Some(value))),
                    once: o.zip(v.map(|v| v.get().to_owned())),
                },
                Some(StoredVersions { u, o: Some(at), .. }) => KeyState {
                    decided: u.map(|u| (u, None)),
                    once: Some((at, value)),
                },
                // Somebody else wrote it, before versions or after an unset.
                Some(StoredVersions { u, .. }) => KeyState {
                    decided: Some((u.unwrap_or(Version::OLDEST), Some(value))),
                    once: None,
                },
                None => KeyState {
                    decided: Some((Version::OLDEST, Some(value))),
                    once: None,
                },
            };
            keys.insert(key, state);
        }
        for (key, stored) in versions {
            if let Some(at) = stored.u {
                keys.insert(
                    key,
                    KeyState {
                        decided: Some((at, None)),
                        once: None,
                    },
                );
            }
        }
        Ok(Self { keys })
    }

    /// Joins the writes of one event.
    pub fn apply(&mut self, writes: &PropertyWrites, version: Version) {
        for (key, change) in writes.iter() {
            let state = self.keys.entry(key.to_owned()).or_default();
            match change {
                Change::Set(value) => state.decide(version, Some(value)),
                Change::Once(value) => state.once(version, value),
                Change::Unset => state.decide(version, None),
            }
        }
    }

    /// Takes over what a merged person had: where both have a value, the survivor's stays.
    pub fn absorb(&mut self, merged: &Self) {
        for (key, theirs) in &merged.keys {
            let ours = self.keys.entry(key.clone()).or_default();
            if ours.value().is_some() {
                continue;
            }
            if let Some((version, value)) = &theirs.decided {
                ours.decide(*version, value.as_deref());
            }
            if let Some((version, value)) = &theirs.once {
                ours.once(*version, value);
            }
        }
    }

    /// The properties as their readers know them, JSON text.
    pub fn to_values(&self) -> String {
        let values = self
            .keys
            .iter()
            .filter_map(|(key, state)| Some((key, raw(state.value()?)?)));
        serde_json::to_string(&values.collect::<BTreeMap<_, _>>()).unwrap_or_else(|_| "{}".into())
    }

    /// The versions beside them, JSON text.
    pub fn to_versions(&self) -> String {
        let stored = self.keys.iter().map(|(key, state)| (key, state.stored()));
        serde_json::to_string(&stored.collect::<BTreeMap<_, _>>()).unwrap_or_else(|_| "{}".into())
    }
}

impl KeyState {
    fn stored(&self) -> StoredVersions {
        let set = matches!(self.decided, Some((_, Some(_))));
        StoredVersions {
            s: self.decided.as_ref().filter(|_| set).map(|(at, _)| *at),
            u: self.decided.as_ref().filter(|_| !set).map(|(at, _)| *at),
            o: self.once.as_ref().map(|(at, _)| *at),
            v: self
                .once
                .as_ref()
                .filter(|_| set)
                .and_then(|(_, value)| raw(value)),
        }
    }
}

fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(n: u64) -> Version {
        Version::new(n as i64, StreamId { ms: n, seq: 0 })
    }

    fn writes(json: &str) -> PropertyWrites {
        PropertyWrites::parse(json)
    }

    fn value_after(history: &[(u64, &str)]) -> String {
        let mut properties = Properties::default();
        for (at, json) in history {
            properties.apply(&writes(json), version(*at));
        }
        properties.to_values()
    }

    #[test]
    fn late_writes_never_overwrite_newer_ones() {
        assert_eq!(
            value_after(&[(2, r#"{"plan":"pro"}"#), (1, r#"{"plan":"free"}"#)]),
            r#"{"plan":"pro"}"#
        );
        assert_eq!(
            value_after(&[(2, r#"{"a":1}"#), (1, r#"{"$unset":["a"]}"#)]),
            r#"{"a":1}"#
        );
        assert_eq!(
            value_after(&[(2, r#"{"$unset":["a"]}"#), (1, r#"{"a":1}"#)]),
            "{}"
        );
    }

    #[test]
    fn set_once_yields_to_any_set_and_the_first_one_stays() {
        assert_eq!(
            value_after(&[(1, r#"{"$set_once":{"a":1}}"#), (2, r#"{"$set_once":{"a":2}}"#)]),
            r#"{"a":1}"#
        );
        assert_eq!(
            value_after(&[(1, r#"{"a":1}"#), (2, r#"{"$set_once":{"a":2}}"#)]),
            r#"{"a":1}"#
        );
        assert_eq!(
            value_after(&[(1, r#"{"$set_once":{"a":1}}"#), (2, r#"{"a":2}"#)]),
            r#"{"a":2}"#
        );
    }

    #[test]
    fn set_once_after_an_unset_applies() {
        let history = [
            (1, r#"{"a":1}"#),
            (2, r#"{"$unset":["a"]}"#),
            (3, r#"{"$set_once":{"a":3}}"#),
        ];
        assert_eq!(value_after(&history), r#"{"a":3}"#);
        let late_unset = [history[0], history[2], history[1]];
        assert_eq!(value_after(&late_unset), r#"{"a":3}"#);
    }

    #[test]
    fn values_from_before_versions_yield_to_any_write_but_a_set_once() {
        let mut properties = Properties::load(r#"{"a":1,"b":12345678901234567890.5}"#, None).unwrap();
        properties.apply(&writes(r#"{"$set_once":{"a":2}}"#), version(1));
        assert_eq!(properties.to_values(), r#"{"a":1,"b":12345678901234567890.5}"#);
        properties.apply(&writes(r#"{"a":3}"#), version(1));
        assert_eq!(properties.to_values(), r#"{"a":3,"b":12345678901234567890.5}"#);
    }

    #[test]
    fn the_survivors_value_wins_and_the_rest_is_taken_over() {
        let mut survivor = Properties::default();
        survivor.apply(&writes(r#"{"plan":"pro"}"#), version(1));
        let mut merged = Properties::default();
        merged.apply(&writes(r#"{"plan":"free","ref":"ad"}"#), version(2));
        survivor.absorb(&merged);
        assert_eq!(survivor.to_values(), r#"{"plan":"pro","ref":"ad"}"#);
    }

    fn any_write() -> impl Strategy<Value = String> {
        prop_oneof![
            (0..3u8, 0..9u8).prop_map(|(k, v)| format!(r#"{{"k{k}":{v}}}"#)),
            (0..3u8).prop_map(|k| format!(r#"{{"$unset":["k{k}"]}}"#)),
        ]
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_of_sets_and_unsets_ends_in_the_same_properties(
            history in prop::collection::vec(any_write(), 0..12),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        ) {
            let mut in_order = Properties::default();
            for (at, json) in history.iter().enumerate() {
                in_order.apply(&writes(json), version(at as u64));
            }
            let mut shuffled = Properties::default();
            let repeated = order.iter().filter(|_| !history.is_empty()).map(|i| i.index(history.len()));
            for at in repeated.chain((0..history.len()).rev()) {
                shuffled.apply(&writes(&history[at]), version(at as u64));
            }
            prop_assert_eq!(shuffled, in_order);
        }

        #[test]
        fn what_is_stored_is_what_is_loaded(
            history in prop::collection::vec((0..40u64, prop_oneof![
                any_write(),
                (0..3u8, 0..9u8).prop_map(|(k, v)| format!(r#"{{"$set_once":{{"k{k}":{v}}}}}"#)),
            ]), 0..12),
        ) {
            let mut properties = Properties::default();
            for (at, json) in &history {
                properties.apply(&writes(json), version(*at));
            }
            let loaded = Properties::load(&properties.to_values(), Some(&properties.to_versions())).unwrap();
            prop_assert_eq!(loaded.to_values(), properties.to_values());
            prop_assert_eq!(loaded.to_versions(), properties.to_versions());
        }
    }
}
