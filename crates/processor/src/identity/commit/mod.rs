//! What was decided, committed: written in one transaction, in parts where it is much, without the events at fault where
//! PostgreSQL refuses some, and what follows from it.

mod aftermath;
pub(crate) mod attempt;
pub(crate) mod committed;
mod isolate;
mod parts;
pub(crate) mod write;
