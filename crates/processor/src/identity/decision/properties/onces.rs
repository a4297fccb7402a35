//! The set-onces of a key: of those above the newest set or unset, the oldest is its value, and the next one when an
//! unset arrives late.
//!
//! All of them are kept, up to [`MOST`] versions. SDKs repeat a set-once with every page, so there may be any number, and
//! then
//! - of equal values in a row the first and the last version stay: in between, the value counts as said throughout. A
//!   set-once of another value that arrives later still, from in between, is left out;
//! - if that is not enough, the oldest ones and the newest one stay. An unset that arrives later still, behind the oldest
//!   ones, leaves the newest one's value.
//!
//! So whether there is a value is always told rightly.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::version::Version;

/// Versions kept of one key.
pub(super) const MOST: usize = 48;

/// A set-once. The value is JSON text, the same one in a row of equal ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Once {
    pub(super) at: Version,
    pub(super) value: Arc<str>,
    /// Whether it has been said throughout since the one before, which has the same value.
    pub(super) throughout: bool,
}

/// Oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Onces(Vec<Once>);

/// Each value of a row once.
impl Hash for Onces {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.len().hash(state);
        let mut before = None;
        for once in &self.0 {
            (once.at, once.throughout).hash(state);
            if before.replace(&once.value) != Some(&once.value) {
                once.value.hash(state);
            }
        }
    }
}

impl Onces {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Once> {
        self.0.iter()
    }

    pub(super) fn oldest(&self) -> Option<&Once> {
        self.0.first()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Joins one.
    pub(super) fn insert(&mut self, at: Version, value: &str) {
        if let Err(place) = self.place(at) {
            self.insert_at(place, at, value);
        }
    }

    /// Joins what a merge at `at` brought, which comes before what its own event says.
    pub(super) fn insert_before_own(&mut self, at: Version, value: &str) {
        match self.place(at) {
            Err(place) => self.insert_at(place, at, value),
            Ok(place) => {
                if &*self.0[place].value != value {
                    self.0[place].value = value.into();
                    for once in self.0[place..].iter_mut().take(2) {
                        once.throughout = false;
                    }
                }
            }
        }
    }

    /// Joins one that is newer than all; as it was stored.
    pub(super) fn push(&mut self, once: Once) {
        match self.0.last() {
            Some(last) if last.at >= once.at => self.insert(once.at, &once.value),
            _ => self.0.push(once),
        }
    }

    /// Joins all of another key.
    pub(super) fn join(&mut self, other: &Self) {
        for (n, once) in other.0.iter().enumerate() {
            match n.checked_sub(1).map(|before| &other.0[before]) {
                Some(from) if once.throughout => self.join_throughout(from.at, once),
                _ => self.insert(once.at, &once.value),
            }
        }
    }

    /// Leaves those behind `at`.
    pub(super) fn leave_behind(&mut self, at: Version) {
        self.0.drain(..self.0.partition_point(|once| once.at <= at));
        self.begin();
    }

    /// Takes out those from `at` on.
    pub(super) fn split_off(&mut self, at: Version) -> Self {
        let mut after = Self(self.0.split_off(self.0.partition_point(|once| once.at < at)));
        after.begin();
        after
    }

    /// Leaves the oldest one and the newest one.
    pub(super) fn leave_ends(&mut self) {
        self.leave_oldest_and_newest(2);
    }

    fn place(&self, at: Version) -> Result<usize, usize> {
        self.0.binary_search_by_key(&at, |once| once.at)
    }

    fn insert_at(&mut self, place: usize, at: Version, value: &str) {
        let (before, behind) = self.0.split_at_mut(place);
        if behind.first().is_some_and(|next| next.throughout) {
            return;
        }
        let before = before.last_mut().filter(|before| &*before.value == value);
        let behind_throughout = behind.get(1).is_some_and(|next| next.throughout);
        let behind = behind.first_mut().filter(|behind| &*behind.value == value);
        let value = match (before, behind) {
            (Some(before), _) if before.throughout => {
                before.at = at;
                return;
            }
            (_, Some(behind)) if behind_throughout => {
                behind.at = at;
                return;
            }
            (Some(same), _) | (None, Some(same)) => Arc::clone(&same.value),
            (None, None) => value.into(),
        };
        let throughout = false;
        self.0.insert(
            place,
            Once {
                at,
                value,
                throughout,
            },
        );
        if self.0.len() > MOST {
            self.shorten();
        }
    }

    /// Joins a value that was said throughout; what was said in between goes.
    fn join_throughout(&mut self, from: Version, to: &Once) {
        self.insert(from, &to.value);
        let first = self.0.partition_point(|once| once.at <= from);
        let end = self.0.partition_point(|once| once.at < to.at);
        if self
            .0
            .get(end)
            .is_some_and(|next| next.throughout && next.value == to.value)
        {
            return;
        }
        self.0.drain(first..end);
        if let Some(next) = self.0.get_mut(first) {
            next.throughout = false;
        }
        self.insert(to.at, &to.value);
        if let Ok(place @ 1..) = self.place(to.at) {
            let (before, to) = self.0.split_at_mut(place);
            to[0].throughout = before[place - 1].value == to[0].value;
        }
    }

    fn begin(&mut self) {
        if let Some(first) = self.0.first_mut() {
            first.throughout = false;
        }
    }

    fn shorten(&mut self) {
        let all = std::mem::take(&mut self.0);
        let is_inner: Vec<bool> = (0..all.len())
            .map(|n| {
                n > 0
                    && n + 1 < all.len()
                    && all[n - 1].value == all[n].value
                    && all[n].value == all[n + 1].value
            })
            .collect();
        for (n, mut once) in all.into_iter().enumerate() {
            if !is_inner[n] {
                once.throughout |= n > 0 && is_inner[n - 1];
                self.0.push(once);
            }
        }
        self.leave_oldest_and_newest(MOST);
    }

    fn leave_oldest_and_newest(&mut self, most: usize) {
        let too_many = self.0.len().saturating_sub(most);
        if too_many == 0 {
            return;
        }
        let end = self.0.len() - 1;
        self.0.drain(end - too_many..end);
        let newest = self.0.split_last_mut();
        if let Some((newest, before)) = newest {
            let before = before.last();
            // Of one value, whatever it was that lay in between, nothing else is remembered.
            newest.throughout = before.is_some_and(|before| before.value == newest.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::PropertyOrder;
    use stream_reply::StreamId;

    fn at(n: u64) -> Version {
        Version::new(n as i64, StreamId::new(n, 0), PropertyOrder::EventTime)
    }

    /// The value after an unset at `unset`.
    fn after_unset(onces: &Onces, unset: u64) -> Option<String> {
        let mut left = onces.clone();
        left.leave_behind(at(unset));
        left.oldest().map(|once| once.value.to_string())
    }

    #[test]
    fn a_value_that_is_repeated_for_ever_takes_two_versions_and_any_late_unset_finds_the_next() {
        let mut onces = Onces::default();
        for n in 1..=10_000 {
            onces.insert(at(n), "x");
        }
        assert_eq!(onces.0.len(), 2);
        onces.insert(at(20_000), "y");
        for unset in [0, 1, 5_000, 9_999] {
            assert_eq!(after_unset(&onces, unset).as_deref(), Some("x"));
        }
        assert_eq!(after_unset(&onces, 10_000).as_deref(), Some("y"));
        assert_eq!(after_unset(&onces, 20_000), None);
    }

    #[test]
    fn of_ever_other_values_the_oldest_and_the_newest_are_kept() {
        let mut onces = Onces::default();
        for n in 1..=1_000 {
            onces.insert(at(n), &n.to_string());
        }
        assert_eq!(onces.0.len(), MOST);
        assert_eq!(after_unset(&onces, 0).as_deref(), Some("1"));
        assert_eq!(after_unset(&onces, MOST as u64 - 2).as_deref(), Some("47"));
        assert_eq!(after_unset(&onces, 500).as_deref(), Some("1000"));
        onces.leave_ends();
        assert_eq!(
            (onces.0.len(), after_unset(&onces, 1).as_deref()),
            (2, Some("1000"))
        );
    }

    proptest! {
        /// Many times more than are kept, of few values, in any order.
        #[test]
        fn whatever_is_forgotten_there_is_a_value_exactly_when_there_is_one(
            said in prop::collection::vec((1..2_000_u64, 0..3_u8), 1..400),
            unset in 0..2_100_u64,
        ) {
            let mut onces = Onces::default();
            let mut halves = [Onces::default(), Onces::default()];
            for (n, (time, value)) in said.iter().enumerate() {
                onces.insert(at(*time), &value.to_string());
                halves[n % 2].insert(at(*time), &value.to_string());
            }
            let [mut joined, other] = halves;
            joined.join(&other);
            let first = said.iter().map(|(time, _)| *time).min();
            let newest = said.iter().map(|(time, _)| *time).max();
            for onces in [onces, joined] {
                prop_assert!(onces.0.len() <= MOST);
                prop_assert!(onces.0.is_sorted_by(|a, b| a.at < b.at));
                prop_assert!(onces.0.windows(2).all(|pair| !pair[1].throughout || pair[0].value == pair[1].value));
                prop_assert!(!onces.0[0].throughout);
                prop_assert_eq!(onces.oldest().map(|once| once.at), first.map(at));
                prop_assert_eq!(onces.iter().last().map(|once| once.at), newest.map(at));
                prop_assert_eq!(after_unset(&onces, unset).is_some(), newest > Some(unset));
            }
        }
    }
}
