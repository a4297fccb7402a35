//! The catalogue: which events and properties a project has, for the lists that analysts choose from.
//!
//! Beside the flush, never in its way: after a batch is acknowledged its names are compared with those seen this hour,
//! and what is new waits for a writer. Whatever is lost on the way is not marked as seen, so a later event brings it
//! again.

mod date_like;
mod fingerprint;
mod observe;
mod observer;
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
