//! One key: the writes that decide its value, whatever order they came in.
//!
//! The newest `$set` or `$unset` decides; where it leaves no value, the oldest `$set_once` above it does. A `$set_once`
//! that an older one hides is kept, too: an `$unset` that arrives late may bring it to light.

use super::version::Version;

/// Set-onces kept per key, the oldest ones. SDKs repeat them with every page: more would grow without end. An `$unset`
/// that arrives later than this many set-onces above it leaves no value.
pub(super) const MOST_ONCES: usize = 4;

/// The writes of a key that matter. Values are JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(super) struct KeyState {
    /// Newest set (with a value) or unset (without).
    pub(super) decided: Option<(Version, Option<String>)>,
    /// Oldest set-onces above it, oldest first.
    pub(super) onces: Vec<(Version, String)>,
}

impl KeyState {
    pub(super) fn value(&self) -> Option<&str> {
        match &self.decided {
            Some((_, Some(value))) => Some(value),
            _ => self.onces.first().map(|(_, value)| value.as_str()),
        }
    }

    /// Whether a write that is not in it yet would be hidden by what is.
    pub(super) fn outranks(&self, version: Version) -> bool {
        let newest = self.decided.as_ref();
        newest.is_some_and(|(newest, _)| *newest >= version)
    }

    /// Joins a set, or without a value an unset.
    pub(super) fn decide(&mut self, version: Version, value: Option<&str>) {
        if self.outranks(version) {
            return;
        }
        self.decided = Some((version, value.map(str::to_owned)));
        self.onces.retain(|(at, _)| *at > version);
    }

    /// Joins a set-once.
    pub(super) fn once(&mut self, version: Version, value: &str) {
        if self.outranks(version) {
            return;
        }
        if let Err(place) = self.onces.binary_search_by_key(&version, |(at, _)| *at)
            && place < MOST_ONCES
        {
            self.onces.insert(place, (version, value.to_owned()));
            self.onces.truncate(MOST_ONCES);
        }
    }

    /// Joins all writes of another state.
    pub(super) fn join(&mut self, other: &Self) {
        if let Some((version, value)) = &other.decided {
            self.decide(*version, value.as_deref());
        }
        for (version, value) in &other.onces {
            self.once(*version, value);
        }
    }

    /// Takes the writes from `at` on out, that one included: an `$identify` writes to the person that its merge made.
    pub(super) fn split_off(&mut self, at: Version) -> Self {
        let mut after = Self::default();
        if let Some(decided) = self.decided.take_if(|(version, _)| *version >= at) {
            after.decided = Some(decided);
        }
        let onces = std::mem::take(&mut self.onces);
        (after.onces, self.onces) = onces.into_iter().partition(|(version, _)| *version >= at);
        after
    }

    pub(super) fn is_empty(&self) -> bool {
        self.decided.is_none() && self.onces.is_empty()
    }
}
