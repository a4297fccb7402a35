//! The writes of a person and of everybody who was merged into it, apart from each other and in their order.
//!
//! At a merge the survivor's values win and the rest is taken over. So that the outcome is the same when a write or a
//! merge arrives late or twice, a write is joined where it belongs in the history (before or behind which merge, on
//! whose side), and the values are found by going through the merges again.

use std::collections::BTreeMap;

use super::key_state::KeyState;
use super::version::Version;

/// Merges kept apart per person; beyond, the two oldest parts become one. A write from before that is joined there.
pub(super) const MOST_MERGES: usize = 32;
/// Merges of merged persons that are kept apart, one inside the other. What is stored stays readable: the reader of JSON
/// goes no deeper than 128, and each takes three.
const DEEPEST: usize = 16;
/// Merges per person that are known to have happened earlier than was thought first; beyond, the oldest is forgotten.
const MOST_EARLIER: usize = 32;

/// Joined writes, by key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(super) struct Writes(pub(super) BTreeMap<String, KeyState>);

impl Writes {
    pub(super) fn key(&mut self, key: &str) -> &mut KeyState {
        // The key is copied only when it is new.
        if !self.0.contains_key(key) {
            self.0.insert(key.to_owned(), KeyState::default());
        }
        self.0.entry(key.to_owned()).or_default()
    }

    fn join(&mut self, other: &Self) {
        for (key, state) in &other.0 {
            self.key(key).join(state);
        }
    }

    /// What a survivor has after a merge: its values, and what it has none for, from the merged person.
    fn take_over(&mut self, merged: Self) {
        for (key, theirs) in merged.0 {
            let ours = self.0.entry(key).or_default();
            match (ours.value(), theirs.value()) {
                (Some(_), _) => {}
                (None, Some(_)) => *ours = theirs,
                (None, None) => ours.join(&theirs),
            }
        }
    }

    fn split_off(&mut self, at: Version) -> Self {
        let mut after = BTreeMap::new();
        for (key, state) in &mut self.0 {
            let behind = state.split_off(at);
            if !behind.is_empty() {
                after.insert(key.clone(), behind);
            }
        }
        self.0.retain(|_, state| !state.is_empty());
        Self(after)
    }
}

/// A merge and what was written since, up to the next one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Merged {
    /// When the `$identify` was.
    pub(super) at: Version,
    /// What the merged person brought.
    pub(super) from: Lineage,
    /// Writes behind it.
    pub(super) after: Writes,
}

/// A person's history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(super) struct Lineage {
    /// Writes before the first merge.
    pub(super) first: Writes,
    /// Merges in their order.
    pub(super) merges: Vec<Merged>,
    /// `$identify`s that were taken for a merge until one from before arrived, with that one.
    pub(super) earlier: BTreeMap<Version, Version>,
}

impl Lineage {
    /// The writes that hold now.
    pub(super) fn current(&self) -> Writes {
        let mut current = self.first.clone();
        for merged in &self.merges {
            current.take_over(merged.from.current());
            current.join(&merged.after);
        }
        current
    }

    /// Where an event at `at` writes, of a distinct id that moved with the merges `moves`.
    pub(super) fn writes_at(&mut self, at: Version, moves: &[Version]) -> &mut Writes {
        let side = self.side_at(at, moves);
        match side.merges.iter().rposition(|merged| merged.at <= at) {
            Some(place) => &mut side.merges[place].after,
            None => &mut side.first,
        }
    }

    /// Adds a merge that the `$identify` at `at` caused, of a user whose distinct id moved with the merges `moves`.
    pub(super) fn merge(&mut self, at: Version, moves: &[Version], mut from: Self) {
        if from.is_empty() {
            return;
        }
        // A merge that comes late: what the merged person did behind it, the survivor did.
        let since = from.split_off(at);
        self.join_since(at, &later(at, moves), since);
        let merged = self.side_at(at, moves).merged_at(at);
        let known = std::mem::replace(merged, from);
        merged.first.join(&known.current());
        self.keep_bounds();
    }

    /// An `$identify` at `at` found its user and its anonymous id joined already. When one from behind it did that, the
    /// merge belongs here.
    pub(super) fn merge_earlier(&mut self, at: Version, user: &[Version], anonymous: &[Version]) {
        let side = self.side_at(at, user);
        let user = later(at, user);
        let anonymous = later(at, anonymous);
        let Some((joined, rest)) = anonymous.split_last() else {
            return;
        };
        if rest != user {
            return;
        }
        let joined = side.place_of(*joined);
        if joined <= at {
            return;
        }
        let from = side.take_merge(joined);
        side.earlier.insert(joined, at);
        side.merge(at, &[], from);
        self.keep_bounds();
    }

    /// Joins for good what is more than is kept apart, on every side.
    pub(super) fn keep_bounds(&mut self) {
        self.keep_bounds_within(DEEPEST);
    }

    fn keep_bounds_within(&mut self, deepest: usize) {
        let most = if deepest == 0 { 0 } else { MOST_MERGES };
        while self.merges.len() > most {
            self.join_oldest();
        }
        while self.earlier.len() > MOST_EARLIER {
            self.earlier.pop_first();
        }
        for merged in &mut self.merges {
            merged.from.keep_bounds_within(deepest - 1);
        }
    }

    /// Joins what a person merged at `at` did since: on each side of the way from the oldest, for its time.
    fn join_since(&mut self, at: Version, way: &[Version], mut since: Self) {
        match way.split_first() {
            None => self.join_behind(at, since),
            Some((moved, rest)) => {
                let moved = self.place_of(*moved);
                let behind = since.split_off(moved);
                self.join_behind(moved, behind);
                self.merged_at(moved).join_since(at, rest, since);
            }
        }
    }

    /// Takes `at` and what is behind it out.
    fn split_off(&mut self, at: Version) -> Self {
        let place = self.merges.partition_point(|merged| merged.at < at);
        let merges = self.merges.split_off(place);
        let newest = match self.merges.last_mut() {
            Some(merged) => &mut merged.after,
            None => &mut self.first,
        };
        Self {
            first: newest.split_off(at),
            merges,
            earlier: self.earlier.extract_if(.., |_, place| *place >= at).collect(),
        }
    }

    /// Takes a merge out, as if it had not been; who was merged then.
    fn take_merge(&mut self, at: Version) -> Self {
        let Ok(place) = self.merges.binary_search_by_key(&at, |merged| merged.at) else {
            return Self::default();
        };
        let Merged { from, after, .. } = self.merges.remove(place);
        let before = match place {
            0 => &mut self.first,
            _ => &mut self.merges[place - 1].after,
        };
        before.join(&after);
        from
    }

    /// Joins a history that begins at `at`.
    fn join_behind(&mut self, at: Version, since: Self) {
        self.earlier.extend(since.earlier);
        self.join_writes(at, since.first);
        for merged in since.merges {
            let known = std::mem::replace(self.merged_at(merged.at), merged.from);
            self.merged_at(merged.at).first.join(&known.current());
            self.join_writes(merged.at, merged.after);
        }
    }

    /// Joins writes from `at` on, each behind the last merge before it.
    fn join_writes(&mut self, at: Version, mut writes: Writes) {
        let mut place = self.merges.partition_point(|merged| merged.at <= at);
        loop {
            let behind = match self.merges.get(place) {
                Some(next) => writes.split_off(next.at),
                None => Writes::default(),
            };
            let here = match place.checked_sub(1) {
                Some(last) => &mut self.merges[last].after,
                None => &mut self.first,
            };
            here.join(&writes);
            if behind.0.is_empty() {
                return;
            }
            writes = behind;
            place += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.first.0.is_empty() && self.merges.is_empty() && self.earlier.is_empty()
    }

    /// The part of the history that a distinct id belonged to at that time: each later merge leads one person back.
    fn side_at(&mut self, at: Version, moves: &[Version]) -> &mut Self {
        let mut side = self;
        let mut moves = later(at, moves).into_iter().peekable();
        while let Some(moved) = moves.next() {
            let place = side.place_of(moved);
            // Who joined the merged person behind that joined the survivor.
            let came_behind = moves.peek().is_some_and(|next| *next > place);
            if place > at && !came_behind {
                side = side.merged_at(place);
            }
        }
        side
    }

    /// When a merge happened, as far as is known now.
    fn place_of(&self, mut merge: Version) -> Version {
        while let Some(earlier) = self.earlier.get(&merge) {
            merge = *earlier;
        }
        merge
    }

    /// The person merged at `at`; an empty one when nothing was known of it until now.
    fn merged_at(&mut self, at: Version) -> &mut Self {
        let place = match self.merges.binary_search_by_key(&at, |merged| merged.at) {
            Ok(place) => place,
            Err(place) => {
                let before = match place {
                    0 => &mut self.first,
                    _ => &mut self.merges[place - 1].after,
                };
                let after = before.split_off(at);
                let from = Self::default();
                self.merges.insert(place, Merged { at, from, after });
                place
            }
        };
        &mut self.merges[place].from
    }

    /// Merges that are kept apart, those of merged persons included.
    pub(super) fn merge_count(&self) -> usize {
        let merges = self.merges.iter();
        merges.map(|merged| 1 + merged.from.merge_count()).sum()
    }

    /// Makes one part of what came before the second merge.
    pub(super) fn join_oldest(&mut self) {
        let Merged { from, after, .. } = self.merges.remove(0);
        self.first.take_over(from.current());
        self.first.join(&after);
    }
}

/// The moves behind `at`, newest first.
fn later(at: Version, moves: &[Version]) -> Vec<Version> {
    let mut later: Vec<Version> = moves.iter().copied().filter(|moved| *moved > at).collect();
    later.sort_unstable_by(|a, b| b.cmp(a));
    later.dedup();
    later
}

#[cfg(test)]
mod tests {
    use stream_reply::StreamId;

    use super::super::stored;
    use super::*;
    use crate::config::PropertyOrder;

    fn at(n: u64) -> Version {
        Version::new(n as i64, StreamId::new(n, 0), PropertyOrder::EventTime)
    }

    fn set(lineage: &mut Lineage, n: u64, moves: &[Version], value: &str) {
        lineage
            .writes_at(at(n), moves)
            .key("k")
            .decide(at(n), Some(value));
    }

    fn value(lineage: &Lineage) -> Option<String> {
        lineage.current().0.get("k")?.value().map(str::to_owned)
    }

    #[test]
    fn a_merged_persons_write_that_comes_late_does_not_touch_the_survivors_value() {
        let mut lineage = Lineage::default();
        set(&mut lineage, 1, &[], "survivor");
        set(&mut lineage, 3, &[at(5)], "merged");
        assert_eq!(value(&lineage).unwrap(), "survivor");
        set(&mut lineage, 6, &[at(5)], "since");
        assert_eq!(value(&lineage).unwrap(), "since");
    }

    #[test]
    fn a_survivors_write_that_comes_late_wins_over_what_was_taken_over() {
        let mut merged = Lineage::default();
        set(&mut merged, 3, &[], "merged");
        let mut lineage = Lineage::default();
        lineage.merge(at(5), &[], merged);
        assert_eq!(value(&lineage).unwrap(), "merged");
        set(&mut lineage, 1, &[], "survivor");
        assert_eq!(value(&lineage).unwrap(), "survivor");
    }

    #[test]
    fn a_merge_that_comes_late_takes_its_place() {
        let mut lineage = Lineage::default();
        set(&mut lineage, 7, &[], "since");
        let mut merged = Lineage::default();
        set(&mut merged, 3, &[], "merged");
        lineage.merge(at(5), &[], merged);
        assert_eq!(value(&lineage).unwrap(), "since");
    }

    #[test]
    fn of_a_chain_each_survivor_wins_over_whom_it_took_in() {
        let mut lineage = Lineage::default();
        let (first, second) = (at(5), at(7));
        set(&mut lineage, 3, &[first, second], "a");
        assert_eq!(value(&lineage).unwrap(), "a");
        set(&mut lineage, 2, &[second], "b");
        assert_eq!(value(&lineage).unwrap(), "b");
        set(&mut lineage, 1, &[], "c");
        assert_eq!(value(&lineage).unwrap(), "c");
        set(&mut lineage, 6, &[first, second], "b through a");
        assert_eq!(value(&lineage).unwrap(), "c");
    }

    #[test]
    fn a_long_chain_of_merges_can_be_stored_and_read_again() {
        let mut lineage = Lineage::default();
        set(&mut lineage, 1, &[], r#""first""#);
        for n in 1..200 {
            let mut survivor = Lineage::default();
            survivor.merge(at(n * 10), &[], lineage);
            lineage = survivor;
        }
        let (values, versions) = (stored::values(&lineage), stored::versions(&lineage));
        let read = stored::load(&values, Some(&versions)).unwrap();
        assert_eq!(read, lineage);
        assert_eq!(value(&read).unwrap(), r#""first""#);
    }

    #[test]
    fn many_merges_are_kept_in_bounded_space() {
        let mut lineage = Lineage::default();
        for n in 1..200 {
            let mut merged = Lineage::default();
            set(&mut merged, n * 10, &[], "merged");
            lineage.merge(at(n * 10 + 1), &[], merged);
        }
        assert_eq!(lineage.merges.len(), MOST_MERGES);
        assert_eq!(value(&lineage).unwrap(), "merged");
    }
}
