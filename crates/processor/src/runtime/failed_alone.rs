//! An event that a store fails on although it takes the event's neighbours.

use crate::event::{Event, PersonId};
use crate::stores::StoreError;

/// An event that a store failed on alone, for a reason that may pass, while it took the event's neighbours.
#[derive(Debug)]
pub struct FailedAlone {
    /// The event, no longer among its batch's.
    pub event: Event,
    /// Its person, if that was decided.
    pub person: Option<PersonId>,
    /// What the store said last.
    pub error: StoreError,
    /// How often the store was asked, with neighbours or without.
    pub attempts: u32,
}
