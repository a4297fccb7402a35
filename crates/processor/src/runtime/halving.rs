//! Which of several items a store does not take, found by halving: the decision of what to try next, and nothing else.
//!
//! An item is at fault when it failed alone and a neighbour was taken. As long as nothing was taken, the store may be what
//! is broken, and no item is blamed.

use std::ops::Range;

/// Failed tries after which the search ends if nothing at all was taken: then the store, not an item, is to blame.
const ENOUGH: u32 = 64;

/// What a store said to one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It took the items.
    Taken,
    /// It had nothing to do for them, which shows nothing.
    NotAsked,
    /// It refused them as data: another try says the same.
    Refused,
    /// It failed, for a reason that may pass.
    Failed,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Try these items, in this order.
    Try(Range<usize>),
    /// Everything was tried: see [`Halving::at_fault`].
    Done,
    /// Nothing was taken: no item can be blamed.
    NothingTaken,
}

/// An item that failed alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtFault<E> {
    /// Which one.
    pub index: usize,
    /// What the store said last.
    pub error: E,
    /// Whether it was refused as data, so that another try is useless.
    pub for_good: bool,
    /// How often it was tried, together with others or alone.
    pub attempts: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    range: Range<usize>,
    attempts: u32,
}

/// A search among items in their order.
#[derive(Debug)]
pub struct Halving<E> {
    /// Still to be tried, the next one last.
    pieces: Vec<Piece>,
    at_fault: Vec<AtFault<E>>,
    taken: usize,
    others_were_taken: bool,
    failures: u32,
}

impl<E> Halving<E> {
    /// Begins with `count` items that were tried together `attempts` times; `said` and `error` are the last answer.
    pub fn new(count: usize, attempts: u32, said: Reply, error: E) -> Self {
        let mut halving = Self {
            pieces: vec![Piece {
                range: 0..count,
                attempts: attempts.saturating_sub(1),
            }],
            at_fault: Vec::new(),
            taken: 0,
            others_were_taken: false,
            failures: 0,
        };
        halving.answered(said, Some(error));
        halving
    }

    /// The store took something else right before: an item that fails alone needs no other neighbour. It does not show
    /// that the store works still when very many fail.
    pub fn others_were_taken(&mut self) {
        self.others_were_taken = true;
    }

    /// What to do next; asked again without an answer between, it says the same.
    pub fn next(&self) -> Next {
        let is_over = self.pieces.is_empty();
        let has_witness = self.taken > 0 || self.others_were_taken;
        let may_blame = has_witness || self.at_fault.iter().all(|item| item.for_good);
        match self.pieces.last() {
            _ if self.taken == 0 && self.failures >= ENOUGH => Next::NothingTaken,
            _ if is_over && !may_blame => Next::NothingTaken,
            Some(piece) => Next::Try(piece.range.clone()),
            None => Next::Done,
        }
    }

    /// Notes what the store said to the items last given out; `error` comes with [`Reply::Refused`] and [`Reply::Failed`].
    pub fn answered(&mut self, said: Reply, error: Option<E>) {
        let Some(Piece { range, attempts }) = self.pieces.pop() else {
            return;
        };
        let attempts = attempts + 1;
        let Some(error) = error else {
            self.taken += if said == Reply::Taken { range.len() } else { 0 };
            return;
        };
        self.failures += 1;
        if range.len() <= 1 {
            let index = range.start;
            let for_good = said == Reply::Refused;
            self.at_fault.push(AtFault {
                index,
                error,
                for_good,
                attempts,
            });
            return;
        }
        let middle = range.start.midpoint(range.end);
        for range in [middle..range.end, range.start..middle] {
            self.pieces.push(Piece { range, attempts });
        }
    }

    /// The items that failed alone, in order, once the search is [`Next::Done`].
    pub fn at_fault(self) -> Vec<AtFault<E>> {
        self.at_fault
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs a search against a store that treats each item as given; returns what it ended with and the tries made.
    fn search(items: &[Reply]) -> (Next, Vec<AtFault<()>>, Vec<Range<usize>>) {
        let answer = |range: Range<usize>| {
            let worst = items[range].iter().find(|said| **said != Reply::Taken);
            worst.copied().unwrap_or(Reply::Taken)
        };
        let mut halving = Halving::new(items.len(), 3, answer(0..items.len()), ());
        let mut tries = Vec::new();
        loop {
            match halving.next() {
                Next::Try(range) => {
                    tries.push(range.clone());
                    let said = answer(range);
                    halving.answered(said, (said != Reply::Taken).then_some(()));
                }
                end => return (end, halving.at_fault(), tries),
            }
        }
    }

    fn items(count: usize, failing: &[usize]) -> Vec<Reply> {
        let said = |n| {
            if failing.contains(&n) {
                Reply::Failed
            } else {
                Reply::Taken
            }
        };
        (0..count).map(said).collect()
    }

    #[test]
    fn one_of_a_thousand_is_found_in_twenty_tries() {
        let (end, at_fault, tries) = search(&items(1000, &[617]));
        assert_eq!(end, Next::Done);
        assert_eq!((at_fault.len(), at_fault[0].index), (1, 617));
        assert!(tries.len() <= 20, "{} tries", tries.len());
        assert!(at_fault[0].attempts >= 3 + 9, "{}", at_fault[0].attempts);
    }

    #[test]
    fn what_fails_alone_without_a_neighbour_is_not_blamed() {
        let (end, _, tries) = search(&items(1, &[0]));
        assert_eq!((end, tries.len()), (Next::NothingTaken, 0));
        let (end, _, tries) = search(&[Reply::Failed; 10_000]);
        assert_eq!(end, Next::NothingTaken);
        assert!(tries.len() < ENOUGH as usize);
        let (end, ..) = search(&[Reply::Failed, Reply::Refused]);
        assert_eq!(end, Next::NothingTaken);
    }

    #[test]
    fn a_single_item_is_blamed_where_others_were_taken_right_before() {
        let mut halving = Halving::new(1, 3, Reply::Failed, ());
        assert_eq!(halving.next(), Next::NothingTaken);
        halving.others_were_taken();
        assert_eq!(halving.next(), Next::Done);
        let at_fault = halving.at_fault();
        assert_eq!((at_fault.len(), at_fault[0].attempts), (1, 3));
        let mut many = Halving::new(500, 3, Reply::Refused, ());
        many.others_were_taken();
        while let Next::Try(_) = many.next() {
            many.answered(Reply::Refused, Some(()));
        }
        assert_eq!(many.next(), Next::NothingTaken);
    }

    #[test]
    fn a_few_that_are_refused_as_data_are_blamed_without_a_neighbour_and_very_many_are_not() {
        let (end, at_fault, _) = search(&[Reply::Refused; 5]);
        assert_eq!((end, at_fault.len()), (Next::Done, 5));
        assert!(at_fault.iter().all(|item| item.for_good));
        assert_eq!(search(&[Reply::Refused; 500]).0, Next::NothingTaken);
    }

    proptest! {
        #[test]
        fn exactly_what_fails_is_blamed_and_what_is_taken_is_taken_in_order(
            said in prop::collection::vec(
                prop_oneof![4 => Just(Reply::Taken), 1 => Just(Reply::Failed), 1 => Just(Reply::Refused)], 1..200)
        ) {
            prop_assume!(said.iter().any(|said| *said != Reply::Taken));
            let (end, at_fault, tries) = search(&said);
            let all_failing = said.iter().all(|said| *said != Reply::Taken);
            if !all_failing && end == Next::Done {
                let found: Vec<_> = at_fault.iter().map(|item| item.index).collect();
                let wrong: Vec<_> = (0..said.len()).filter(|n| said[*n] != Reply::Taken).collect();
                prop_assert_eq!(found, wrong);
                for item in &at_fault {
                    prop_assert_eq!(item.for_good, said[item.index] == Reply::Refused);
                }
                let taken: Vec<_> = tries.iter()
                    .filter(|range| said[(*range).clone()].iter().all(|said| *said == Reply::Taken))
                    .cloned().flatten().collect();
                prop_assert!(taken.is_sorted());
            }
            prop_assert!(tries.len() < 2 * said.len());
        }
    }
}
