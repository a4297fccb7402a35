//! Dead letters: valid events that a store could not take. Kept in order in `events:dlq`, never trimmed, replayed through
//! the whole pipeline once the store is back.

mod attempts;
mod circuit;
mod letter;
mod queue;
mod refusals;
mod replay;
mod run;
mod schedule;

pub use letter::{Letter, Letters, Unavailable};
pub use queue::{QUEUE, Queue};
pub use replay::{Outcome, Replayer, RunContext, Selection, Stopped};
pub use schedule::on_schedule;
