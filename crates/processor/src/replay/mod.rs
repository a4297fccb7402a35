//! Dead letters go through the whole pipeline again, in order, once the stores that failed on them are back: one instance
//! at a time, behind a circuit that all instances share.

mod attempts;
mod circuit;
mod correct;
mod correction;
mod outcome;
mod refusals;
mod replayer;
mod run;
mod schedule;
mod selection;
mod start;

pub(crate) use circuit::{failures, open_for};
pub(crate) use correct::{Ended, moves_row, refusal, was_rejected};
pub(crate) use correction::{Change, Corrected, Difference, corrects};
pub(crate) use outcome::{LOCK, Outcome, RunContext, Stopped};
pub(crate) use replayer::Replayer;
pub(crate) use schedule::on_schedule;
pub(crate) use selection::Selection;
