//! Dead letters go through the whole pipeline again, in order, once the stores that failed on them are back: one instance
//! at a time, behind a circuit that all instances share.

mod attempts;
mod circuit;
mod outcome;
mod refusals;
mod replayer;
mod run;
mod schedule;
mod selection;
mod start;

pub use circuit::{failures, open_for};
pub use outcome::{LOCK, Outcome, RunContext, Stopped};
pub use replayer::Replayer;
pub use schedule::on_schedule;
pub use selection::Selection;
