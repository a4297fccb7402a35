//! Which projects exist: an event of one that does not is refused alone, before a foreign key fails a statement.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;
use rustc_hash::FxHashSet;
use tokio_postgres::types::Type;

use crate::event::decode::refuse;
use crate::event::{Batch, ProjectId, Reason};
use crate::metrics;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::task::Task;
use crate::stores::{Postgres, StoreError};

/// How long a project is taken to exist without asking again.
const EXISTS_FOR: Duration = Duration::from_mins(5);
/// Projects that are remembered to exist; one that falls out is asked for again.
const REMEMBERED: usize = 100_000;

/// How long events are counted before it is judged how many were of unknown projects.
const PERIOD: Duration = Duration::from_mins(2);
/// Fewer events in a period say nothing.
const LEAST_EVENTS: usize = 1_000;
/// From this share on, in percent, the database is more likely to be wrong than the clients.
const NEARLY_ALL: usize = 90;

/// Found and emptiness come from one statement, so from one moment.
const LOOK_UP: &str =
    "SELECT array(SELECT id FROM projects WHERE id = ANY($1)), EXISTS (SELECT FROM projects)";

/// Remembers which projects exist. One that does not exist is never remembered: made-up ids, in whatever number, push out
/// nothing, and a project that is created is known at its next event.
pub(crate) struct Projects {
    existing: Cache<ProjectId, Instant>,
}

impl Default for Projects {
    fn default() -> Self {
        Self::remembering(REMEMBERED)
    }
}

impl Projects {
    fn remembering(projects: usize) -> Self {
        Self {
            existing: Cache::new(projects),
        }
    }

    /// Turns events of projects that do not exist into rejects.
    ///
    /// # Errors
    /// [`GaveUp`] when PostgreSQL is away.
    pub(crate) async fn check(
        &mut self,
        postgres: &Postgres,
        batch: &mut Batch,
        task: &Task,
    ) -> Result<(), GaveUp<StoreError>> {
        let asked: FxHashSet<ProjectId> = batch.events.iter().map(|e| e.project).collect();
        let projects = tokio::sync::Mutex::new(self);
        let unknown = task
            .retry(retry::POSTGRES, || async {
                projects.lock().await.unknown_among(postgres, &asked).await
            })
            .await?;
        if unknown.is_empty() {
            return Ok(());
        }
        let events = std::mem::take(&mut batch.events);
        let (refused, known): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|e| unknown.contains(&e.project));
        batch.events = known;
        let refused: Vec<_> = refused
            .iter()
            .map(|e| refuse(e.source, batch.entry(e), Reason::UnknownProject))
            .collect();
        batch.rejects.extend(refused);
        batch
            .warnings
            .retain(|warning| !unknown.contains(&warning.project));
        Ok(())
    }

    /// Those of the given projects that do not exist.
    ///
    /// # Errors
    /// PostgreSQL's. Also when some are unknown while no project exists at all: then the database is wrong, emptied or half
    /// restored, and no event is to blame.
    async fn unknown_among(
        &mut self,
        postgres: &Postgres,
        projects: &FxHashSet<ProjectId>,
    ) -> Result<FxHashSet<ProjectId>, StoreError> {
        let asked = self.not_remembered(projects, Instant::now());
        if asked.is_empty() {
            return Ok(FxHashSet::default());
        }
        let during = "looking up projects";
        let rows = postgres
            .query(during, LOOK_UP, &[(&asked, Type::UUID_ARRAY)])
            .await?;
        let (found, any): (Vec<ProjectId>, bool) = rows
            .first()
            .map_or((Vec::new(), false), |row| (row.get(0), row.get(1)));
        metrics::no_project_exists(!any);
        if !any {
            return Err(StoreError::no_project(during));
        }
        Ok(self.learn(asked, &found, Instant::now()))
    }

    /// Forgets all, after a foreign key has said that one is gone.
    pub(crate) fn forget_all(&mut self) {
        self.existing.clear();
    }

    fn not_remembered(&self, projects: &FxHashSet<ProjectId>, now: Instant) -> Vec<ProjectId> {
        let is_remembered = |project: &ProjectId| {
            let since = self.existing.get(project);
            since.is_some_and(|since| now.saturating_duration_since(*since) < EXISTS_FOR)
        };
        projects
            .iter()
            .copied()
            .filter(|project| !is_remembered(project))
            .collect()
    }

    /// What was not found of what was asked.
    fn learn(&mut self, asked: Vec<ProjectId>, found: &[ProjectId], now: Instant) -> FxHashSet<ProjectId> {
        let mut unknown: FxHashSet<ProjectId> = asked.into_iter().collect();
        for project in found {
            unknown.remove(project);
            self.existing.insert(*project, now);
        }
        unknown
    }
}

/// The traffic of all batches of this process.
static TRAFFIC: Mutex<Option<Traffic>> = Mutex::new(None);

/// Counts a batch: its events, and those of them whose project is unknown. Says once a period when these are nearly all.
pub(crate) fn count(events: usize, unknown: usize) {
    count_at(events, unknown, Instant::now());
}

fn count_at(events: usize, unknown: usize, now: Instant) {
    let mut traffic = TRAFFIC.lock().unwrap_or_else(PoisonError::into_inner);
    let traffic = traffic.get_or_insert_with(|| Traffic::since(now));
    if let Some(judged) = traffic.count(events, unknown, now) {
        metrics::mostly_unknown_projects(judged.is_nearly_all);
        if judged.is_nearly_all {
            tracing::error!(
                events = judged.events,
                of_unknown_projects = judged.unknown,
                minutes = PERIOD.as_secs() / 60,
                "nearly all events are rejected because their project does not exist: is DATABASE_URL the right database?"
            );
        }
    }
}

/// Events of a period.
#[derive(Debug)]
struct Traffic {
    since: Instant,
    events: usize,
    unknown: usize,
}

/// A period that is over.
#[derive(Debug, PartialEq, Eq)]
struct Judged {
    events: usize,
    unknown: usize,
    is_nearly_all: bool,
}

impl Traffic {
    fn since(now: Instant) -> Self {
        Self {
            since: now,
            events: 0,
            unknown: 0,
        }
    }

    /// Adds a batch; the judgement when its period is over with it.
    fn count(&mut self, events: usize, unknown: usize, now: Instant) -> Option<Judged> {
        self.events += events;
        self.unknown += unknown;
        if now.saturating_duration_since(self.since) < PERIOD {
            return None;
        }
        let Self { events, unknown, .. } = std::mem::replace(self, Self::since(now));
        let is_nearly_all = events >= LEAST_EVENTS && unknown * 100 >= events * NEARLY_ALL;
        Some(Judged {
            events,
            unknown,
            is_nearly_all,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn project(n: u16) -> ProjectId {
        ProjectId(Uuid::from_u128(u128::from(n)))
    }

    proptest! {
        /// Projects below 40 exist; the memory holds fewer than that.
        #[test]
        fn whatever_came_before_a_batch_is_answered_as_the_table_has_it(
            batches in prop::collection::vec(prop::collection::hash_set(0u16..200, 1..60), 1..40),
            room in 1usize..30,
        ) {
            let mut projects = Projects::remembering(room);
            let now = Instant::now();
            for batch in batches {
                let batch: FxHashSet<ProjectId> = batch.into_iter().map(project).collect();
                let asked = projects.not_remembered(&batch, now);
                let exists = |id: &ProjectId| *id < project(40);
                let found: Vec<ProjectId> = asked.iter().copied().filter(exists).collect();
                let unknown = projects.learn(asked, &found, now);
                let expected: FxHashSet<ProjectId> = batch.iter().copied().filter(|id| !exists(id)).collect();
                prop_assert_eq!(unknown, expected);
            }
        }
    }

    #[test]
    fn a_number_says_while_nearly_all_events_are_of_unknown_projects() {
        metrics::registry::install().unwrap();
        let said = || {
            let families = metrics::registry::snapshot();
            let is_it = |name: &str| name == "qurvo_processor_mostly_unknown_projects";
            let family = families.into_iter().find(|family| is_it(family.metric.name))?;
            Some(family.series[0].value.clone())
        };
        let start = Instant::now();
        count_at(1_000, 950, start);
        assert!(said().is_none(), "the period is not over");
        count_at(200, 190, start + PERIOD);
        assert_eq!(said(), Some(metrics::registry::Value::Gauge(1.0)));
        count_at(200, 0, start + PERIOD * 2);
        assert_eq!(said(), Some(metrics::registry::Value::Gauge(0.0)));
    }

    #[test]
    fn more_projects_than_are_remembered_push_each_other_out_one_by_one() {
        let mut projects = Projects::remembering(1_000);
        let now = Instant::now();
        for n in 0..3_000 {
            let one = [project(n)];
            projects.learn(one.to_vec(), &one, now);
        }
        let all: FxHashSet<ProjectId> = (0..3_000).map(project).collect();
        let remembered = all.len() - projects.not_remembered(&all, now).len();
        assert!((900..=1_000).contains(&remembered), "{remembered} are remembered");
    }

    #[test]
    fn one_is_asked_for_again_when_its_time_is_over_and_after_all_were_forgotten() {
        let mut projects = Projects::default();
        let now = Instant::now();
        let one: FxHashSet<ProjectId> = [project(1)].into_iter().collect();
        let learn = |projects: &mut Projects| projects.learn(vec![project(1)], &[project(1)], now);
        assert!(learn(&mut projects).is_empty());
        assert!(projects.not_remembered(&one, now).is_empty());
        assert_eq!(projects.not_remembered(&one, now + EXISTS_FOR).len(), 1);
        projects.forget_all();
        assert_eq!(projects.not_remembered(&one, now).len(), 1);
    }

    #[test]
    fn traffic_is_judged_once_a_period() {
        let start = Instant::now();
        let mut traffic = Traffic::since(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(traffic.count(900, 900, at(60)), None);
        let judged = |events, unknown, is_nearly_all| {
            Some(Judged {
                events,
                unknown,
                is_nearly_all,
            })
        };
        assert_eq!(traffic.count(100, 0, at(120)), judged(1_000, 900, true));
        assert_eq!(traffic.count(1_000, 899, at(200)), None);
        assert_eq!(traffic.count(0, 0, at(240)), judged(1_000, 899, false));
        assert_eq!(
            traffic.count(999, 999, at(400)),
            judged(999, 999, false),
            "too few"
        );
    }
}
