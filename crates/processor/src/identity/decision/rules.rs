//! What an operator may choose about persons.

use crate::config::{MergePolicy, PropertyOrder};

use super::properties::Limits;

/// What an operator may choose about persons.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What may be merged.
    pub policy: MergePolicy,
    /// Which write of a property is newer.
    pub order: PropertyOrder,
    /// How much a person may hold.
    pub limits: Limits,
}
