//! The merges that moved each distinct id from person to person, by the versions of their `$identify`s: what says on
//! which side of a merge a write belongs that arrives late.

use rustc_hash::FxHashMap;

use crate::event::PersonId;
use crate::identity::decision::properties::Version;
use crate::identity::decision::resolve::{Attached, Merge};

/// Moves kept per distinct id, the newest ones, in whatever order they came. A write from before them counts as one of the
/// person that the oldest of them moved; so deep a merge of merged persons is joined for good there, too
/// ([`Properties`](super::properties::Properties)).
pub(crate) const MOST_MOVES: usize = 32;

/// Reads the newest of the versions that are separated by spaces; what is none is left out.
pub(crate) fn parse(text: &str) -> Vec<Version> {
    newest(text.split_ascii_whitespace().filter_map(Version::parse).collect())
}

/// Adds the moves of a person to those of a distinct id that came to it with its newest move (SQL, as [`joined`] does it).
macro_rules! joined_moves {
    ($left:literal, $right:literal) => {
        concat!(
            "(SELECT coalesce(string_agg(move, ' ') || ' ', '') FROM (
                SELECT DISTINCT ON (at) move
                FROM (
                    SELECT move, before, at, max(at) FILTER (WHERE before) OVER () AS newest
                    FROM (SELECT true AS before, string_to_array(trim(",
            $left,
            "), ' ') AS moves
                          UNION ALL
                          SELECT false, string_to_array(trim(",
            $right,
            "), ' ')) AS texts
                    CROSS JOIN LATERAL unnest(moves) AS move
                    CROSS JOIN LATERAL (SELECT
                        regexp_match(move, '^(-?[0-9]+)/([0-9]+)-([0-9]+)$')::numeric[] AS at) parsed
                    WHERE at IS NOT NULL) all_moves
                WHERE before OR newest IS NULL OR at > newest
                ORDER BY at DESC
                LIMIT 32) newest)"
        )
    };
}
pub(crate) use joined_moves;

/// Each with a space behind it, so that texts can be joined.
pub(crate) fn text(moves: &[Version]) -> String {
    let text = moves.iter();
    text.fold(String::new(), |text, moved| text + &format!("{moved} "))
}

/// The newest moves, oldest first.
fn newest(mut moves: Vec<Version>) -> Vec<Version> {
    moves.sort_unstable();
    moves.dedup();
    moves.drain(..moves.len().saturating_sub(MOST_MOVES));
    moves
}

/// Adds the moves of a person to those of a distinct id that came to it with its newest move: what the person did before
/// is not the distinct id's. Both and the outcome are oldest first.
pub(crate) fn joined(mut moves: Vec<Version>, of_person: &[Version]) -> Vec<Version> {
    let newest = moves.last().copied();
    moves.extend(of_person.iter().filter(|moved| Some(**moved) > newest));
    moves.drain(..moves.len().saturating_sub(MOST_MOVES));
    moves
}

/// The moves of a batch's keys, step by step.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Before the batch, or when attached in it.
    keys: FxHashMap<u32, Vec<Version>>,
    /// Persons merged in this batch: into whom, and the moves of all that belonged to it.
    merged: FxHashMap<PersonId, (PersonId, Vec<Version>)>,
    /// They in their order.
    order: Vec<PersonId>,
    /// All moves of all that belonged to one of them, once the batch is over.
    all: FxHashMap<PersonId, Vec<Version>>,
}

impl Moves {
    /// Begins with what is stored.
    pub(crate) fn new(stored: FxHashMap<u32, Vec<Version>>) -> Self {
        Self {
            keys: stored,
            ..Self::default()
        }
    }

    /// The newest moves of a key up to now; `home` is the person it had before the batch's merges.
    pub(crate) fn of(&self, key: u32, home: Option<PersonId>) -> Vec<Version> {
        let moves = self.keys.get(&key).cloned().unwrap_or_default();
        let of_person = home.map(|home| self.of_person(home)).unwrap_or_default();
        joined(moves, &of_person)
    }

    /// Notes a merge by the `$identify` at `at`. `user` are the moves of its distinct id.
    pub(crate) fn merge(&mut self, merge: &Merge, at: Version, user: &[Version]) {
        self.merged.insert(merge.from, (merge.into, steps(at, user)));
        self.order.push(merge.from);
    }

    /// Notes that an unseen anonymous id was given to the user's person at `at`.
    pub(crate) fn attach(&mut self, attached: &Attached, at: Version, user: &[Version]) {
        self.keys.insert(attached.key, steps(at, user));
    }

    /// The batch is over: who went far is not followed all the way for each that is asked about.
    pub(crate) fn close(&mut self) {
        for person in self.order.iter().rev() {
            let Some((into, steps)) = self.merged.get(person) else {
                continue;
            };
            let since = self.all.get(into).map_or(&[][..], Vec::as_slice);
            self.all.insert(*person, joined(steps.clone(), since));
        }
    }

    /// What the batch adds to the moves of all that belonged to a person.
    pub(crate) fn of_person(&self, mut person: PersonId) -> Vec<Version> {
        if let Some(moves) = self.all.get(&person) {
            return moves.clone();
        }
        let mut moves = Vec::new();
        while let Some((into, steps)) = self.merged.get(&person) {
            moves = joined(moves, steps);
            person = *into;
        }
        moves
    }
}

/// Into the user's person as it was at `at`, and with it wherever that one has gone since; oldest first.
pub(crate) fn steps(at: Version, user: &[Version]) -> Vec<Version> {
    let since = user.iter().copied().filter(|moved| *moved > at);
    std::iter::once(at).chain(since).collect()
}

#[cfg(test)]
mod tests {
    use stream_reply::StreamId;
    use uuid::Uuid;

    use super::*;
    use crate::config::PropertyOrder;

    fn person(n: u64) -> PersonId {
        PersonId(Uuid::from_u128(u128::from(n)))
    }

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
        let [a, b, c] = [1, 2, 3].map(person);
        let mut moves = Moves::default();
        let merge = |from, into| Merge { from, into, event: 0 };
        moves.merge(&merge(a, b), at(5), &[]);
        moves.merge(&merge(b, c), at(8), &[]);
        assert_eq!(moves.of(0, Some(a)), [at(5), at(8)]);
        assert_eq!(moves.of(1, Some(b)), [at(8)]);
        assert_eq!(moves.of(2, Some(c)), []);
    }

    #[test]
    fn who_came_to_a_person_behind_its_merge_came_to_its_survivor() {
        let [b, c] = [2, 3].map(person);
        let mut moves = Moves::default();
        moves.attach(
            &Attached {
                key: 0,
                person: b,
                event: 0,
            },
            at(11),
            &[],
        );
        let merge = Merge {
            from: b,
            into: c,
            event: 1,
        };
        moves.merge(&merge, at(8), &[at(9), at(20)]);
        assert_eq!(moves.of(0, Some(b)), [at(11), at(20)]);
        assert_eq!(moves.of(1, Some(b)), [at(8), at(9), at(20)]);
    }

    #[test]
    fn of_a_long_chain_the_newest_moves_are_kept_and_nobody_is_followed_all_the_way() {
        let mut moves = Moves::default();
        let count = 5_000u64;
        for n in 0..count {
            let [from, into] = [n, n + 1].map(person);
            moves.merge(&Merge { from, into, event: 0 }, at(n), &[]);
        }
        let newest: Vec<Version> = (count - MOST_MOVES as u64..count).map(at).collect();
        assert_eq!(moves.of_person(person(0)), newest);
        moves.close();
        for n in 0..count {
            let expected = &newest[newest.len().saturating_sub((count - n) as usize)..];
            assert_eq!(moves.of_person(person(n)), expected);
        }
    }

    #[test]
    fn a_merge_that_comes_late_leads_where_its_survivor_has_gone() {
        let [a, c] = [1, 3].map(person);
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
