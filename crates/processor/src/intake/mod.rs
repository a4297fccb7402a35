//! Getting entries out of Redis and letting go of them again: read, claim, hold, acknowledge, trim.
//!
//! Reading and claiming share one connection and one ordered channel, so that one instance has one order.

pub mod acknowledge;
mod claim;
mod connection;
mod continuity;
pub mod group;
mod keep;
pub mod ledger;
#[cfg(test)]
mod ledger_tests;
mod name;
pub mod ownership;
pub mod reader;
mod receive;
mod room;
pub mod suspects;
mod trim;
mod trouble;
mod watch;

pub use keep::Keeper;
pub use ledger::Ledger;
pub use name::Holder;
pub use ownership::Ownership;
pub use reader::Reader;
pub use receive::{Delivery, Receiver};
pub use watch::Watch;

/// The consumer group every worker belongs to.
pub const GROUP: &str = "processor-group";
