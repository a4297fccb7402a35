//! Telling apart what may have ended workers: entries that were delivered too often are processed apart from everything
//! else, and one that ends the worker each time it is processed alone is refused.
//!
//! Most suspects are innocent: a rolling restart during an outage makes one of every entry that was held. So a process
//! begins with the first of them alone, and takes twice as many together each time what it took has landed. Should it be
//! ended by one of them, those before are gone, and its successor begins anew with the first that is left: each end halves
//! at least how far away the one at fault can be, until it is the first, and alone.
//!
//! A solitary attempt is counted right before it is made, while nothing else is on its way. A worker that ends then was
//! ended by this entry or from outside; no other entry is blamed for it.

/// A suspect that has been processed alone this often without being acknowledged is refused.
pub(super) const MOST_ATTEMPTS: u64 = 3;
/// How many suspects a process tries together. Lasts as long as the process does: its end is what makes it careful again.
#[derive(Debug)]
pub(crate) struct Caution {
    together: usize,
}

impl Default for Caution {
    fn default() -> Self {
        Self { together: 1 }
    }
}

impl Caution {
    /// Splits off those that are tried next, of entries that are to be tried in this order.
    pub(crate) fn next<'a>(&self, waiting: &'a [usize]) -> (&'a [usize], &'a [usize]) {
        waiting.split_at(self.together.min(waiting.len()))
    }

    /// What was tried has ended no process.
    pub(crate) fn landed(&mut self) {
        self.together = self.together.saturating_mul(2);
    }
}

/// Indices of what is to be processed apart of a block with `suspects`: everything from the first of them to the last,
/// for nothing may overtake what stands before it in the stream. `skip` are not to be processed at all. Both ascend.
pub(crate) fn apart(suspects: &[usize], skip: &[usize]) -> Vec<usize> {
    let (Some(&first), Some(&last)) = (suspects.first(), suspects.last()) else {
        return Vec::new();
    };
    (first..=last)
        .filter(|i| skip.binary_search(i).is_err())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What is left in the stream, and what became of the rest.
    #[derive(Default)]
    struct Story {
        left: Vec<usize>,
        attempts: BTreeMap<usize, u64>,
        landed: Vec<usize>,
        refused: Vec<usize>,
        ends: u32,
        batches: u32,
    }

    impl Story {
        /// Processes come and go until nothing is left; a process that processes one of `guilty` ends. All of a process's
        /// entries come in blocks.
        fn of(entries: usize, block: usize, guilty: &[usize]) -> Self {
            let mut story = Self {
                left: (0..entries).collect(),
                ..Self::default()
            };
            while !story.left.is_empty() {
                if story.process(block, guilty).is_none() {
                    story.ends += 1;
                    assert!(story.ends < 1000, "no progress: {} left", story.left.len());
                }
            }
            story
        }

        fn process(&mut self, block: usize, guilty: &[usize]) -> Option<()> {
            let mut caution = Caution::default();
            for block in self.left.clone().chunks(block) {
                let mut waiting = block;
                while !waiting.is_empty() {
                    let (group, rest) = caution.next(waiting);
                    waiting = rest;
                    self.batches += 1;
                    let is_refused = group.len() == 1 && {
                        let attempts = self.attempts.entry(group[0]).or_default();
                        *attempts += 1;
                        *attempts > MOST_ATTEMPTS
                    };
                    if is_refused {
                        self.refused.extend(group);
                    } else if group.iter().any(|entry| guilty.contains(entry)) {
                        return None;
                    } else {
                        self.landed.extend(group);
                    }
                    caution.landed();
                    self.left.drain(..group.len());
                }
            }
            Some(())
        }
    }

    #[test]
    fn innocent_suspects_land_in_few_groups_and_in_order() {
        for (entries, block, most) in [(1, 500, 1), (500, 500, 9), (20_000, 500, 48), (20_000, 30, 672)] {
            let story = Story::of(entries, block, &[]);
            assert_eq!(story.landed, (0..entries).collect::<Vec<_>>());
            assert_eq!((story.ends, story.refused.len()), (0, 0));
            assert!(story.batches <= most, "{} groups of {entries}", story.batches);
        }
    }

    #[test]
    fn a_guilty_one_is_found_by_halving_wherever_it_is() {
        for entries in [1_usize, 2, 3, 30, 500, 2_000] {
            for guilty in (0..entries).step_by(entries.div_ceil(100)) {
                let story = Story::of(entries, 500, &[guilty]);
                assert_eq!(story.refused, [guilty], "of {entries}");
                let others: Vec<usize> = (0..entries).filter(|n| *n != guilty).collect();
                assert_eq!(story.landed, others);
                let most = entries.ilog2() + 1 + MOST_ATTEMPTS as u32;
                assert!(story.ends <= most, "{guilty} of {entries}: {} ends", story.ends);
            }
        }
    }

    #[test]
    fn several_guilty_ones_are_found_one_after_another() {
        let guilty = [0, 1, 400, 401, 999];
        let story = Story::of(1_000, 300, &guilty);
        assert_eq!(story.refused, guilty);
        assert_eq!(story.landed.len(), 995);
        assert!(
            story.ends <= 5 * (10 + MOST_ATTEMPTS as u32),
            "{} ends",
            story.ends
        );
    }

    #[test]
    fn what_stands_between_suspects_goes_with_them_and_what_is_held_does_not() {
        assert_eq!(apart(&[2, 5], &[0, 3, 7]), [2, 4, 5]);
        assert_eq!(apart(&[4], &[]), [4]);
        assert_eq!(apart(&[], &[1]), Vec::<usize>::new());
    }
}
