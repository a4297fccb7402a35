//! A bounded memory of events written lately: clients repeat a request, and its events come again as new entries.
//!
//! It only says "look first"; the warehouse decides. Forgetting costs nothing but a row that collapses at a merge.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

/// Events remembered: some seconds at full load, in 3 MB.
const REMEMBERED: usize = 131_072;

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
