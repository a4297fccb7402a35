//! What an entry, an event and a batch are, and which entries are no events.
//!
//! Pure: no store, no clock, no randomness. Whatever an event needs that its entry does not say derives from the
//! stream name and the entry's id, so that every delivery gives the same event.

pub mod batch;
pub mod decode;
pub mod field;
pub mod id;
pub mod json;
pub mod key;
pub mod reject;
pub mod source;
pub mod timestamp;

pub use batch::{Batch, Event, IdentifyWith, Members};
pub use field::Field;
pub use key::Key;
pub use reject::{Reason, Reject, Warning, WarningKind};
pub use source::Source;
