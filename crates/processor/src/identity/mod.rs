//! Who did it: which person each distinct id belongs to, and what `$identify` changes about that.
//!
//! PostgreSQL is the authority; Redis and the in-process cache are copies of what it has committed. `resolve` is
//! pure and decides; everything else fetches for it or commits what it decided.

pub mod audit;
mod cache;
mod changes;
mod commit;
pub mod inherited;
mod isolate;
mod known;
pub mod mover;
mod moves;
pub mod overrides;
mod parts;
mod projects;
pub mod properties;
mod redirects;
pub mod resolve;
mod stage;
pub mod upkeep;

pub use cache::PersonCache;
pub use isolate::FailedAlone;
pub(crate) use stage::PERSON_TTL_S;
pub use stage::{Identity, Resolved, Rules};
