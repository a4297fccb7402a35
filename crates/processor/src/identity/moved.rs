//! A distinct id that belongs to another person than before.

use tokio_postgres::Row;

use crate::event::{DistinctId, KeyRef, ProjectId};

/// A distinct id that moved.
#[derive(Debug, Clone)]
pub struct Moved {
    /// Project.
    pub project: ProjectId,
    /// Distinct id.
    pub distinct_id: DistinctId,
    /// The version at which it was attached to a person while PostgreSQL knew nothing of it; none for any other.
    pub unseen_at: Option<i64>,
}

impl Moved {
    pub(crate) fn of(row: &Row) -> Self {
        Self {
            project: row.get(0),
            distinct_id: row.get(1),
            unseen_at: None,
        }
    }

    pub(crate) fn key(&self) -> KeyRef<'_> {
        KeyRef::new(self.project, &self.distinct_id)
    }
}
