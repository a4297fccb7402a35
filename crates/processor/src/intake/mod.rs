//! Where entries come from, and what becomes of them there. What the rest of the program sees of it is named here; all that
//! is peculiar to Redis Streams stands in `redis_stream`, so that another source would be its sister.

pub(crate) mod caution;
pub(crate) mod delivery;
pub(crate) mod ledger;
#[cfg(test)]
mod ledger_tests;
mod redis_stream;
mod share;

pub(crate) use delivery::Delivery;
pub(crate) use ledger::Ledger;
pub(crate) use redis_stream::GROUP;
pub(crate) use redis_stream::before::Before;
pub(crate) use redis_stream::continuity::stream_keys;
pub(crate) use redis_stream::group;
pub(crate) use redis_stream::intake::Intake;
pub(crate) use redis_stream::keep::Keeper;
pub(crate) use redis_stream::name::{Holder, key as name_key};
pub(crate) use redis_stream::ownership::{Foreign, Ownership};
pub(crate) use redis_stream::pending::are_pending;
pub(crate) use redis_stream::reader::Reader;
pub(crate) use redis_stream::receive::Receiver;
pub(crate) use redis_stream::signs::signs;
pub(crate) use redis_stream::trim::KEPT;
pub(crate) use redis_stream::watch::{REFUSED_AT, Watch};
pub(crate) use share::{Share, Turn, reader_of};
