//! A bounded memory of events written lately: clients repeat a request, and its events come again as new entries.
//!
//! It only says "look first"; the warehouse decides. Forgetting costs nothing but a row that collapses at a merge.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashSet, FxHasher};

use crate::event::{Batch, Event, Field};

/// Events remembered: some seconds at full load, in 3 MB.
const REMEMBERED: usize = 131_072;

/// Hash of a row's sort key. Two rows with one hash cost a look-up, no more.
pub(crate) fn sort_key_hash(batch: &Batch, event: &Event) -> u64 {
    let mut hasher = FxHasher::default();
    event.event_id.hash(&mut hasher);
    event.project.hash(&mut hasher);
    event.timestamp.hash(&mut hasher);
    batch.text(event, Field::EventName).hash(&mut hasher);
    hasher.finish()
}

/// The memory.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    known: FxHashSet<u64>,
    order: VecDeque<u64>,
}

impl Recent {
    /// Notes a row. `true` when one like it was noted before.
    pub(crate) fn seen(&mut self, hash: u64) -> bool {
        if !self.known.insert(hash) {
            return true;
        }
        self.order.push_back(hash);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_a_bounded_number() {
        let mut recent = Recent::default();
        assert!(!recent.seen(1));
        assert!(recent.seen(1));
        for hash in 2..=(REMEMBERED as u64 + 1) {
            assert!(!recent.seen(hash));
        }
        assert!(!recent.seen(1), "the oldest is forgotten");
        assert_eq!(recent.known.len(), REMEMBERED);
    }
}
