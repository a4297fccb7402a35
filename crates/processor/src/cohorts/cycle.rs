//! One run over the cohorts: under the lock, level by level, each cohort by itself.
//!
//! Members are written at the run's version, then the cohort is marked with it, then members of older versions go. Until
//! the mark readers see the old membership; whatever ends a run in between, the next one begins with the same cohort.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cohort_query::{Reference, compile};
use futures::StreamExt;
use uuid::Uuid;

use crate::config::CohortConfig;
use crate::runtime::lock::Lock;
use crate::runtime::pulse::Pulse;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::shutdown::Shutdown;
use crate::stores::{ClickHouse, Postgres, RedisConnection, StoreError};

use super::members::{LONGEST_QUERY, Members, Membership};
use super::plan::{Selection, Task, plan};
use super::progress::Progress;
use super::registry::{Cohort, Registry};

/// One instance at a time.
pub const LOCK: &str = "cohort_membership:lock";
/// Others wait this long for one that has died.
const LOCK_TTL: Duration = Duration::from_mins(5);
/// Cohorts of a level that are computed at the same time.
const CONCURRENT: usize = 4;
/// Members without a cohort are looked for in every sixth run.
const ORPHANS_EVERY: u64 = 6;

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Cohorts whose members are new.
    pub computed: Vec<Uuid>,
    /// Cohorts that failed, and why.
    pub failed: Vec<(Uuid, String)>,
    /// Cohorts that refer to one that was never computed.
    pub waiting: Vec<Uuid>,
    /// Why it ended before its end.
    pub stopped: Option<Stopped>,
    /// How long it took.
    pub took: Duration,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// Somebody else computes.
    #[error("another instance computes cohorts: its lock is `{LOCK}`")]
    Locked,
    /// The lock was lost.
    #[error("the lock was lost: what was not finished is computed by whoever has it")]
    LockLost,
    /// A store is away. No cohort is to blame.
    #[error(transparent)]
    Away(StoreError),
    /// The process stops.
    #[error("stopping")]
    Stopping,
}

impl Outcome {
    /// Says what is worth saying.
    pub fn log(&self) {
        match &self.stopped {
            Some(Stopped::Locked | Stopped::Stopping) => {}
            Some(stopped) => {
                tracing::warn!(reason = %stopped, computed = self.computed.len(), "cohort run ended early");
            }
            None if self.computed.is_empty() && self.failed.is_empty() => {}
            None => tracing::info!(
                computed = self.computed.len(),
                failed = self.failed.len(),
                waiting = self.waiting.len(),
                took_ms = self.took.as_millis() as u64,
                "cohort memberships computed"
            ),
        }
    }
}

/// What became of one cohort.
enum Computed {
    Shown,
    /// A newer membership is shown already, or the cohort is gone.
    Outrun,
    Failed(StoreError),
    /// Somebody else has the lock: it is theirs to show members.
    LockLost,
    /// Its members are written, but not shown.
    Unmarked(GaveUp<StoreError>),
}

/// Computes cohorts.
pub struct Cycle {
    registry: Registry,
    members: Members,
    redis: RedisConnection,
    settings: CohortConfig,
    progress: Progress,
    runs: u64,
}

impl Cycle {
    /// Over these stores.
    pub fn new(
        postgres: Postgres,
        clickhouse: &ClickHouse,
        redis: RedisConnection,
        settings: CohortConfig,
    ) -> Self {
        Self {
            registry: Registry { postgres },
            members: Members::new(clickhouse, &settings),
            redis,
            settings,
            progress: Progress::default(),
            runs: 0,
        }
    }

    /// How far the run under way is.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// One run. `progress` is told of each cohort that is done.
    ///
    /// # Errors
    /// When the cohorts could not be read, or Redis does not say whether the lock is free.
    pub async fn run(
        &mut self,
        selection: &Selection,
        pulse: &Pulse,
        shutdown: &Shutdown,
        progress: impl Fn(&Cohort),
    ) -> Result<Outcome, StoreError> {
        let began = std::time::Instant::now();
        let Some(lock) = Lock::acquire(&self.redis, LOCK, LOCK_TTL).await? else {
            return Ok(Outcome {
                stopped: Some(Stopped::Locked),
                ..Outcome::default()
            });
        };
        self.runs += 1;
        let outcome = self.under(&lock, selection, pulse, shutdown, progress).await;
        if let Err(error) = lock.release().await {
            tracing::debug!(%error, "the cohorts' lock could not be released: it ends by itself");
        }
        let mut outcome = outcome?;
        outcome.took = began.elapsed();
        Ok(outcome)
    }

    async fn under(
        &self,
        lock: &Lock,
        selection: &Selection,
        pulse: &Pulse,
        shutdown: &Shutdown,
        progress: impl Fn(&Cohort),
    ) -> Result<Outcome, StoreError> {
        let cohorts = self.registry.load().await?;
        let plan = plan(&cohorts, selection, &self.settings);
        let now = jiff::Timestamp::now().as_millisecond();
        let tasks: usize = plan.levels.iter().map(Vec::len).sum();
        let _ended = self.progress.begin(plan.failures.len() + tasks, now);
        let shown = cohorts.iter().filter_map(|cohort| cohort.version).max();
        let mut run = Run {
            cycle: self,
            known: cohorts.iter().map(|cohort| (cohort.id, cohort)).collect(),
            versions: cohorts.iter().filter_map(|c| Some((c.id, c.version?))).collect(),
            unshown: BTreeSet::new(),
            now,
            version: now.cast_unsigned().max(shown.map_or(0, |version| version + 1)),
            outcome: Outcome::default(),
        };
        for (cohort, message) in plan.failures {
            run.failed(&cohort, message).await;
            self.progress.add_done();
            progress(&cohort);
        }
        for level in plan.levels {
            if !lock.is_held().await {
                run.outcome.stopped = Some(Stopped::LockLost);
                break;
            }
            run.level(level, lock, pulse, shutdown, &progress).await;
            if run.outcome.stopped.is_some() {
                break;
            }
        }
        let Run { version, outcome, .. } = run;
        pulse.alive_for(2 * LONGEST_QUERY + Duration::from_mins(2));
        if !outcome.computed.is_empty()
            && let Err(error) = self.members.remove_older(&outcome.computed, version).await
        {
            tracing::warn!(%error, "members of older versions stay until the next run");
        }
        if self.runs.is_multiple_of(ORPHANS_EVERY) && outcome.stopped.is_none() {
            self.remove_orphans().await;
        }
        Ok(outcome)
    }

    /// Removes members of cohorts that are gone, or static now. That there are no cohorts at all is believed only when it
    /// is said twice.
    async fn remove_orphans(&self) {
        let removed = async {
            let having = self.members.cohorts().await?;
            let mut dynamic = self.registry.dynamic().await?;
            if dynamic.is_empty() {
                dynamic = self.registry.dynamic().await?;
            }
            let orphans: Vec<Uuid> = having.into_iter().filter(|id| !dynamic.contains(id)).collect();
            if !orphans.is_empty() {
                self.members.remove(&orphans).await?;
            }
            Ok::<_, StoreError>(orphans.len())
        };
        match removed.await {
            Ok(0) => {}
            Ok(cohorts) => tracing::info!(cohorts, "members of cohorts that are gone were removed"),
            Err(error) => tracing::warn!(%error, "members of cohorts that are gone stay until later"),
        }
    }

    async fn compute(
        &self,
        membership: &Membership,
        query: &cohort_query::Query,
        now: i64,
        (lock, pulse, shutdown): (&Lock, &Pulse, &Shutdown),
    ) -> Computed {
        if let Err(error) = self.members.compute(membership, query).await {
            return Computed::Failed(error);
        }
        if !lock.is_held().await {
            return Computed::LockLost;
        }
        let mark = || self.registry.mark(membership.cohort, membership.version);
        match retry::persist(retry::POSTGRES, pulse, &shutdown.within_presets(), mark).await {
            Ok(true) => {}
            Ok(false) => return Computed::Outrun,
            Err(gave_up) => return Computed::Unmarked(gave_up),
        }
        if let Err(error) = self.members.record_size(membership, now).await {
            tracing::warn!(cohort = %membership.cohort, %error, "a cohort's size of today was not recorded");
        }
        Computed::Shown
    }
}

/// A run under way.
struct Run<'a> {
    cycle: &'a Cycle,
    known: BTreeMap<Uuid, &'a Cohort>,
    /// Memberships that readers see.
    versions: BTreeMap<Uuid, u64>,
    /// Cohorts with members that are not shown: what refers to them is left for the next run.
    unshown: BTreeSet<Uuid>,
    now: i64,
    version: u64,
    outcome: Outcome,
}

impl Run<'_> {
    async fn level(
        &mut self,
        tasks: Vec<Task>,
        lock: &Lock,
        pulse: &Pulse,
        shutdown: &Shutdown,
        progress: &impl Fn(&Cohort),
    ) {
        let cycle = self.cycle;
        let mut ready = Vec::new();
        for task in tasks {
            let references = task.definition.references();
            if references.iter().any(|to| self.unshown.contains(to)) {
                self.outcome.waiting.push(task.cohort.id);
                cycle.progress.add_done();
                continue;
            }
            let is_missing = |to: &Uuid| self.reference(&task.cohort, *to) == Some(Reference::Missing);
            if let Some(missing) = references.iter().copied().find(is_missing) {
                tracing::warn!(
                    project = %task.cohort.project, cohort = %task.cohort.id, name = task.cohort.name, %missing,
                    "cohort refers to one that does not exist: it counts as empty"
                );
            }
            if references
                .iter()
                .any(|to| self.reference(&task.cohort, *to).is_none())
            {
                tracing::debug!(cohort = %task.cohort.id, "cohort waits for one that was never computed");
                self.outcome.waiting.push(task.cohort.id);
                cycle.progress.add_done();
                continue;
            }
            let reference = |to: Uuid| self.reference(&task.cohort, to).unwrap_or(Reference::Missing);
            let query = compile(&task.definition, task.cohort.project, self.now, &reference);
            let membership = Membership {
                project: task.cohort.project,
                cohort: task.cohort.id,
                version: self.version,
            };
            ready.push((task.cohort, membership, query));
        }
        let now = self.now;
        let mut computing = futures::stream::iter(ready)
            .map(async |(cohort, membership, query)| {
                let began = std::time::Instant::now();
                let computed = cycle.compute(&membership, &query, now, (lock, pulse, shutdown)).await;
                tracing::debug!(cohort = %cohort.id, took_ms = began.elapsed().as_millis() as u64, "cohort computed");
                (cohort, computed)
            })
            .buffer_unordered(CONCURRENT);
        // Each query has its own limit: waiting for it is legitimate.
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            let next = tokio::select! {
                biased;
                () = shutdown.draining().cancelled() => {
                    self.outcome.stopped = Some(Stopped::Stopping);
                    return;
                }
                () = lock.lost().cancelled() => {
                    self.outcome.stopped = Some(Stopped::LockLost);
                    return;
                }
                next = computing.next() => next,
                _ = ticks.tick() => {
                    pulse.beat();
                    continue;
                }
            };
            let Some((cohort, computed)) = next else { return };
            match computed {
                Computed::Shown => {
                    self.versions.insert(cohort.id, self.version);
                    self.outcome.computed.push(cohort.id);
                }
                Computed::Outrun => {
                    tracing::info!(cohort = %cohort.id, "a newer membership is shown already");
                }
                Computed::LockLost => {
                    self.outcome.stopped = Some(Stopped::LockLost);
                    return;
                }
                Computed::Failed(error) if is_away(&error) => {
                    self.outcome.stopped = Some(Stopped::Away(error));
                    return;
                }
                Computed::Failed(error) => self.failed(&cohort, said(&error)).await,
                Computed::Unmarked(GaveUp::Poison(error)) => {
                    self.unshown.insert(cohort.id);
                    self.failed(&cohort, said(&error)).await;
                }
                Computed::Unmarked(GaveUp::Away(error)) => {
                    self.outcome.stopped = Some(Stopped::Away(error));
                    return;
                }
                Computed::Unmarked(GaveUp::Abandoned(_)) => {
                    self.outcome.stopped = Some(Stopped::Stopping);
                    return;
                }
            }
            cycle.progress.add_done();
            progress(&cohort);
        }
    }

    /// What a cohort's reference means now; `None` when that cohort was never computed.
    fn reference(&self, from: &Cohort, to: Uuid) -> Option<Reference> {
        match self.known.get(&to).filter(|to| to.project == from.project) {
            None => Some(Reference::Missing),
            Some(to) if to.is_static => Some(Reference::Static),
            Some(to) => {
                let version = *self.versions.get(&to.id)?;
                Some(Reference::Dynamic { version })
            }
        }
    }

    async fn failed(&mut self, cohort: &Cohort, message: String) {
        tracing::warn!(
            project = %cohort.project, cohort = %cohort.id, name = cohort.name, error = message,
            "cohort could not be computed: readers keep seeing its last membership"
        );
        if let Err(error) = self.cycle.registry.failed(cohort.id, &message).await {
            tracing::warn!(cohort = %cohort.id, %error, "the failure could not be recorded");
        }
        self.cycle.progress.add_failed();
        self.outcome.failed.push((cohort.id, message));
    }
}

/// Whether an error is about the store rather than about the query: the engine gave no code.
fn is_away(error: &StoreError) -> bool {
    error.code.is_empty()
}

/// The engine's own words, without the query that they may repeat.
fn said(error: &StoreError) -> String {
    const QUERY_FOLLOWS: [&str; 5] = [
        ": In scope",
        " In scope",
        ": while executing",
        ": While executing",
        "(in query",
    ];
    let message = &error.message;
    let end = QUERY_FOLLOWS.iter().filter_map(|mark| message.find(mark)).min();
    message[..end.unwrap_or(message.len())].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use crate::stores::Store;

    use super::*;

    #[test]
    fn an_error_is_told_without_the_query() {
        let error = |message: &str| {
            said(&StoreError::new(
                Store::ClickHouse,
                "test",
                false,
                "47".into(),
                message.to_owned(),
            ))
        };
        assert_eq!(
            error(
                "Code: 47. DB::Exception: Unknown identifier `x`: In scope SELECT x FROM y. (UNKNOWN_IDENTIFIER)"
            ),
            "Code: 47. DB::Exception: Unknown identifier `x`"
        );
        assert_eq!(
            error("Code: 241. DB::Exception: too much"),
            "Code: 241. DB::Exception: too much"
        );
    }
}
