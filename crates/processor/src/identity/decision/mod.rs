//! The decision: who each event is of, what is merged and how properties join, given what the stores say. Pure: no client
//! library is used here, and no clock.

pub(crate) mod changes;
pub(crate) mod moves;
pub mod properties;
pub mod resolve;
pub(crate) mod rules;
