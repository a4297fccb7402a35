//! One key: the writes that decide its value, whatever order they came in.
//!
//! The newest `$set` or `$unset` decides; where it leaves no value, the oldest `$set_once` above it does. A `$set_once`
//! that an older one hides is kept, too: an `$unset` that arrives late may bring it to light. What is older than the
//! newest `$set` or `$unset` can never matter again.

use std::borrow::Cow;

use super::onces::Onces;
use super::version::Version;

/// The writes of a key that matter. Values are JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(super) struct KeyState {
    /// Newest set (with a value) or unset (without).
    pub(super) decided: Option<(Version, Option<String>)>,
    /// Set-onces above it.
    pub(super) onces: Onces,
}

impl KeyState {
    pub(super) fn value(&self) -> Option<&str> {
        match &self.decided {
            Some((_, Some(value))) => Some(value),
            _ => self.onces.oldest().map(|once| &*once.value),
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
        self.onces.leave_behind(version);
    }

    /// Joins a set-once.
    pub(super) fn once(&mut self, version: Version, value: &str) {
        if !self.outranks(version) {
            self.onces.insert(version, value);
        }
    }

    /// Joins what a person brought that was merged at `version`: the survivor's, where it had no value then.
    pub(super) fn take_over(&mut self, version: Version, value: &str) {
        if !self.outranks(version) {
            self.onces.insert_before_own(version, value);
        }
    }

    /// Joins all writes of another state.
    pub(super) fn join(&mut self, other: &Self) {
        if let Some((version, value)) = &other.decided {
            self.decide(*version, value.as_deref());
        }
        let mut above = Cow::Borrowed(&other.onces);
        if let Some((floor, _)) = &self.decided
            && above.oldest().is_some_and(|oldest| oldest.at <= *floor)
        {
            above.to_mut().leave_behind(*floor);
        }
        if self.onces.is_empty() {
            // As they are: what is stored in two places is read as it was.
            self.onces = above.into_owned();
        } else {
            self.onces.join(&above);
        }
    }

    /// Takes the writes from `at` on out, that one included: an `$identify` writes to the person that its merge made.
    pub(super) fn split_off(&mut self, at: Version) -> Self {
        Self {
            decided: self.decided.take_if(|(version, _)| *version >= at),
            onces: self.onces.split_off(at),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.decided.is_none() && self.onces.is_empty()
    }
}
