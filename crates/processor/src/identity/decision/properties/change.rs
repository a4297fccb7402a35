//! What an event does to one key of its person.

use super::key_state::KeyState;
use super::version::Version;

/// What an event does to one key. Values are JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Overwrite.
    Set(String),
    /// Write if the person has no such key.
    Once(String),
    /// Remove.
    Unset,
}

impl Change {
    pub(super) fn join_to(&self, state: &mut KeyState, version: Version) {
        match self {
            Self::Set(value) => state.decide(version, Some(value)),
            Self::Once(value) => state.once(version, value),
            Self::Unset => state.decide(version, None),
        }
    }
}
