//! What did not land, where it is kept: `events:dlq` for events that a store could not take, never trimmed and replayed later,
//! and `events:rejected` for those that break the rules.

mod dead_letters;
mod in_place;
pub(crate) mod letter;
mod reasons;
pub(crate) mod rejected;

pub(crate) use dead_letters::{QUEUE, Queue};
pub(crate) use in_place::Replaced;
pub(crate) use letter::{Letter, Letters, REASONS, Unavailable};
pub(crate) use reasons::Reasons;
pub(crate) use rejected::REJECTED;
