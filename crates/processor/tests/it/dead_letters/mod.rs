//! Dead letters: nothing is lost, nothing blocks, everything can be explained.

mod commands;
mod corrections;
mod frozen;
mod half_corrected;
mod hindered;
mod outages;
mod rejects;
mod replays;
mod waiting;
