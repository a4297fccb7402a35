//! The key in Redis that names a distinct id's person: a copy of what PostgreSQL has committed.

use crate::event::{DistinctId, KeyRef, PersonId, ProjectId};

/// Life of a person key in Redis: 90 days.
pub(crate) const PERSON_TTL_S: u64 = 7_776_000;

/// The Redis key that names a distinct id's person.
pub(crate) fn person_key(KeyRef { project, distinct_id }: KeyRef<'_>) -> String {
    format!("person:{project}:{distinct_id}")
}

/// A distinct id and its person.
#[derive(Debug, Clone)]
pub struct PersonKey {
    /// Project.
    pub project: ProjectId,
    /// Distinct id.
    pub distinct_id: DistinctId,
    /// Person, as PostgreSQL said.
    pub person: PersonId,
}

impl PersonKey {
    pub(crate) fn key(&self) -> KeyRef<'_> {
        KeyRef::new(self.project, &self.distinct_id)
    }

    pub(crate) fn name(&self) -> String {
        person_key(self.key())
    }

    /// Whether what is held under its name is its person.
    pub(crate) fn is_held(&self, held: Option<&[u8]>) -> bool {
        held == Some(self.person.to_string().as_bytes())
    }
}
