//! Dead letters: valid events that a store could not take. Kept in order in `events:dlq`, never trimmed, replayed through
//! the whole pipeline once the store is back.

mod circuit;
mod letter;
mod queue;
mod replay;

pub use letter::{Letter, Unavailable};
pub use queue::{QUEUE, Queue};
pub use replay::{Outcome, Replayer, Selection};
