//! Seeded choices that are the same on every machine and with every version of every library.
//!
//! Only the bit stream comes from a library; what is made of the bits is written here with integers, so that the
//! committed fixtures never change by themselves. Never a source of secrets.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use uuid::Uuid;

/// A stream of choices.
#[derive(Debug, Clone)]
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// The choices that belong to `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` up to and including `high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1).max(1) as u64) as i64
    }

    /// True in `per_thousand` of a thousand cases.
    pub(crate) fn chance(&mut self, per_thousand: u64) -> bool {
        self.below(1000) < per_thousand
    }

    /// One of `choices`, which must not be empty.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// One of `choices`, which must not be empty, by reference.
    pub(crate) fn one<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// A version 4 UUID.
    pub(crate) fn uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

/// Ranks with Zipf's law: rank `k` (from 0) is `k + 1` times rarer than rank 0.
#[derive(Debug, Clone)]
pub(crate) struct Zipf {
    cumulative: Vec<u64>,
}

impl Zipf {
    /// Ranks below `ranks`, at least one.
    pub(crate) fn new(ranks: usize) -> Self {
        let weights = (1..=ranks.max(1) as u64).map(|rank| 1_000_000_000 / rank);
        let sums = weights.scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self {
            cumulative: sums.collect(),
        }
    }

    /// A rank.
    pub(crate) fn rank(&self, random: &mut Random) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(1);
        let at = random.below(total);
        self.cumulative.partition_point(|sum| *sum <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_stay_within_their_bounds_and_reach_both_ends() {
        let mut random = Random::new(1);
        let seen: std::collections::BTreeSet<i64> = (0..1000).map(|_| random.between(-2, 2)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [-2, -1, 0, 1, 2]);
    }

    #[test]
    fn a_higher_rank_is_rarer() {
        let (zipf, mut random) = (Zipf::new(50), Random::new(2));
        let mut counts = [0; 50];
        for _ in 0..20_000 {
            counts[zipf.rank(&mut random)] += 1;
        }
        assert!(
            counts[0] > counts[4] && counts[4] > counts[40] && counts[40] > 0,
            "{counts:?}"
        );
    }
}
