//! The identity stage: one batch after another, in order, from caches where they suffice and through one PostgreSQL
//! transaction where anything is new or changes.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use uuid::Uuid;

use crate::config::{MergePolicy, PropertyOrder};
use crate::event::decode::refuse;
use crate::event::{Batch, Event, Field, Reason, Reject, Warning, WarningKind};
use crate::runtime::metrics;
use crate::runtime::pulse::Pulse;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::shutdown::Shutdown;
use crate::stores::{Postgres, RedisConnection, Store, StoreError};

use super::cache::{PersonCache, is_settled};
use super::changes::changes;
use super::commit;
use super::isolate::FailedAlone;
use super::known::{self, Answer, Fetched, Request};
use super::moves::Moves;
use super::overrides::Moved;
use super::parts::{Attempt, Committed, TooMuch};
use super::projects::{self, Projects};
use super::properties::{Limits, Version};
use super::resolve::{Known, Mapping, Outcome, resolve};

/// Life of a person key in Redis: 90 days.
pub(crate) const PERSON_TTL_S: u64 = 7_776_000;

/// PostgreSQL's code for a row that refers to nothing.
const FOREIGN_KEY_VIOLATION: &str = "23503";

/// The Redis key that names a distinct id's person.
pub(crate) fn person_key(project: Uuid, distinct_id: &str) -> String {
    format!("person:{project}:{distinct_id}")
}

/// A batch whose events all have their person, committed in PostgreSQL.
#[derive(Debug)]
pub struct Resolved {
    /// The batch.
    pub batch: Batch,
    /// The person of each event's row.
    pub persons: Vec<Uuid>,
    /// Distinct ids that moved: to be published before the rows.
    pub moved: Vec<Moved>,
    /// Redis keys to set where absent, and their persons.
    pub person_keys: Vec<(String, Uuid)>,
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
    pub(super) postgres: Postgres,
    redis: RedisConnection,
    cache: Arc<PersonCache>,
    projects: Projects,
    rules: Rules,
    consumer: String,
}

impl Identity {
    /// A stage over these stores.
    pub fn new(
        postgres: Postgres,
        redis: RedisConnection,
        cache_size: usize,
        rules: Rules,
        consumer: String,
    ) -> Self {
        let cache = Arc::new(PersonCache::new(cache_size));
        Self {
            postgres,
            redis,
            cache,
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
    pub(super) async fn try_commit(
        &mut self,
        batch: &mut Batch,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<Attempt, GaveUp<StoreError>> {
        let postgres = self.postgres.clone();
        self.check_projects(batch, pulse, shutdown).await?;
        let mut trusts_copies = true;
        loop {
            let mut known = if trusts_copies {
                self.remembered(batch).await
            } else {
                vec![None; batch.keys.len()]
            };
            let request = request(batch, &known, self.rules.order);
            if request.create.is_empty() && request.lock.is_empty() {
                let known = Known {
                    mappings: known,
                    ..Known::default()
                };
                let outcome = resolve(batch, &known, self.rules.policy);
                let committed = Committed {
                    persons: outcome.persons,
                    refused: outcome.refused,
                    ..Committed::default()
                };
                return Ok(Attempt::Committed(committed));
            }
            // Whatever PostgreSQL is asked about is not taken from a copy.
            for key in request.create.iter().chain(&request.lock) {
                known[*key as usize] = None;
            }
            let committed = retry::persist(retry::POSTGRES, pulse, shutdown, || {
                let transaction = transact(&postgres, batch, &request, &known, self.rules, &self.consumer);
                metrics::timed(Store::Postgres, transaction)
            });
            match committed.await {
                Ok(Ok(committed)) => return Ok(Attempt::Committed(committed)),
                Ok(Err(too_much)) => return Ok(Attempt::TooMuch(too_much)),
                // Perhaps a project or a person was deleted after it was remembered: once more, without what is remembered.
                Err(GaveUp::Poison(error)) if error.code == FOREIGN_KEY_VIOLATION && trusts_copies => {
                    trusts_copies = false;
                    self.projects.forget_all();
                    self.check_projects(batch, pulse, shutdown).await?;
                }
                Err(gave_up) => return Err(gave_up),
            }
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

    /// What the process and Redis remember of the keys that events use. Trouble with Redis costs speed, not answers:
    /// PostgreSQL knows everything that Redis does.
    async fn remembered(&mut self, batch: &Batch) -> Vec<Option<Mapping>> {
        let mut known: Vec<Option<Mapping>> = batch.keys.iter().map(|key| self.cache.get(key)).collect();
        let used: FxHashSet<u32> = batch.events.iter().map(|e| e.key).collect();
        let mut missing: Vec<u32> = used
            .iter()
            .copied()
            .filter(|k| known[*k as usize].is_none())
            .collect();
        // PostgreSQL is asked anyway for what may change; Redis answers for the rest.
        let changing: FxHashSet<u32> = batch
            .events
            .iter()
            .filter(|e| e.has_user_properties() || e.identify.is_some())
            .map(|e| e.key)
            .collect();
        missing.retain(|key| !changing.contains(key));
        if missing.is_empty() {
            return known;
        }
        let names = missing.iter().map(|k| {
            let key = &batch.keys[*k as usize];
            person_key(key.project, &key.distinct_id)
        });
        let answer: redis::RedisResult<Vec<Option<String>>> = redis::cmd("MGET")
            .arg(names.collect::<Vec<_>>())
            .query_async(&mut self.redis)
            .await;
        match answer {
            Ok(values) => {
                for (key, value) in missing.iter().zip(values) {
                    let Some(person) = value.and_then(|text| Uuid::try_parse(&text).ok()) else {
                        continue;
                    };
                    let mapping = Mapping {
                        person,
                        identified: false,
                        moved: Version::NEWEST,
                    };
                    known[*key as usize] = Some(mapping);
                    self.cache.insert(&batch.keys[*key as usize], mapping);
                }
            }
            Err(error) => tracing::debug!(%error, "person keys could not be read from Redis"),
        }
        known
    }

    /// Remembers where keys belong as of a commit.
    pub(super) fn remember(&self, batch: &Batch, committed: &Committed) {
        for (key, mapping) in &committed.mappings {
            self.cache.insert(&batch.keys[*key as usize], *mapping);
        }
    }

    /// Remembers what is committed and says what the next stage has to tell the other stores.
    fn finish(&self, mut batch: Batch, committed: Committed, failed_alone: Vec<FailedAlone>) -> Resolved {
        self.remember(&batch, &committed);
        let mut person_keys = Vec::new();
        for (key, mapping) in &committed.mappings {
            let owner = &batch.keys[*key as usize];
            person_keys.push((person_key(owner.project, &owner.distinct_id), mapping.person));
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
                "person {person} may hold {keys} keys and {bytes} bytes: {writes} of the event's properties are left out"
            );
            warn(*index, WarningKind::PersonTooLarge, &reason);
        }
        Resolved {
            batch,
            persons: committed.persons,
            moved: committed.moved,
            person_keys,
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

/// What PostgreSQL has to be asked. What may change is asked about even when a cache knows it, and created when
/// PostgreSQL knows nothing of it.
fn request(batch: &Batch, known: &[Option<Mapping>], order: PropertyOrder) -> Request {
    let mut request = Request::default();
    let mut locked = FxHashSet::default();
    let is_settled = |event: &Event| is_settled(event, order, |key| known[key as usize]);
    for event in batch.events.iter().filter(|event| !is_settled(event)) {
        for key in keys_of(event) {
            if locked.insert(key) {
                request.lock.push(key);
            }
        }
    }
    let mut created = FxHashSet::default();
    let mut attached_first = FxHashSet::default();
    for event in &batch.events {
        // An anonymous id that first appears in an `$identify` gets no person of its own.
        if (locked.contains(&event.key) || known[event.key as usize].is_none())
            && !attached_first.contains(&event.key)
            && created.insert(event.key)
        {
            request.create.push(event.key);
        }
        let anonymous = event.identify.and_then(|identify| identify.anonymous);
        if let Some(anonymous) = anonymous
            && !created.contains(&anonymous)
        {
            attached_first.insert(anonymous);
        }
    }
    request
}

/// The keys that an event is about.
fn keys_of(event: &Event) -> impl Iterator<Item = u32> {
    let anonymous = event.identify.and_then(|identify| identify.anonymous);
    std::iter::once(event.key).chain(anonymous)
}

/// One attempt: everything from `BEGIN` to `COMMIT`, begun again when the ground moved under it.
async fn transact(
    postgres: &Postgres,
    batch: &Batch,
    request: &Request,
    known: &[Option<Mapping>],
    rules: Rules,
    consumer: &str,
) -> Result<Result<Committed, TooMuch>, StoreError> {
    const ROUNDS: usize = 20;
    for _round in 0..ROUNDS {
        let transaction = postgres.begin("resolving persons").await?;
        let mut answer = match known::fetch(&transaction, batch, request, rules.limits).await? {
            Fetched::Everything(answer) => answer,
            Fetched::TooMuch(too_much) => return Ok(Err(too_much)),
            Fetched::Moved => continue,
        };
        let persons = std::mem::take(&mut answer.persons);
        let moves = Moves::new(std::mem::take(&mut answer.moves));
        let outcome = decide(batch, answer, known, rules.policy);
        let changes = changes(batch, &outcome, persons, moves, rules)?;
        let changes_something = !changes.properties.is_empty() || outcome.changes_identity();
        let moved = if changes_something {
            commit::write(&transaction, batch, &outcome, &changes, consumer).await?
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
            wrote: changes_something || !request.create.is_empty(),
        }));
    }
    let message = format!("mappings kept moving through {ROUNDS} attempts");
    Err(StoreError::new(
        Store::Postgres,
        "resolving persons",
        false,
        String::new(),
        message,
    ))
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
