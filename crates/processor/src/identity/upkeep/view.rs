//! What the three stores say about one distinct id, and whether they agree.

use crate::event::{DistinctId, KeyRef, PersonId, ProjectId};

/// What the stores say about one distinct id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The distinct id.
    pub distinct_id: DistinctId,
    /// PostgreSQL's mapping.
    pub postgres: Option<PersonId>,
    /// Redis's key. Absent is no disagreement: it is a copy that may be gone.
    pub redis: Option<String>,
    /// ClickHouse's newest override.
    pub moved_to: Option<PersonId>,
    /// Persons of ClickHouse's rows; two say as much as all.
    pub rows: Vec<PersonId>,
    /// Version of the override, 0 without one.
    pub(super) newest: u64,
    /// What the next move of it will be above: the version of PostgreSQL's outbox, and its clock.
    pub(crate) next: u64,
}

impl View {
    pub(super) fn key(&self, project: ProjectId) -> KeyRef<'_> {
        KeyRef::new(project, &self.distinct_id)
    }

    /// Whom a reader of ClickHouse takes the distinct id for: one person, several, or none.
    pub fn in_clickhouse(&self) -> &[PersonId] {
        self.moved_to.as_ref().map_or(&self.rows, std::slice::from_ref)
    }

    /// What the stores do not agree on; `None` when they do.
    pub fn disagreement(&self) -> Option<Disagreement> {
        let Some(person) = self.postgres else {
            let anything = !self.in_clickhouse().is_empty() || self.redis.is_some();
            return anything.then_some(Disagreement::Unmapped);
        };
        if self.in_clickhouse().iter().any(|found| *found != person) {
            return Some(Disagreement::ClickHouse);
        }
        if self.newest > self.next {
            return Some(Disagreement::Ahead);
        }
        let in_redis = self.redis.as_ref();
        in_redis
            .is_some_and(|found| *found != person.to_string())
            .then_some(Disagreement::Redis)
    }
}

/// Which store does not say what PostgreSQL says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disagreement {
    /// ClickHouse names another person.
    ClickHouse,
    /// ClickHouse's version is above PostgreSQL's: it would keep its answer when the distinct id moves.
    Ahead,
    /// Redis names another person.
    Redis,
    /// PostgreSQL has no mapping where another store names a person.
    Unmapped,
}
