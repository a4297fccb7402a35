//! A run under way: the cohorts of a level, some at a time, each to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cohort_query::{Reference, compile};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use uuid::Uuid;

use crate::runtime::retry::{self, GaveUp};
use crate::stores::StoreError;
use crate::{metrics, traces};

use super::blame::{About, about, without_query};
use super::context::{RunContext, Tables};
use super::members::Membership;
use super::outcome::{Outcome, Stopped};
use super::plan::Task;
use super::registry::{Cohort, HIGHEST_VERSION};

/// Cohorts of a level that are computed at the same time.
const CONCURRENT: usize = 4;

/// What became of one cohort.
enum Computed {
    Shown,
    /// A newer membership is shown already, or the cohort is gone.
    Outrun,
    Failed(StoreError),
    /// A store is away: no cohort is to blame.
    Away(StoreError),
    /// Another instance has the lock: it is its to show members.
    LockLost,
    /// PostgreSQL refuses to show the members that are written.
    Refused(StoreError),
    /// The drain's time is up.
    Abandoned,
}

pub(super) struct Run<'a> {
    tables: &'a Tables,
    context: RunContext<'a>,
    known: BTreeMap<Uuid, &'a Cohort>,
    /// Memberships that readers see.
    versions: BTreeMap<Uuid, u64>,
    /// Cohorts with members that may never be shown: what refers to them is left for the next run.
    unshown: &'a mut BTreeSet<Uuid>,
    now: i64,
    version: u64,
    pub(super) outcome: Outcome,
    /// Cohorts whose members of this version are certain never to be shown.
    pub(super) untaken: Vec<Uuid>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        tables: &'a Tables,
        context: RunContext<'a>,
        cohorts: &'a [Cohort],
        unshown: &'a mut BTreeSet<Uuid>,
        now: i64,
        version: u64,
    ) -> Self {
        Self {
            tables,
            context,
            known: cohorts.iter().map(|cohort| (cohort.id, cohort)).collect(),
            versions: cohorts.iter().filter_map(|c| Some((c.id, c.version?))).collect(),
            unshown,
            now,
            version,
            outcome: Outcome::default(),
            untaken: Vec::new(),
        }
    }

    /// Computes the cohorts of a level. Once the run has to stop, nothing new is started, but what runs is waited for, to
    /// the drain's limit: a step that is dropped may have written members that are never marked.
    pub(super) async fn level(&mut self, tasks: Vec<Task>) {
        let (tables, context, now) = (self.tables, self.context, self.now);
        if !context.lock.is_held().await {
            self.stop(Stopped::LockLost);
            return;
        }
        let mut ready = self.ready(tasks).into_iter();
        let mut running = FuturesUnordered::new();
        let mut under_way = BTreeMap::new();
        // Each query has its own limit: waiting for it is legitimate.
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            if context.task.is_draining() {
                self.stop(Stopped::Stopping);
            } else if context.lock.lost().is_cancelled() {
                self.stop(Stopped::LockLost);
            }
            while self.outcome.stopped.is_none() && running.len() < CONCURRENT {
                let Some((cohort, membership, query)) = ready.next() else {
                    break;
                };
                under_way.insert(cohort.id, membership);
                running.push(async move {
                    let began = std::time::Instant::now();
                    let span = traces::span(traces::COHORT);
                    span.note(traces::COHORT_ID, cohort.id.to_string());
                    let computing = compute(tables, context, &membership, &query, &cohort, now);
                    let computed = span.around(computing).await;
                    match &computed {
                        Computed::Shown => metrics::cohort_took(began.elapsed()),
                        Computed::Failed(error) | Computed::Away(error) | Computed::Refused(error) => {
                            span.failed(error);
                        }
                        Computed::Outrun | Computed::LockLost | Computed::Abandoned => {}
                    }
                    drop(span);
                    tracing::debug!(cohort = %cohort.id, took_ms = began.elapsed().as_millis() as u64, "cohort computed");
                    (cohort, computed)
                });
            }
            let goes_on = self.outcome.stopped.is_none();
            let next = tokio::select! {
                biased;
                () = context.task.shutdown.abandoned().cancelled() => {
                    self.stop(Stopped::Stopping);
                    self.unshown.extend(under_way.keys());
                    tables.members.stop(under_way.into_values()).await;
                    return;
                }
                next = running.next() => next,
                () = context.task.shutdown.draining().cancelled(), if goes_on => continue,
                () = context.lock.lost().cancelled(), if goes_on => continue,
                _ = ticks.tick() => {
                    context.task.pulse.beat();
                    continue;
                }
            };
            let Some((cohort, computed)) = next else { return };
            under_way.remove(&cohort.id);
            self.take(&cohort, computed).await;
            tables.progress.add_done();
        }
    }

    /// The queries of those cohorts that can be computed now.
    fn ready(&mut self, tasks: Vec<Task>) -> Vec<(Cohort, Membership, cohort_query::Query)> {
        let mut ready = Vec::new();
        for task in tasks {
            let (cohort, references) = (&task.cohort, task.definition.references());
            let is_missing = |to: &Uuid| self.reference(cohort, *to) == Some(Reference::Missing);
            if let Some(missing) = references.iter().copied().find(is_missing) {
                tracing::warn!(
                    project = %cohort.project, cohort = %cohort.id, name = cohort.name, %missing,
                    "cohort refers to one that does not exist: it counts as empty"
                );
            }
            let is_awaited =
                |to: &&Uuid| self.unshown.contains(*to) || self.reference(cohort, **to).is_none();
            if let Some(awaited) = references.iter().find(is_awaited) {
                tracing::info!(
                    project = %cohort.project, cohort = %cohort.id, name = cohort.name, %awaited,
                    "cohort waits for one that it refers to, which has no complete membership"
                );
                self.outcome.waiting.push(cohort.id);
                self.tables.progress.add_done();
                continue;
            }
            let reference = |to: Uuid| self.reference(cohort, to).unwrap_or(Reference::Missing);
            let query = compile(&task.definition, cohort.project.0, self.now, &reference);
            let membership = Membership {
                project: cohort.project,
                cohort: cohort.id,
                version: self.version,
            };
            ready.push((task.cohort, membership, query));
        }
        ready
    }

    async fn take(&mut self, cohort: &Cohort, computed: Computed) {
        match computed {
            Computed::Shown => {
                self.unshown.remove(&cohort.id);
                self.versions.insert(cohort.id, self.version);
                self.outcome.computed.push(cohort.id);
            }
            Computed::Outrun if cohort.version.is_some_and(|version| version >= HIGHEST_VERSION) => {
                self.untaken.push(cohort.id);
                let message = "membership_version is so high that no newer one can be shown: set it to NULL";
                self.failed(cohort, message.into()).await;
            }
            Computed::Outrun => {
                tracing::info!(cohort = %cohort.id, "a newer membership is shown already");
                self.unshown.insert(cohort.id);
                self.untaken.push(cohort.id);
            }
            Computed::Failed(error) => {
                // Without an answer it is not known what was written.
                if error.code.is_empty() {
                    self.untaken.push(cohort.id);
                }
                self.failed(cohort, error.message).await;
            }
            Computed::Refused(error) => {
                self.unshown.insert(cohort.id);
                self.untaken.push(cohort.id);
                self.failed(cohort, error.message).await;
            }
            Computed::Away(error) => {
                self.unshown.insert(cohort.id);
                self.stop(Stopped::Away(error));
            }
            Computed::LockLost => {
                self.unshown.insert(cohort.id);
                self.stop(Stopped::LockLost);
            }
            Computed::Abandoned => {
                self.unshown.insert(cohort.id);
                self.stop(Stopped::Stopping);
            }
        }
    }

    /// The first reason is the one that counts.
    fn stop(&mut self, why: Stopped) {
        self.outcome.stopped.get_or_insert(why);
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

    pub(super) async fn failed(&mut self, cohort: &Cohort, message: String) {
        (self.context.tell)(cohort, &message);
        if let Err(error) = self.tables.registry.failed(cohort, &message).await {
            tracing::warn!(cohort = %cohort.id, %error, "the failure could not be recorded");
        }
        self.tables.progress.add_failed();
        self.outcome.failed.push((cohort.id, message));
    }
}

/// Writes a cohort's members and shows them.
async fn compute(
    tables: &Tables,
    context: RunContext<'_>,
    membership: &Membership,
    query: &cohort_query::Query,
    cohort: &Cohort,
    now: i64,
) -> Computed {
    if let Err(error) = tables.members.compute(membership, query).await {
        let is_away = match about(&error) {
            About::Store => true,
            About::Query => false,
            About::Unknown => {
                tables.members.stop(std::iter::once(*membership)).await;
                !tables.members.answers().await
            }
        };
        let error = without_query(error);
        return if is_away {
            Computed::Away(error)
        } else {
            Computed::Failed(error)
        };
    }
    // Attempts may go on for a while: before each, the members have to be ours to show still.
    let mark = async || {
        if !context.lock.is_held().await {
            return Ok(None);
        }
        tables.registry.mark(cohort, membership.version).await.map(Some)
    };
    let within_presets = context.task.within_presets();
    match within_presets.retry(retry::POSTGRES, mark).await {
        Ok(Some(true)) => {}
        Ok(Some(false)) => return Computed::Outrun,
        Ok(None) => return Computed::LockLost,
        Err(GaveUp::Poison(error)) => return Computed::Refused(error),
        Err(GaveUp::Away(error) | GaveUp::TakesNone(error)) => return Computed::Away(error),
        Err(GaveUp::Abandoned(_)) => return Computed::Abandoned,
    }
    if let Err(error) = tables.members.record_size(membership, now).await {
        tracing::warn!(cohort = %membership.cohort, %error, "a cohort's size of today was not recorded");
    }
    Computed::Shown
}
