//! One run over the cohorts: under the lock, level by level, each cohort by itself.
//!
//! Members are written at the run's version, then the cohort is marked with it, then members of older versions go. Until
//! the mark readers see the old membership; whatever ends a run in between, the next one begins with the same cohort.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use crate::config::CohortConfig;
use crate::runtime::lock::Lock;
use crate::runtime::task::Task;
use crate::stores::{ClickHouse, Postgres, Redis, StoreError};

use super::context::{RunContext, Tables};
use super::members::{LONGEST_QUERY, Members, Named};
use super::outcome::{LOCK, Outcome, Stopped};
use super::plan::{Selection, plan};
use super::progress::Progress;
use super::registry::{Cohort, HIGHEST_VERSION, Registry};
use super::run::Run;

/// Others wait this long for one that has died.
const LOCK_TTL: Duration = Duration::from_mins(5);
/// Members without a cohort are looked for in the first run of a process, and in every sixth after it.
const ORPHANS_EVERY: u64 = 6;

/// Computes cohorts.
pub struct Cycle {
    tables: Tables,
    redis: Redis,
    settings: CohortConfig,
    memory: Memory,
}

/// What one run leaves to the next.
#[derive(Default)]
struct Memory {
    runs: u64,
    /// Cohorts with members that were written but perhaps never marked. Merges take a person's newest row only, so what
    /// readers see of such a cohort may shrink until it is computed again: it is due whatever else holds it back.
    unshown: BTreeSet<Uuid>,
    /// PostgreSQL said last time that there are no dynamic cohorts at all.
    said_empty: bool,
}

impl Cycle {
    /// Over these stores.
    pub fn new(postgres: Postgres, clickhouse: &ClickHouse, redis: Redis, settings: CohortConfig) -> Self {
        Self {
            tables: Tables {
                registry: Registry { postgres },
                members: Members::new(clickhouse, &settings),
                progress: Progress::default(),
            },
            redis,
            settings,
            memory: Memory::default(),
        }
    }

    /// How far the run under way is.
    pub fn progress(&self) -> Progress {
        self.tables.progress.clone()
    }

    /// One run. `tell` is told of each cohort that fails for a reason of its own, and why.
    ///
    /// # Errors
    /// When the cohorts could not be read, or Redis does not say whether the lock is free.
    pub async fn run(
        &mut self,
        selection: &Selection,
        task: &Task,
        tell: impl Fn(&Cohort, &str) + Sync,
    ) -> Result<Outcome, StoreError> {
        let began = std::time::Instant::now();
        let Some(lock) = Lock::acquire(&self.redis, LOCK, LOCK_TTL).await? else {
            return Ok(Outcome::stopped(Stopped::Locked));
        };
        let mut memory = std::mem::take(&mut self.memory);
        let context = RunContext {
            lock: &lock,
            task,
            tell: &tell,
        };
        let outcome = self.compute(context, &mut memory, selection).await;
        self.memory = memory;
        if let Err(error) = lock.release().await {
            tracing::debug!(%error, "the cohorts' lock could not be released: it ends by itself");
        }
        let mut outcome = outcome?;
        outcome.took = began.elapsed();
        Ok(outcome)
    }

    async fn compute(
        &self,
        context: RunContext<'_>,
        memory: &mut Memory,
        selection: &Selection,
    ) -> Result<Outcome, StoreError> {
        let look_for_orphans = memory.runs.is_multiple_of(ORPHANS_EVERY);
        memory.runs += 1;
        context.task.pulse.alive_for(Duration::from_mins(1));
        let cohorts = self.tables.registry.load().await?;
        memory
            .unshown
            .retain(|id| cohorts.iter().any(|cohort| cohort.id == *id && !cohort.is_static));
        let plan = plan(&cohorts, selection, &self.settings, &memory.unshown);
        let now = self.tables.registry.now_ms().await?;
        let tasks: usize = plan.levels.iter().map(Vec::len).sum();
        // Only this process looks at it, by its own clock.
        let began = jiff::Timestamp::now().as_millisecond();
        let _ended = self.tables.progress.begin(plan.failures.len() + tasks, began);
        let version = if tasks > 0 || look_for_orphans {
            context.task.pulse.alive_for(LONGEST_QUERY);
            let tasks = plan.levels.iter().flatten();
            let due: Vec<Named> = tasks.map(|task| (task.cohort.project, task.cohort.id)).collect();
            // Members without a cohort are older than the version of the run that looks for them.
            let of = (!look_for_orphans).then_some(due.as_slice());
            let Some(version) = context.unless_abandoned(self.version(&cohorts, of, now)).await else {
                return Ok(Outcome::stopped(Stopped::Stopping));
            };
            version?
        } else {
            0
        };
        let mut run = Run::new(&self.tables, context, &cohorts, &mut memory.unshown, now, version);
        run.outcome.failed.extend(plan.known_failures);
        for (cohort, message) in plan.failures {
            if context.task.is_draining() {
                break;
            }
            context.task.pulse.alive_for(Duration::from_mins(1));
            run.failed(&cohort, message).await;
            self.tables.progress.add_done();
        }
        for level in plan.levels {
            run.level(level).await;
            if run.outcome.stopped.is_some() {
                break;
            }
        }
        let Run { outcome, untaken, .. } = run;
        context
            .task
            .pulse
            .alive_for(2 * LONGEST_QUERY + Duration::from_mins(2));
        let _given_up = context
            .unless_abandoned(self.clean_up(context, &cohorts, &outcome, &untaken, version))
            .await;
        let is_stopping = outcome.stopped.is_some() || context.task.is_draining();
        if look_for_orphans && !is_stopping {
            context
                .task
                .pulse
                .alive_for(2 * LONGEST_QUERY + Duration::from_mins(3));
            let removing = self.remove_orphans(context, &mut memory.said_empty, version);
            let _given_up = context.unless_abandoned(removing).await;
        }
        Ok(outcome)
    }

    /// Above everything there is: what is marked, what was written without ever being marked, and what an instance wrote
    /// whose clock is ahead. Above a version that leaves no room there is nothing: that cohort's members cannot be shown,
    /// and the others' can.
    async fn version(&self, cohorts: &[Cohort], of: Option<&[Named]>, now: i64) -> Result<u64, StoreError> {
        let shown = cohorts.iter().filter_map(|cohort| cohort.version);
        let written = self.tables.members.newest(of).await?;
        let versions = shown
            .chain([written])
            .filter(|version| *version < HIGHEST_VERSION);
        let above = versions.max().unwrap_or(0) + 1;
        Ok(now.max(0).cast_unsigned().max(above))
    }

    /// Removes members that no reader sees.
    async fn clean_up(
        &self,
        context: RunContext<'_>,
        cohorts: &[Cohort],
        outcome: &Outcome,
        untaken: &[Uuid],
        version: u64,
    ) {
        let named = |ids: &[Uuid]| -> Vec<Named> {
            let ids: BTreeSet<&Uuid> = ids.iter().collect();
            let of = cohorts.iter().filter(|cohort| ids.contains(&cohort.id));
            of.map(|cohort| (cohort.project, cohort.id)).collect()
        };
        if !outcome.computed.is_empty()
            && context.lock.is_held().await
            && let Err(error) = self
                .tables
                .members
                .remove_older(&named(&outcome.computed), version)
                .await
        {
            tracing::warn!(%error, "members of older versions stay until the next run");
        }
        if !untaken.is_empty()
            && context.lock.is_held().await
            && let Err(error) = self.tables.members.remove_version(&named(untaken), version).await
        {
            tracing::warn!(%error, "members that were not marked stay until the next run");
        }
    }

    /// Removes members of cohorts that are gone, or static now. That there are no cohorts at all is believed only when it
    /// is still so the next time.
    async fn remove_orphans(&self, context: RunContext<'_>, said_empty: &mut bool, version: u64) {
        let removed = async {
            let having = self.tables.members.cohorts().await?;
            let dynamic = self.tables.registry.dynamic().await?;
            let is_believed = !dynamic.is_empty() || *said_empty;
            *said_empty = dynamic.is_empty();
            let orphans = having.into_iter().filter(|(_, id)| !dynamic.contains(id));
            let orphans: Vec<Named> = orphans.collect();
            if orphans.is_empty() || !is_believed || !context.lock.is_held().await {
                return Ok(0);
            }
            self.tables.members.remove_older(&orphans, version).await?;
            Ok::<_, StoreError>(orphans.len())
        };
        match removed.await {
            Ok(0) => {}
            Ok(cohorts) => tracing::info!(cohorts, "members of cohorts that are gone were removed"),
            Err(error) => tracing::warn!(%error, "members of cohorts that are gone stay until later"),
        }
    }
}
