//! What PostgreSQL has committed of a batch.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::PersonId;
use crate::identity::decision::resolve::Mapping;
use crate::identity::known::too_much::TooMuch;
use crate::identity::moved::Moved;

use super::aftermath::Aftermath;

/// Decided events that PostgreSQL has.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// The person of each event's row.
    pub(crate) persons: Vec<PersonId>,
    /// Distinct ids that moved.
    pub(crate) moved: Vec<Moved>,
    /// Where the keys that PostgreSQL was asked about belong.
    pub(crate) mappings: FxHashMap<u32, Mapping>,
    /// Those of them that a merge has yet to tell of, here or elsewhere.
    pub(crate) left_to_publishers: FxHashSet<u32>,
    /// Events whose merge would have joined two identified users.
    pub(crate) refused: Vec<usize>,
    /// Events of which that many property writes do not fit.
    pub(crate) left_out: Vec<(usize, usize)>,
    /// Whether anything was written.
    pub(crate) wrote: bool,
    /// What follows.
    pub(crate) aftermath: Aftermath,
}

impl Committed {
    /// Adds what was decided about the events behind.
    pub(crate) fn append(&mut self, next: Self) {
        let before = self.persons.len();
        self.persons.extend(next.persons);
        self.moved.extend(next.moved);
        self.mappings.extend(next.mappings);
        self.left_to_publishers.extend(next.left_to_publishers);
        self.wrote |= next.wrote;
        self.refused
            .extend(next.refused.into_iter().map(|event| event + before));
        let left_out = next.left_out.into_iter();
        self.left_out
            .extend(left_out.map(|(event, writes)| (event + before, writes)));
    }
}

/// What became of an attempt to commit a batch.
pub(crate) enum Attempt {
    Committed(Committed),
    TooMuch(TooMuch),
}
