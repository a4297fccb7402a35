//! Who did it: which person each distinct id belongs to, and what `$identify` changes about that.
//!
//! PostgreSQL is the authority; Redis and the in-process cache are copies of what it has committed. `resolve` is
//! pure and decides; everything else fetches for it or commits what it decided.

mod aftermath;
mod again;
mod attached;
pub mod audit;
mod cache;
mod changes;
mod check;
mod commit;
mod floor;
pub mod forget;
pub mod inherited;
mod isolate;
mod known;
mod mappings;
pub mod mover;
mod moves;
pub mod overrides;
mod parts;
pub mod person_keys;
mod projects;
pub mod properties;
mod redirects;
mod request;
pub mod resolve;
mod stage;
mod told_keys;
pub mod upkeep;
mod walk;

pub use cache::PersonCache;
pub use stage::{Identity, Memory, Resolved, Rules};
