//! Input for the worker, and an account of what must come out of it.
//!
//! - [`generate`] tells thirty days of three projects, [`account`] works them off by a model so plain that it can be
//!   read; both are committed as fixtures, read back with [`load_lines`] and [`load_account`].
//! - [`hostile_cases`] lists bad input with the outcome that the contract demands, read back with [`load_hostile`].
//! - [`Load`] yields events without end for load tests and benchmarks.
//!
//! Nothing here knows a store, a clock or the worker: the account must stay an independent opinion.

mod account;
mod cohorts;
mod fixture;
mod hostile;
mod line;
mod load;
mod projects;
mod random;
mod story;
mod vocabulary;

pub use account::{Account, PersonAccount, ProjectAccount, ValueType, account, person_id, property_type};
pub use cohorts::{COHORTS, Cohort};
pub use fixture::{
    ACCOUNT_FILE, COUNT, EVENTS_FILE, FixtureError, HOSTILE_FILE, SEED, account_text, lines_text,
    load_account, load_hostile, load_lines,
};
pub use hostile::{Bytes, Cell, Expect, HostileCase, Piece, hostile_cases};
pub use line::Line;
pub use load::{Load, LoadEntry, LoadOptions};
pub use projects::{PROJECTS, Project};
pub use story::{END_MS, generate};
