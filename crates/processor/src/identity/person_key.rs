//! The key in Redis that names a distinct id's person: a copy of what PostgreSQL has committed.

use crate::event::{PersonId, ProjectId};

/// Life of a person key in Redis: 90 days.
pub(crate) const PERSON_TTL_S: u64 = 7_776_000;

/// The Redis key that names a distinct id's person.
pub(crate) fn person_key(project: ProjectId, distinct_id: &str) -> String {
    format!("person:{project}:{distinct_id}")
}

/// A distinct id and its person.
#[derive(Debug, Clone)]
pub struct PersonKey {
    /// Project.
    pub project: ProjectId,
    /// Distinct id.
    pub distinct_id: Box<str>,
    /// Person, as PostgreSQL said.
    pub person: PersonId,
}

impl PersonKey {
    pub(crate) fn name(&self) -> String {
        person_key(self.project, &self.distinct_id)
    }

    /// Whether what is held under its name is its person.
    pub(crate) fn is_held(&self, held: Option<&[u8]>) -> bool {
        held == Some(self.person.to_string().as_bytes())
    }
}
