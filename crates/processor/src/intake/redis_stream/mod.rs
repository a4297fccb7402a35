//! Redis Streams as the source of entries: read, claim, hold, acknowledge, trim.
//!
//! Reading and claiming share one connection and one ordered channel, so that one instance has one order.

pub(super) mod before;
mod claim;
mod connection;
pub(super) mod continuity;
mod fresh;
pub(crate) mod group;
pub(super) mod intake;
pub(super) mod keep;
pub(super) mod name;
pub(super) mod ownership;
pub(super) mod pending;
mod place;
pub(super) mod reader;
pub(super) mod receive;
mod room;
pub(super) mod signs;
mod suspects;
pub(super) mod trim;
mod trouble;
pub(super) mod watch;

/// The consumer group every worker belongs to.
pub(crate) const GROUP: &str = "processor-group";
