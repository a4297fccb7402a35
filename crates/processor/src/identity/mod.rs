//! Who did it: which person each distinct id belongs to, and what `$identify` changes about that.
//!
//! PostgreSQL is the authority; Redis and the in-process cache are copies of what it has committed. A batch
//! is looked up (`known`), decided about (`decision`, pure), committed (`commit`), and the others are told (`publish`);
//! `upkeep` goes on beside the stream.

mod commit;
pub mod decision;
mod known;
pub mod moved;
pub mod person_key;
pub mod publish;
mod stage;
pub mod upkeep;

pub use decision::rules::Rules;
pub use known::cache::PersonCache;
pub(crate) use known::projects::Projects;
pub use moved::Moved;
pub use stage::{Identity, Memory, Resolved};
