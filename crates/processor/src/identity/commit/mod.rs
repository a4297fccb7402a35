//! What was decided, committed: written in one transaction, in parts where it is much, without the events at fault where
//! PostgreSQL refuses some, and what follows from it.

pub(crate) mod aftermath;
pub(crate) mod isolate;
pub(crate) mod parts;
pub(crate) mod write;
