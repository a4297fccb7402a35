//! What did not land, where it is kept: `events:dlq` for events that a store could not take, never trimmed and replayed later,
//! and `events:rejected` for those that break the rules.

mod dead_letters;
pub mod letter;
pub mod rejected;

pub use dead_letters::{QUEUE, Queue};
pub use letter::{Letter, Letters, Unavailable};
pub use rejected::REJECTED;
