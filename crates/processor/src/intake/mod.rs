//! Where entries come from, and what becomes of them there. What the rest of the program sees of it is named here; all that
//! is peculiar to Redis Streams stands in `redis_stream`, so that another source would be its sister.

pub mod caution;
pub mod delivery;
pub mod ledger;
#[cfg(test)]
mod ledger_tests;
mod redis_stream;

pub use delivery::Delivery;
pub use ledger::Ledger;
pub use redis_stream::GROUP;
pub use redis_stream::group;
pub use redis_stream::intake::Intake;
pub use redis_stream::keep::Keeper;
pub use redis_stream::name::Holder;
pub use redis_stream::ownership::{Foreign, Ownership};
pub use redis_stream::pending::are_pending;
pub use redis_stream::reader::Reader;
pub use redis_stream::receive::Receiver;
pub use redis_stream::watch::{REFUSED_AT, Watch};
