//! Getting entries out of Redis and letting go of them again: read, claim, hold, acknowledge, trim.
//!
//! Reading and claiming share one connection and one ordered channel, so that one instance has one order.

pub mod acknowledge;
mod claim;
mod connection;
pub mod group;
mod keep;
pub mod ledger;
pub mod reader;
mod room;
pub mod suspects;
mod trim;
mod trouble;

pub use keep::Keeper;
pub use ledger::Ledger;
pub use reader::{Delivery, Reader};
pub use trim::Trimmer;

/// The consumer group every worker belongs to.
pub const GROUP: &str = "processor-group";
