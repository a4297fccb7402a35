//! The catalogue: the event and property names of each project, for the lists that analysts choose from ("The catalogue" in
//! docs/contract.md).
//!
//! It works beside the pipeline and never holds it up. After a batch is acknowledged its names are compared with those
//! written this hour, and new ones wait for a writer. A name that is lost on the way is not marked as seen, so a later
//! event brings it again.

mod date_like;
mod fingerprint;
mod observe;
mod observer;
#[cfg(test)]
mod observer_tests;
mod refused;
mod seen;
mod sightings;
mod upsert;
mod value_type;
mod white_space;
mod writer;

pub use observe::Catalogue;
pub use value_type::ValueType;
pub use writer::writer;
