//! One attempt to commit a batch: what is remembered, what PostgreSQL is asked, the decision, its writes, what follows.

use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::config::MergePolicy;
use crate::event::{Batch, KeyRef};
use crate::metrics;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::task::Task;
use crate::stores::{Postgres, Store, StoreError};

use crate::identity::decision::changes::{UnreadablePerson, changes};
use crate::identity::decision::moves::Moves;
use crate::identity::decision::properties::Version;
use crate::identity::decision::resolve::{Decision, Mapping, resolve};
use crate::identity::decision::rules::Rules;
use crate::identity::known::fetch::{Answer, Fetched, fetch};
use crate::identity::known::mappings::OutboxState;
use crate::identity::known::projects::Projects;
use crate::identity::known::recall::{Recall, Remembered};
use crate::identity::known::request::Request;
use crate::identity::known::too_much::TooMuch;
use crate::identity::moved::Moved;

use super::aftermath::Aftermath;
use super::committed::{Attempt, Committed};
use super::write::write;

/// Projects and persons may be deleted while a batch refers to them: it is begun anew so often.
const MOST_VIOLATIONS: usize = 3;

/// Our own code for a person whose stored properties cannot be read.
pub(crate) const UNREADABLE_PERSON: &str = "unreadable_person";

/// Commits batches, one after another.
pub(crate) struct Committer {
    pub(crate) recall: Recall,
    pub(crate) rules: Rules,
    projects: Projects,
    consumer: String,
}

impl Committer {
    pub(crate) fn new(recall: Recall, rules: Rules, consumer: String) -> Self {
        Self {
            recall,
            rules,
            projects: Projects::default(),
            consumer,
        }
    }

    /// Commits a batch, unless its persons are too much for one transaction.
    pub(crate) async fn try_commit(
        &mut self,
        batch: &mut Batch,
        task: &Task,
    ) -> Result<Attempt, GaveUp<StoreError>> {
        let postgres = self.recall.postgres.clone();
        self.projects.check(&postgres, batch, task).await?;
        let mut violations = 0;
        loop {
            let remembered = self.recall.known_of(batch, violations == 0, task);
            let mut remembered = remembered.await?;
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
                    transact(
                        &postgres,
                        batch,
                        &request,
                        &remembered,
                        self.rules,
                        &self.consumer,
                    )
                };
                task.retry(retry::POSTGRES, transact).await
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
                    self.projects.check(&postgres, batch, task).await?;
                    continue;
                }
                Err(gave_up) => return Err(gave_up),
            };
            let mut aftermath = std::mem::take(&mut committed.aftermath);
            let differing = std::mem::take(&mut remembered.differing);
            aftermath.differing.extend(differing.iter().map(|(key, _)| *key));
            aftermath.unseen.append(&mut remembered.unseen);
            let told = aftermath.follow_up(&postgres, batch, &committed.moved, task);
            let told = told.await?;
            committed.moved.extend(told);
            for (key, mapping) in differing.into_iter().chain(remembered.not_in_redis) {
                committed.mappings.entry(key).or_insert(mapping);
            }
            return Ok(Attempt::Committed(committed));
        }
    }

    /// Remembers where keys belong as of the commit of a part of a batch. Not of those that moved: when the rest of the
    /// batch fails they are found again in PostgreSQL, as what has yet to be published.
    pub(crate) fn remember_part(&self, batch: &Batch, committed: &Committed) {
        let now = Instant::now();
        let moved: FxHashSet<KeyRef<'_>> = committed.moved.iter().map(Moved::key).collect();
        for (key, mapping) in &committed.mappings {
            let key = &batch.keys[*key as usize];
            if !moved.contains(&key.borrowed()) {
                self.recall.cache.note(key, *mapping, now);
            }
        }
    }
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
        let mut answer = match fetch(&transaction, batch, request, rules.limits).await? {
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
        let changes = changes(batch, &outcome, persons, moves, rules).map_err(|error| unreadable(&error))?;
        let changes_something = !changes.properties.is_empty() || outcome.changes_identity();
        let moved = if changes_something {
            let claims = &remembered.claims;
            write(&transaction, batch, &outcome, &changes, claims, consumer).await?
        } else {
            Some(Vec::new())
        };
        let Some(moved) = moved else { continue };
        transaction.commit().await?;
        metrics::merges(outcome.merges.len(), outcome.refused.len(), moved.len());
        let is_left = |told: &OutboxState| matches!(told, OutboxState::Waiting | OutboxState::Moving);
        let left = told.iter().filter(|(_, told)| is_left(told));
        return Ok(Ok(Committed {
            left_to_publishers: left.map(|(key, _)| *key).collect(),
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
    Err(StoreError::transient(
        Store::Postgres,
        "resolving persons",
        message,
    ))
}

/// Where the keys belong that PostgreSQL was asked about.
fn mappings_of(outcome: &Decision, request: &Request, moves: &Moves) -> FxHashMap<u32, Mapping> {
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

fn decide(batch: &Batch, answer: Answer, known: &[Option<Mapping>], policy: MergePolicy) -> Decision {
    resolve(batch, &answer.into_known(known.to_vec()), policy)
}

fn unreadable(error: &UnreadablePerson) -> StoreError {
    StoreError::poison(Store::Postgres, "reading properties", error.to_string()).with_code(UNREADABLE_PERSON)
}
