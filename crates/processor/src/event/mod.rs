//! What an entry, an event and a batch are, and which entries are refused.
//!
//! Pure: no store, no clock, no randomness. What an entry leaves out (event id, time) derives from the stream's name and
//! the entry's id, so that every delivery of an entry gives the same event.

pub mod batch;
pub mod decode;
pub mod field;
pub mod id;
pub mod json;
pub mod key;
mod partition;
pub mod reject;
pub mod source;
pub mod timestamp;

pub use batch::{Batch, Event, IdentifyWith, Members};
pub use field::Field;
pub use id::{DistinctId, PersonId, ProjectId};
pub use key::{Key, KeyRef};
pub use partition::{Spread, partition};
pub use reject::{Reason, Reject, Warning, WarningKind};
pub use source::Source;
