//! What is to be done with a batch's rows: which are inserted, which are looked up before.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::{Batch, Event, Field};

use super::recent::Recent;

/// What is to be done with a batch's rows; made in stream order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Events to insert.
    pub(super) rows: Vec<usize>,
    /// Among them, those that may be there already.
    pub(super) look_up: Vec<usize>,
    /// Some were delivered before: an insert of another instance may still be running.
    pub(super) redelivered: bool,
    /// Some are like a row that was planned before: it may still be on its way.
    repeats: bool,
    /// Events whose rows equal one of `rows`, by that one.
    pub(super) equal_rows: FxHashMap<usize, Vec<usize>>,
}

impl Plan {
    /// Whether rows are like earlier ones, so that no earlier batch may still be on its way.
    pub(crate) fn repeats(&self) -> bool {
        self.repeats
    }

    /// The batch may be landing elsewhere too: every row is looked up first.
    pub(crate) fn look_up_all(&mut self) {
        self.look_up.clone_from(&self.rows);
        self.redelivered = true;
    }
}

/// Plans batches one after another: remembers what was written lately.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    recent: Recent,
}

impl Planner {
    /// Decides which rows to insert and which to look up first. Of equal rows in one batch, the first is kept.
    pub(crate) fn plan(&mut self, batch: &Batch) -> Plan {
        let mut plan = Plan::default();
        let mut in_batch: FxHashMap<u64, usize> = FxHashMap::default();
        in_batch.reserve(batch.events.len());
        // A row may be there for any of its equals.
        let mut may_be_there = FxHashSet::default();
        for (index, event) in batch.events.iter().enumerate() {
            let hash = event.sort_key;
            plan.redelivered |= event.source.redelivered;
            if let Some(first) = in_batch.get(&hash)
                && same_row(batch, &batch.events[*first], event)
            {
                plan.equal_rows.entry(*first).or_default().push(index);
                if event.source.redelivered {
                    may_be_there.insert(*first);
                }
                continue;
            }
            in_batch.insert(hash, index);
            plan.rows.push(index);
            let seen = self.recent.seen(hash);
            plan.repeats |= seen;
            if seen || event.source.redelivered {
                may_be_there.insert(index);
            }
        }
        let look_up = plan.rows.iter().copied().filter(|row| may_be_there.contains(row));
        plan.look_up = look_up.collect();
        plan
    }
}

fn same_row(batch: &Batch, a: &Event, b: &Event) -> bool {
    a.event_id == b.event_id
        && a.project == b.project
        && a.timestamp == b.timestamp
        && batch.text(a, Field::EventName) == batch.text(b, Field::EventName)
}
