//! The merges that moved each distinct id from person to person, by the versions of their `$identify`s: what says on
//! which side of a merge a write belongs that arrives late.

use rustc_hash::FxHashMap;
use uuid::Uuid;

use super::properties::Version;
use super::resolve::{Attached, Merge};

/// Reads versions separated by spaces; what is none is left out.
pub(super) fn parse(text: &str) -> Vec<Version> {
    text.split_ascii_whitespace().filter_map(Version::parse).collect()
}

/// Each with a space behind it, so that texts can be joined.
pub(super) fn text(moves: &[Version]) -> String {
    let text = moves.iter();
    text.fold(String::new(), |text, moved| text + &format!("{moved} "))
}

/// The moves of a batch's keys, step by step.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Before the batch, or when attached in it.
    keys: FxHashMap<u32, Vec<Version>>,
    /// Of everybody who belonged to a person that was merged in this batch.
    persons: FxHashMap<Uuid, Vec<Version>>,
    /// Persons merged in this batch, by whom they are part of now.
    parts: FxHashMap<Uuid, Vec<Uuid>>,
}

impl Moves {
    /// Begins with what is stored.
    pub(super) fn new(stored: FxHashMap<u32, Vec<Version>>) -> Self {
        Self {
            keys: stored,
            ..Self::default()
        }
    }

    /// All moves of a key up to now; `home` is the person it had before the batch's merges.
    pub(super) fn of(&self, key: u32, home: Option<Uuid>) -> Vec<Version> {
        let stored = self.keys.get(&key).into_iter().flatten();
        let since = home.and_then(|home| self.persons.get(&home));
        stored.chain(since.into_iter().flatten()).copied().collect()
    }

    /// Notes a merge by the `$identify` at `at`. `user` are the moves of its distinct id.
    pub(super) fn merge(&mut self, merge: &Merge, at: Version, user: &[Version]) {
        let steps = steps(at, user);
        let mut moved = self.parts.remove(&merge.from).unwrap_or_default();
        moved.push(merge.from);
        for person in &moved {
            self.persons.entry(*person).or_default().extend(&steps);
        }
        self.parts.entry(merge.into).or_default().extend(moved);
    }

    /// Notes that an unseen anonymous id was given to the user's person at `at`.
    pub(super) fn attach(&mut self, attached: &Attached, at: Version, user: &[Version]) {
        self.keys.insert(attached.key, steps(at, user));
    }

    /// What the batch adds to the moves of everybody who belonged to a person.
    pub(super) fn of_person(&self, person: Uuid) -> &[Version] {
        self.persons.get(&person).map_or(&[], Vec::as_slice)
    }
}

/// Into the user's person as it was at `at`, and with it wherever that one has gone since.
fn steps(at: Version, user: &[Version]) -> Vec<Version> {
    let since = user.iter().copied().filter(|moved| *moved > at);
    std::iter::once(at).chain(since).collect()
}

#[cfg(test)]
mod tests {
    use stream_reply::StreamId;

    use super::*;
    use crate::config::PropertyOrder;

    fn at(n: u64) -> Version {
        Version::new(n as i64, StreamId::new(n, 0), PropertyOrder::EventTime)
    }

    #[test]
    fn moves_are_stored_as_text_that_can_be_joined() {
        let both = text(&[at(1)]) + &text(&[at(7)]);
        assert_eq!(parse(&both), [at(1), at(7)]);
        assert_eq!(parse(""), []);
    }

    #[test]
    fn who_was_merged_goes_along_when_the_survivor_is_merged() {
        let [a, b, c] = [1, 2, 3].map(Uuid::from_u128);
        let mut moves = Moves::default();
        let merge = |from, into| Merge { from, into, event: 0 };
        moves.merge(&merge(a, b), at(5), &[]);
        moves.merge(&merge(b, c), at(8), &[]);
        assert_eq!(moves.of(0, Some(a)), [at(5), at(8)]);
        assert_eq!(moves.of(1, Some(b)), [at(8)]);
        assert_eq!(moves.of(2, Some(c)), []);
    }

    #[test]
    fn a_merge_that_comes_late_leads_where_its_survivor_has_gone() {
        let [a, c] = [1, 3].map(Uuid::from_u128);
        let mut moves = Moves::default();
        let merge = Merge {
            from: a,
            into: c,
            event: 0,
        };
        moves.merge(&merge, at(5), &[at(2), at(8)]);
        assert_eq!(moves.of_person(a), [at(5), at(8)]);
    }
}
