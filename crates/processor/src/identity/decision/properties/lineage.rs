//! The writes of a person and of all persons that were merged into it, apart from each other.
//!
//! At a merge the survivor's values stay, and what it has none for is taken over: for the survivor, a value that the merged
//! person brings is a set-once at the time of the merge. So a person's own writes need no order but that of their versions,
//! whatever was merged when. Of whom was merged, the writes are kept apart as they were then, so that one that arrives late
//! is joined where it belongs, and the value that is brought is found anew.
//!
//! Where that becomes too much, the oldest merges are joined for good: their values become set-onces of the survivor's. For
//! all that the survivor does, and for merges that arrive later still, nothing changes. What is lost is the order among
//! the merged person's own writes: one that arrives later still, from before such a merge, is left out, as it would be if
//! it came a second time.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::key_state::KeyState;
use super::version::Version;

/// Merges of merged persons that are kept apart, one inside the other. What is stored stays readable: the reader of JSON
/// goes no deeper than 128, and each takes three.
const DEEPEST: usize = 32;

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

    pub(super) fn join(&mut self, other: Self) {
        for (key, state) in other.0 {
            self.0.entry(key).or_default().join(&state);
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

/// A person's history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub(super) struct Lineage {
    /// Its own writes, and from behind their merges those of whom was merged.
    pub(super) own: Writes,
    /// Who was merged, as of then, by when the `$identify` was.
    pub(super) merged: BTreeMap<Version, Lineage>,
    /// `$identify`s that were taken for a merge until one from before arrived, with that one.
    pub(super) earlier: BTreeMap<Version, Version>,
    /// Merges up to this one are joined for good.
    pub(super) joined: Option<Version>,
}

impl Lineage {
    /// The values that hold now, by key.
    pub(super) fn values(&self) -> BTreeMap<&str, &str> {
        let own = self.own.0.iter();
        let mut values: BTreeMap<&str, &str> = own
            .filter_map(|(key, state)| Some((key.as_str(), state.value()?)))
            .collect();
        // The oldest one last, it wins over those behind it.
        for (at, side) in self.merged.iter().rev() {
            for (key, value) in side.values() {
                if self.own.0.get(key).is_none_or(|own| takes_over(own, *at)) {
                    values.insert(key, value);
                }
            }
        }
        values
    }

    /// All that was merged joined for good.
    pub(super) fn flat(&self) -> Cow<'_, Writes> {
        if self.merged.is_empty() {
            return Cow::Borrowed(&self.own);
        }
        let mut own = self.own.clone();
        for (at, side) in &self.merged {
            take_over(&mut own, *at, side);
        }
        Cow::Owned(own)
    }

    /// Where an event at `at` writes, of a distinct id that moved with the merges `moves`; `None` when that was before a
    /// merge that is joined for good.
    pub(super) fn writes_at(&mut self, at: Version, moves: &[Version]) -> Option<&mut Writes> {
        match self.side_at(at, moves) {
            (side, None) => Some(&mut side.own),
            (_, Some(_)) => None,
        }
    }

    /// Adds a merge that the `$identify` at `at` caused, of a user whose distinct id moved with the merges `moves`.
    pub(super) fn merge(&mut self, at: Version, moves: &[Version], mut from: Self) {
        if from.is_empty() {
            return;
        }
        // A merge that comes late: what the merged person did behind it, the survivor did.
        let since = from.split_off(at);
        self.join_since(&later(at, moves), since);
        match self.side_at(at, moves) {
            (side, None) => side.join_merged(at, from),
            (side, Some(merge)) => bring(&mut side.own, merge, &from),
        }
    }

    /// An `$identify` at `at` found its user and its anonymous id joined already. When one from behind it did that, the
    /// merge belongs here.
    pub(super) fn merge_earlier(&mut self, at: Version, user: &[Version], anonymous: &[Version]) {
        let of_user = later(at, user);
        let anonymous = later(at, anonymous);
        let Some((joined, rest)) = anonymous.split_last() else {
            return;
        };
        let (side, brought) = self.side_at(at, user);
        if *rest != of_user || brought.is_some() {
            return;
        }
        let joined = side.place_of(*joined);
        if joined <= at {
            return;
        }
        // Where the user has been merged meanwhile, as is known by now, a survivor has it; each of them is asked about it.
        let (holder, _) = self.side_at(joined, user);
        let from = holder.merged.remove(&joined).unwrap_or_default();
        self.way_to(at, user, |side| {
            side.earlier.insert(joined, at);
        });
        self.merge(at, user, from);
    }

    /// Joins all writes and merges of another one.
    fn join(&mut self, other: Self) {
        self.own.join(other.own);
        for (joined, earlier) in other.earlier {
            let known = self.earlier.entry(joined).or_insert(earlier);
            *known = earlier.min(*known);
        }
        for (at, side) in other.merged {
            self.join_merged(at, side);
        }
        if let Some(joined) = other.joined {
            self.join_up_to(joined);
        }
    }

    /// Joins who was merged at `at`.
    fn join_merged(&mut self, at: Version, from: Self) {
        if Some(at) > self.joined {
            self.merged.entry(at).or_default().join(from);
        } else {
            take_over(&mut self.own, at, &from);
        }
    }

    /// Joins what a person did since it was merged: on each side of the way from the oldest, for its time.
    fn join_since(&mut self, way: &[Version], mut since: Self) {
        let Some((moved, rest)) = way.split_first() else {
            return self.join(since);
        };
        let moved = self.place_of(*moved);
        // Who joined the merged person behind that joined the survivor.
        if rest.first().is_some_and(|next| self.place_of(*next) > moved) {
            return self.join_since(rest, since);
        }
        let behind = since.split_off(moved);
        self.join(behind);
        match self.merged_at(moved) {
            Some(side) => side.join_since(rest, since),
            None => bring(&mut self.own, moved, &since),
        }
    }

    /// Takes `at` and what is behind it out. What is known of merges that were earlier than it seemed stays on each side that
    /// is asked about it.
    fn split_off(&mut self, at: Version) -> Self {
        let earlier = self.earlier.split_off(&at);
        let before = earlier.iter().filter(|(_, place)| **place < at);
        self.earlier.extend(before);
        Self {
            own: self.own.split_off(at),
            merged: self.merged.split_off(&at),
            earlier,
            joined: self.joined.take_if(|joined| *joined >= at),
        }
    }

    fn is_empty(&self) -> bool {
        self.own.0.is_empty() && self.merged.is_empty() && self.earlier.is_empty()
    }

    /// The part of the history that a distinct id belonged to at that time: each later merge leads one person back. When
    /// one of them is joined for good, also which.
    fn side_at(&mut self, at: Version, moves: &[Version]) -> (&mut Self, Option<Version>) {
        self.way_to(at, moves, |_| ())
    }

    /// The same, with something done to each part on the way.
    fn way_to(
        &mut self,
        at: Version,
        moves: &[Version],
        on_the_way: impl Fn(&mut Self),
    ) -> (&mut Self, Option<Version>) {
        let mut side = self;
        on_the_way(side);
        let mut moves = later(at, moves).into_iter().peekable();
        while let Some(moved) = moves.next() {
            let place = side.place_of(moved);
            // Who joined the merged person behind that joined the survivor.
            let came_behind = moves.peek().is_some_and(|next| side.place_of(*next) > place);
            if place > at && !came_behind {
                if Some(place) <= side.joined {
                    return (side, Some(place));
                }
                side = side.merged.entry(place).or_default();
                on_the_way(side);
            }
        }
        (side, None)
    }

    /// When a merge happened, as far as is known now.
    fn place_of(&self, mut merge: Version) -> Version {
        while let Some(earlier) = self.earlier.get(&merge) {
            merge = *earlier;
        }
        merge
    }

    /// The person merged at `at`, an empty one when nothing was known of it until now; `None` when it is joined for good.
    fn merged_at(&mut self, at: Version) -> Option<&mut Self> {
        (Some(at) > self.joined).then(|| self.merged.entry(at).or_default())
    }

    /// Joins the merges up to `at` for good.
    pub(super) fn join_up_to(&mut self, at: Version) {
        while let Some(oldest) = self.merged.first_entry()
            && *oldest.key() <= at
        {
            let (at, side) = oldest.remove_entry();
            take_over(&mut self.own, at, &side);
        }
        self.joined = self.joined.max(Some(at));
    }

    /// Takes out what no write and no merge that may still arrive can bring to light.
    pub(super) fn forget_outranked(&mut self) {
        for (at, side) in &mut self.merged {
            let outranked =
                |key: &String, _: &mut KeyState| self.own.0.get(key).is_none_or(|own| !own.outranks(*at));
            side.retain(&outranked);
            side.forget_outranked();
        }
        self.merged.retain(|_, side| !side.is_empty());
    }

    fn retain(&mut self, keep: &impl Fn(&String, &mut KeyState) -> bool) {
        self.own.0.retain(keep);
        for side in self.merged.values_mut() {
            side.retain(keep);
        }
    }

    /// Joins for good what is merged deeper than can be stored.
    pub(super) fn keep_depth(&mut self) {
        self.keep_depth_within(DEEPEST);
    }

    fn keep_depth_within(&mut self, deepest: usize) {
        if deepest == 0
            && let Some((newest, _)) = self.merged.last_key_value()
        {
            self.join_up_to(*newest);
        }
        for side in self.merged.values_mut() {
            side.keep_depth_within(deepest - 1);
        }
    }

    /// Forgets the oldest of the `$identify`s that were no merges.
    pub(super) fn forget_earlier(&mut self, most: usize) {
        while self.earlier.len() > most {
            self.earlier.pop_first();
        }
        for side in self.merged.values_mut() {
            side.forget_earlier(most);
        }
    }
}

/// Whether a survivor with these writes takes a value over at a merge.
fn takes_over(own: &KeyState, at: Version) -> bool {
    match &own.decided {
        Some((_, Some(_))) => false,
        Some((unset, None)) if *unset >= at => false,
        _ => own.onces.oldest().is_none_or(|once| once.at >= at),
    }
}

/// What a survivor has after a merge: its values, and what it has none for, from the merged person.
fn take_over(own: &mut Writes, at: Version, from: &Lineage) {
    for (key, value) in from.values() {
        if own.0.get(key).is_none_or(|own| !own.outranks(at)) {
            own.key(key).take_over(at, value);
        }
    }
}

/// What is merged into a merged person when that one's merge at `at` is joined for good: where it brought nothing.
fn bring(own: &mut Writes, at: Version, from: &Lineage) {
    for (key, value) in from.values() {
        if own.0.get(key).is_none_or(|own| !own.outranks(at)) {
            own.key(key).once(at, value);
        }
    }
}

/// The moves behind `at`, newest first.
fn later(at: Version, moves: &[Version]) -> Vec<Version> {
    let mut later: Vec<Version> = moves.iter().copied().filter(|moved| *moved > at).collect();
    later.sort_unstable_by(|a, b| b.cmp(a));
    later.dedup();
    later
}
