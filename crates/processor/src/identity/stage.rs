//! The identity stage: one batch after another, in order, from what is remembered where that suffices and through one
//! PostgreSQL transaction where anything is new or changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use uuid::Uuid;

use crate::config::{MergePolicy, PropertyOrder};
use crate::event::decode::refuse;
use crate::event::{Batch, Field, Reason, Reject, Warning, WarningKind};
use crate::metrics;
use crate::runtime::failed_alone::FailedAlone;
use crate::runtime::pulse::Pulse;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::shutdown::Shutdown;
use crate::stores::{Postgres, RedisConnection, Store, StoreError};

use crate::identity::commit::aftermath::Aftermath;
use crate::identity::known::cache::PersonCache;
use crate::identity::decision::changes::changes;
use crate::identity::known::check::Remembered;
use crate::identity::commit::write;
use crate::identity::known::fetch::{self, Answer, Fetched};
use crate::identity::decision::moves::Moves;
use crate::identity::publish::overrides::Moved;
use crate::identity::commit::parts::{Attempt, Committed, TooMuch};
use crate::identity::publish::person_keys::PersonKey;
use crate::identity::known::projects::{self, Projects};
use crate::identity::decision::properties::{Limits, Version};
use crate::identity::known::request::Request;
use crate::identity::decision::resolve::{Mapping, Outcome, resolve};

/// Projects and persons may be deleted while a batch refers to them: it is begun anew so often.
const MOST_VIOLATIONS: usize = 3;

/// A batch whose events all have their person, committed in PostgreSQL.
#[derive(Debug)]
pub struct Resolved {
    /// The batch.
    pub batch: Batch,
    /// The person of each event's row.
    pub persons: Vec<Uuid>,
    /// Distinct ids that moved: to be published before the rows.
    pub moved: Vec<Moved>,
    /// Person keys to set where absent.
    pub person_keys: Vec<PersonKey>,
    /// When PostgreSQL named their persons.
    pub resolved_at: Instant,
    /// Events that a store fails on although it takes their neighbours: out of the batch, to be set aside one by one.
    pub failed_alone: Vec<FailedAlone>,
    /// Whether PostgreSQL was written to: it has shown that it takes work.
    pub wrote: bool,
}

/// What an operator may choose about persons.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What may be merged.
    pub policy: MergePolicy,
    /// Which write of a property is newer.
    pub order: PropertyOrder,
    /// How much a person may hold.
    pub limits: Limits,
}

/// Resolves batches, one after another.
pub struct Identity {
    pub(crate) postgres: Postgres,
    pub(crate) redis: RedisConnection,
    pub(crate) cache: Arc<PersonCache>,
    /// Remembered persons are not looked up again before this.
    pub(crate) rests_until: Option<Instant>,
    projects: Projects,
    rules: Rules,
    consumer: String,
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
    pub fn new(
        postgres: Postgres,
        redis: RedisConnection,
        memory: Memory,
        rules: Rules,
        consumer: String,
    ) -> Self {
        let cache = Arc::new(PersonCache::new(memory.size, memory.believed_for));
        Self {
            postgres,
            redis,
            cache,
            rests_until: None,
            projects: Projects::default(),
            rules,
            consumer,
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
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<Resolved, (Box<Batch>, GaveUp<StoreError>)> {
        let committed = match self.commit(&mut batch, pulse, shutdown).await {
            Ok(committed) => Ok((committed, Vec::new())),
            Err(failure) => Box::pin(self.isolate(&mut batch, failure, pulse, shutdown)).await,
        };
        match committed {
            Ok((committed, failed_alone)) => {
                count_projects(&batch);
                Ok(self.finish(batch, committed, failed_alone))
            }
            Err(gave_up) => Err((Box::new(batch), gave_up)),
        }
    }

    /// Commits a batch, unless its persons are too much for one transaction.
    pub(crate) async fn try_commit(
        &mut self,
        batch: &mut Batch,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<Attempt, GaveUp<StoreError>> {
        let postgres = self.postgres.clone();
        self.check_projects(batch, pulse, shutdown).await?;
        let mut violations = 0;
        loop {
            let mut remembered = self.remembered(batch, violations == 0, pulse, shutdown).await?;
            let known = &mut remembered.known;
            let request = Request::of(batch, known, self.rules.order);
            // Whatever PostgreSQL is asked about is not taken from a copy.
            for key in request.create.iter().chain(&request.lock) {
                if let Some(mapping) = known[*key as usize].take() {
                    remembered.claims.push((*key, mapping.person));
                }
            }
            let committed = if request.is_empty() {
                Ok(Ok(all_known(batch, &remembered, self.rules.policy)))
            } else {
                let transact = || {
                    let transaction = transact(
                        &postgres,
                        batch,
                        &request,
                        &remembered,
                        self.rules,
                        &self.consumer,
                    );
                    metrics::timed(Store::Postgres.name(), transaction)
                };
                retry::persist(retry::POSTGRES, pulse, shutdown, transact).await
            };
            let mut committed = match committed {
                Ok(Ok(committed)) => committed,
                Ok(Err(too_much)) => return Ok(Attempt::TooMuch(too_much)),
                // A project or a person was deleted after it was remembered or read: once more, without what is remembered.
                Err(GaveUp::Poison(error))
                    if error.is_foreign_key_violation() && violations < MOST_VIOLATIONS =>
                {
                    violations += 1;
                    self.projects.forget_all();
                    self.check_projects(batch, pulse, shutdown).await?;
                    continue;
                }
                Err(gave_up) => return Err(gave_up),
            };
            let mut aftermath = std::mem::take(&mut committed.aftermath);
            let differing = std::mem::take(&mut remembered.differing);
            aftermath.differing.extend(differing.iter().map(|(key, _)| *key));
            aftermath.unseen.append(&mut remembered.unseen);
            let told = self.follow_up(batch, aftermath, &committed.moved, pulse, shutdown);
            let told = told.await?;
            committed.moved.extend(told);
            for (key, mapping) in differing.into_iter().chain(remembered.not_in_redis) {
                committed.mappings.entry(key).or_insert(mapping);
            }
            return Ok(Attempt::Committed(committed));
        }
    }

    /// Turns events of projects that do not exist into rejects.
    async fn check_projects(
        &mut self,
        batch: &mut Batch,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<(), GaveUp<StoreError>> {
        let asked: FxHashSet<Uuid> = batch.events.iter().map(|e| e.project).collect();
        let (postgres, projects) = (&self.postgres, &mut self.projects);
        let projects = tokio::sync::Mutex::new(projects);
        let unknown = retry::persist(retry::POSTGRES, pulse, shutdown, || async {
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

    /// Remembers where keys belong as of the commit of a part of a batch. Not of those that moved: when the rest of the
    /// batch fails they are found again in PostgreSQL, as what has yet to be published.
    pub(crate) fn remember_part(&self, batch: &Batch, committed: &Committed) {
        let now = Instant::now();
        let moved: FxHashSet<(Uuid, &str)> = committed.moved.iter().map(Moved::key).collect();
        for (key, mapping) in &committed.mappings {
            let key = &batch.keys[*key as usize];
            if !moved.contains(&(key.project, &*key.distinct_id)) {
                self.cache.insert(key, *mapping, now);
            }
        }
    }

    /// Remembers what is committed and says what the next stage has to tell the other stores.
    fn finish(&self, mut batch: Batch, committed: Committed, failed_alone: Vec<FailedAlone>) -> Resolved {
        let mut person_keys = Vec::new();
        let now = Instant::now();
        for (key, mapping) in &committed.mappings {
            let owner = &batch.keys[*key as usize];
            self.cache.insert(owner, *mapping, now);
            person_keys.push(PersonKey {
                project: owner.project,
                distinct_id: owner.distinct_id.clone(),
                person: mapping.person,
            });
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
        for index in &committed.refused {
            let reason = "merge refused: anonymous_id belongs to another identified user";
            warn(*index, WarningKind::MergeRefused, reason);
        }
        let Limits { keys, bytes } = self.rules.limits;
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
            resolved_at: Instant::now(),
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

/// What is decided when PostgreSQL need not be asked.
fn all_known(batch: &Batch, remembered: &Remembered, policy: MergePolicy) -> Committed {
    let outcome = decide(batch, Answer::default(), &remembered.known, policy);
    Committed {
        persons: outcome.persons,
        refused: outcome.refused,
        ..Committed::default()
    }
}

/// One attempt: everything from `BEGIN` to `COMMIT`, begun again when the ground moved under it.
async fn transact(
    postgres: &Postgres,
    batch: &Batch,
    request: &Request,
    remembered: &Remembered,
    rules: Rules,
    consumer: &str,
) -> Result<Result<Committed, TooMuch>, StoreError> {
    const ROUNDS: usize = 20;
    for _round in 0..ROUNDS {
        let transaction = postgres.begin("resolving persons").await?;
        let mut answer = match fetch::fetch(&transaction, batch, request, rules.limits).await? {
            Fetched::Everything(answer) => answer,
            Fetched::TooMuch(too_much) => return Ok(Err(too_much)),
            Fetched::Moved => continue,
        };
        let persons = std::mem::take(&mut answer.persons);
        let moves = Moves::new(std::mem::take(&mut answer.moves));
        let mut aftermath = Aftermath::of(&answer, &remembered.claims);
        let told = std::mem::take(&mut answer.told);
        let outcome = decide(batch, answer, &remembered.known, rules.policy);
        aftermath.note_left_behind(batch, &outcome, |key| told.get(&key).copied());
        let changes = changes(batch, &outcome, persons, moves, rules)?;
        let changes_something = !changes.properties.is_empty() || outcome.changes_identity();
        let moved = if changes_something {
            let claims = &remembered.claims;
            write::write(&transaction, batch, &outcome, &changes, claims, consumer).await?
        } else {
            Some(Vec::new())
        };
        let Some(moved) = moved else { continue };
        transaction.commit().await?;
        metrics::merges(outcome.merges.len(), outcome.refused.len(), moved.len());
        return Ok(Ok(Committed {
            mappings: mappings_of(&outcome, request, &changes.moves),
            persons: outcome.persons,
            moved,
            refused: outcome.refused,
            left_out: changes.left_out,
            aftermath,
            wrote: changes_something || !request.create.is_empty(),
        }));
    }
    let message = format!("mappings kept moving through {ROUNDS} attempts");
    Err(StoreError::transient(Store::Postgres, "resolving persons", message))
}

/// Where the keys belong that PostgreSQL was asked about.
fn mappings_of(outcome: &Outcome, request: &Request, moves: &Moves) -> FxHashMap<u32, Mapping> {
    let mut mappings = FxHashMap::default();
    for key in request.create.iter().chain(&request.lock) {
        let Some(person) = outcome.final_persons[*key as usize] else {
            continue;
        };
        mappings.entry(*key).or_insert_with(|| {
            let moves = moves.of(*key, outcome.homes[*key as usize]);
            Mapping {
                person,
                identified: outcome.identified_keys.contains(key),
                moved: moves.into_iter().max().unwrap_or(Version::OLDEST),
            }
        });
    }
    mappings
}

fn decide(batch: &Batch, answer: Answer, known: &[Option<Mapping>], policy: MergePolicy) -> Outcome {
    resolve(batch, &answer.into_known(known.to_vec()), policy)
}
