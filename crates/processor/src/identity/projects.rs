//! Which projects exist: an event of one that does not is refused alone, before a foreign key fails a statement.

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::stores::{Postgres, StoreError};

/// How long a project is taken to exist without asking again.
const EXISTS_FOR: Duration = Duration::from_mins(5);
/// How long one is taken not to exist: short, since it may be about to be created.
const ABSENT_FOR: Duration = Duration::from_secs(5);
/// Answers remembered; a flood of made-up ids empties the memory rather than growing it.
const REMEMBERED: usize = 10_000;

/// Remembers which projects exist.
#[derive(Debug, Default)]
pub(super) struct Projects {
    answers: FxHashMap<Uuid, (bool, Instant)>,
}

impl Projects {
    /// Makes sure that every given project has an answer.
    pub(super) async fn learn(
        &mut self,
        postgres: &Postgres,
        projects: impl Iterator<Item = Uuid>,
    ) -> Result<(), StoreError> {
        let asked: FxHashSet<Uuid> = projects
            .filter(|project| self.answer(*project).is_none())
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let asked: Vec<Uuid> = asked.into_iter().collect();
        let rows = postgres
            .query(
                "looking up projects",
                "SELECT id FROM projects WHERE id = ANY($1)",
                &[(&asked, Type::UUID_ARRAY)],
            )
            .await?;
        let found: FxHashSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        if self.answers.len() + asked.len() > REMEMBERED {
            self.answers.clear();
        }
        let now = Instant::now();
        self.answers.extend(
            asked
                .into_iter()
                .map(|project| (project, (found.contains(&project), now))),
        );
        Ok(())
    }

    /// Whether a project exists; one without an answer does not.
    pub(super) fn exists(&self, project: Uuid) -> bool {
        self.answers.get(&project).is_some_and(|(exists, _)| *exists)
    }

    /// Forgets one, after a foreign key has said that it is gone.
    pub(super) fn forget_all(&mut self) {
        self.answers.clear();
    }

    fn answer(&self, project: Uuid) -> Option<bool> {
        let (exists, at) = self.answers.get(&project)?;
        let valid_for = if *exists { EXISTS_FOR } else { ABSENT_FOR };
        (at.elapsed() < valid_for).then_some(*exists)
    }
}
