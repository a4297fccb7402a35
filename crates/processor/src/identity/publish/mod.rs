//! What is committed, told to ClickHouse and Redis.

pub(crate) mod again;
pub(crate) mod attached;
mod floor;
pub(crate) mod outbox;
pub mod overrides;
pub mod person_keys;
mod published_keys;
