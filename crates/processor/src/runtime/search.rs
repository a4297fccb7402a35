//! Looks for the items that a store does not take although it works: [`Halving`] over one store's errors, with an end.

use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use super::halving::{AtFault, Halving, Next, Reply};
use super::outages;
use super::retry::GaveUp;
use crate::stores::StoreError;

/// Longest that a search may take; what is left then is given up together.
const LONGEST: Duration = Duration::from_mins(1);

/// A search after a first failure.
#[derive(Debug)]
pub struct Search {
    halving: Halving<StoreError>,
    is_data: fn(&StoreError) -> bool,
    /// The newest error that may pass.
    last: Option<StoreError>,
    deadline: Instant,
}

impl Search {
    /// Begins after `count` items failed together in `attempts` attempts. `is_data`: whether a refusal names the data.
    ///
    /// # Errors
    /// The drain's end, which is no failure of an item.
    pub fn begin(
        count: usize,
        failure: GaveUp<StoreError>,
        attempts: u32,
        is_data: fn(&StoreError) -> bool,
    ) -> Result<Self, GaveUp<StoreError>> {
        let (said, error) = answer(failure, is_data)?;
        let last = (said == Reply::Failed).then(|| error.clone());
        Ok(Self {
            halving: Halving::new(count, attempts, said, error),
            is_data,
            last,
            deadline: Instant::now() + LONGEST,
        })
    }

    /// The same where the store took something else right before, if it did.
    #[must_use]
    pub fn beside_what_was_taken(mut self, others_were_taken: bool) -> Self {
        if others_were_taken {
            self.halving.others_were_taken();
        }
        self
    }

    /// Whether the store has to be asked if it takes writes at all before the search goes on.
    pub fn needs_probe(&self) -> bool {
        self.last.is_some()
    }

    /// The items to try next; nothing when the search is over.
    pub fn next(&self) -> Option<Range<usize>> {
        match self.halving.next() {
            Next::Try(range) if Instant::now() < self.deadline => Some(range),
            _ => None,
        }
    }

    /// Notes how a try ended; `asked`: whether the store had anything to do for it. `true` when an item has failed
    /// alone for a reason that may pass: then the store is to be probed again.
    ///
    /// # Errors
    /// The drain's end.
    pub fn answered(&mut self, tried: Result<bool, GaveUp<StoreError>>) -> Result<bool, GaveUp<StoreError>> {
        let is_alone = matches!(self.halving.next(), Next::Try(range) if range.len() == 1);
        match tried {
            Ok(asked) => {
                let said = if asked { Reply::Taken } else { Reply::NotAsked };
                self.halving.answered(said, None);
                Ok(false)
            }
            Err(failure) => {
                let (said, error) = answer(failure, self.is_data)?;
                if said == Reply::Failed {
                    self.last = Some(error.clone());
                }
                self.halving.answered(said, Some(error));
                Ok(is_alone && said == Reply::Failed)
            }
        }
    }

    /// The store does not take writes now: no item is to blame.
    pub fn store_is_away(self) -> GaveUp<StoreError> {
        match (self.last, self.halving.at_fault().pop()) {
            (Some(error), _) => GaveUp::Away(error),
            (None, item) => item.map_or(GaveUp::Abandoned(None), |item| GaveUp::Away(item.error)),
        }
    }

    /// The items at fault, in order.
    ///
    /// # Errors
    /// When no item can be blamed: none was taken, or the search took too long.
    pub fn end(self) -> Result<Vec<AtFault<StoreError>>, GaveUp<StoreError>> {
        match self.halving.next() {
            Next::Done => {
                // It works after all, whatever was said when the attempts together had failed.
                if let Some(error) = self.last {
                    outages::is_back(error.store);
                }
                Ok(self.halving.at_fault())
            }
            // Nothing was taken, or the time is up: slow failures are found in smaller batches.
            Next::Try(_) | Next::NothingTaken => {
                let of_item = self.halving.at_fault().pop().map(|item| item.error);
                let error = self.last.or(of_item);
                Err(error.map_or(GaveUp::Abandoned(None), GaveUp::TakesNone))
            }
        }
    }
}

fn answer(
    failure: GaveUp<StoreError>,
    is_data: fn(&StoreError) -> bool,
) -> Result<(Reply, StoreError), GaveUp<StoreError>> {
    match failure {
        GaveUp::Poison(error) if is_data(&error) => Ok((Reply::Refused, error)),
        GaveUp::Poison(error) | GaveUp::Away(error) | GaveUp::TakesNone(error) => Ok((Reply::Failed, error)),
        abandoned @ GaveUp::Abandoned(_) => Err(abandoned),
    }
}
