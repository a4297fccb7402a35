//! The identity stage: one batch after another, in order, from what is remembered where that suffices and through one
//! PostgreSQL transaction where anything is new or changes.

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use crate::event::{Batch, Field, Key, KeyRef, PersonId, Reason, Reject, Warning, WarningKind};
use crate::runtime::failed_alone::FailedAlone;
use crate::runtime::retry::GaveUp;
use crate::runtime::task::Task;
use crate::stores::{Postgres, Redis, StoreError};

use super::commit::attempt::Committer;
use super::commit::committed::Committed;
use super::decision::properties::Limits;
use super::decision::rules::Rules;
use super::known::cache::PersonCache;
use super::known::projects;
use super::known::recall::Recall;
use super::moved::Moved;
use super::person_key::PersonKey;

/// A batch whose events all have their person, committed in PostgreSQL.
#[derive(Debug)]
pub struct Resolved {
    /// The batch.
    pub batch: Batch,
    /// The person of each event's row.
    pub persons: Vec<PersonId>,
    /// Distinct ids that moved: to be published before the rows.
    pub moved: Vec<Moved>,
    /// Person keys to set where absent: to be taken out as soon as it is handed on.
    pub person_keys: Vec<PersonKey>,
    /// PostgreSQL named their persons then or later.
    pub asked_at: Instant,
    /// Events that a store fails on although it takes their neighbours: out of the batch, to be set aside one by one.
    pub failed_alone: Vec<FailedAlone>,
    /// Whether PostgreSQL was written to: it has shown that it takes work.
    pub wrote: bool,
}

impl Resolved {
    /// A batch without events, which asks nothing of identity.
    pub(crate) fn without_events(batch: Batch) -> Self {
        Self {
            batch,
            persons: Vec::new(),
            moved: Vec::new(),
            person_keys: Vec::new(),
            asked_at: Instant::now(),
            failed_alone: Vec::new(),
            wrote: false,
        }
    }

    /// Appends the batch that was resolved right after this one. Neither has events that failed alone.
    pub(crate) fn join(&mut self, next: Self) {
        self.batch.join(next.batch);
        self.persons.extend(next.persons);
        self.moved.extend(next.moved);
        self.wrote |= next.wrote;
    }
}

/// Resolves batches, one after another.
pub struct Identity {
    committer: Committer,
}

/// What an instance remembers of persons.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Distinct ids.
    pub size: usize,
    /// How long an answer of PostgreSQL's is believed.
    pub believed_for: Duration,
}

impl Identity {
    /// A stage over these stores.
    pub fn new(postgres: Postgres, redis: Redis, memory: Memory, rules: Rules, consumer: String) -> Self {
        let cache = PersonCache::new(memory.size, memory.believed_for);
        let recall = Recall::new(postgres, redis, cache);
        Self {
            committer: Committer::new(recall, rules, consumer),
        }
    }

    /// Gives every event its person and commits what that takes. Events of unknown projects become rejects, and so do
    /// events that PostgreSQL refuses as data; those that it fails on alone leave the batch.
    ///
    /// # Errors
    /// The batch, and [`GaveUp`]: at the drain's limit, when PostgreSQL is away or takes none of the batch and operations
    /// are kept within their presets, or when it refuses a statement as such.
    pub async fn resolve(
        &mut self,
        mut batch: Batch,
        task: &Task,
    ) -> Result<Resolved, (Box<Batch>, GaveUp<StoreError>)> {
        let began = Instant::now();
        let committed = match self.committer.commit(&mut batch, task).await {
            Ok(committed) => Ok((committed, Vec::new())),
            Err(failure) => Box::pin(self.committer.isolate(&mut batch, failure, task)).await,
        };
        match committed {
            Ok((committed, failed_alone)) => {
                count_projects(&batch);
                Ok(self.finish(batch, committed, failed_alone, began))
            }
            Err(gave_up) => Err((Box::new(batch), gave_up)),
        }
    }

    /// Remembers what is committed and says what the next stage has to tell the other stores.
    fn finish(
        &self,
        mut batch: Batch,
        committed: Committed,
        failed_alone: Vec<FailedAlone>,
        began: Instant,
    ) -> Resolved {
        let mut person_keys = Vec::new();
        let now = Instant::now();
        // Publishing sets the keys of what moves, once ClickHouse has been told.
        let moved: FxHashSet<KeyRef<'_>> = committed.moved.iter().map(Moved::key).collect();
        let is_published = |key: u32, owner: &Key| {
            moved.contains(&owner.borrowed()) || committed.left_to_publishers.contains(&key)
        };
        for (key, mapping) in &committed.mappings {
            let owner = &batch.keys[*key as usize];
            let is_news = self.committer.recall.cache.learn(owner, *mapping, now);
            if is_news && !is_published(*key, owner) {
                person_keys.push(PersonKey {
                    project: owner.project,
                    distinct_id: owner.distinct_id.clone(),
                    person: mapping.person,
                });
            }
        }
        for index in &committed.refused {
            let event = &batch.events[*index];
            let ids = [Field::DistinctId, Field::AnonymousId].map(|field| batch.text(event, field));
            let warning = Warning::merge_refused(event.project, ids, event.event_id, event.source.id);
            batch.warnings.push(warning);
        }
        let mut warn = |index: usize, kind, reason: &str| {
            let event = &batch.events[index];
            let (name, id) = (
                batch.text(event, Field::EventName),
                batch.text(event, Field::DistinctId),
            );
            let warning = Warning::new(event.project, kind, Some(name), Some(id), reason);
            batch.warnings.push(warning);
        };
        let Limits { keys, bytes } = self.committer.rules.limits;
        for (index, writes) in &committed.left_out {
            let person = committed.persons[*index];
            let reason = format!(
                "{writes} properties are left out: they do not fit into person {person} ({keys} keys, {bytes} bytes), \
                 or are from before a merge whose sides are no longer kept apart"
            );
            warn(*index, WarningKind::PersonTooLarge, &reason);
        }
        Resolved {
            batch,
            persons: committed.persons,
            moved: committed.moved,
            person_keys,
            asked_at: began,
            failed_alone,
            wrote: committed.wrote,
        }
    }
}

/// Counts the events of a batch, and those of them that were refused because their project does not exist.
fn count_projects(batch: &Batch) {
    let is_unknown = |reject: &&Reject| reject.reason == Reason::UnknownProject;
    let unknown = batch.rejects.iter().filter(is_unknown).count();
    projects::count(batch.events.len() + unknown, unknown);
}
