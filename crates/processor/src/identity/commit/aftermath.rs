//! What follows a batch's decision: other stores that say something else than PostgreSQL are told again, what a dead
//! instance left unpublished is published, and persons count as seen.

use std::time::Duration;

use rustc_hash::FxHashSet;
use tokio_postgres::types::Type;

use crate::event::{Batch, KeyRef, PersonId};
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::task::Task;
use crate::stores::{Postgres, StoreError};

use crate::identity::decision::resolve::Decision;
use crate::identity::known::fetch::Answer;
use crate::identity::known::mappings::OutboxState;
use crate::identity::moved::Moved;
use crate::identity::publish::again::{Differs, publish_again};

/// What merges into these persons have yet to publish.
const LEFT_BEHIND: &str = "
    SELECT project_id, distinct_id FROM processor_person_overrides
    WHERE NOT published AND person_id = ANY($1)
    ORDER BY project_id, distinct_id LIMIT 10000";

/// A person that is written at this moment is seen by that, or is the next time.
const SEEN: &str = "
    UPDATE persons p SET updated_at = date_trunc('hour', now(), 'UTC')
    FROM (SELECT id FROM persons WHERE id = ANY($1) AND updated_at < date_trunc('hour', now(), 'UTC')
          ORDER BY id FOR UPDATE SKIP LOCKED) unseen
    WHERE p.id = unseen.id";

/// How long a batch waits for persons to be noted as seen.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be done once a batch is decided.
#[derive(Debug, Default)]
pub(crate) struct Aftermath {
    /// Keys of which other stores say something else.
    pub(crate) differing: Vec<u32>,
    /// Persons whose merges may have been committed by an instance that died before it published them.
    pub(crate) left_behind: Vec<PersonId>,
    /// Persons that have yet to be seen this hour.
    pub(crate) unseen: Vec<PersonId>,
}

impl Aftermath {
    /// What PostgreSQL said under lock of keys that `claims` name persons of, compared with what the outbox says: a mapping
    /// that another program has changed, or that was made anew, and of which no other store was told.
    pub(crate) fn of(answer: &Answer, claims: &[(u32, PersonId)]) -> Self {
        let mut differing: Vec<u32> = Vec::new();
        for (key, told) in &answer.told {
            if *told == OutboxState::Otherwise {
                differing.push(*key);
            }
        }
        for (key, claimed) in claims {
            let differs = answer
                .mappings
                .get(key)
                .is_some_and(|mapping| mapping.person != *claimed);
            if differs && answer.told.get(key) == Some(&OutboxState::Never) {
                differing.push(*key);
            }
        }
        Self {
            differing,
            left_behind: Vec::new(),
            unseen: answer.unseen.clone(),
        }
    }

    /// Notes the persons of `$identify`s whose merges another instance may have committed: they were delivered before, or
    /// the outbox holds them still.
    pub(crate) fn note_left_behind(
        &mut self,
        batch: &Batch,
        outcome: &Decision,
        told: impl Fn(u32) -> Option<OutboxState>,
    ) {
        let waits = |key: u32| told(key) == Some(OutboxState::Waiting);
        for event in &batch.events {
            let Some(identify) = event.identify else { continue };
            if (event.source.redelivered || waits(event.key) || identify.anonymous.is_some_and(waits))
                && let Some(person) = outcome.final_persons[event.key as usize]
            {
                self.left_behind.push(person);
            }
        }
    }
}

impl Aftermath {
    /// Does it. Returns what is to be published before the rows.
    ///
    /// # Errors
    /// [`GaveUp`] when PostgreSQL is away: deciding the batch again finds the same again.
    pub(crate) async fn follow_up(
        self,
        postgres: &Postgres,
        batch: &Batch,
        moved: &[Moved],
        task: &Task,
    ) -> Result<Vec<Moved>, GaveUp<StoreError>> {
        let Aftermath {
            differing,
            left_behind,
            unseen,
        } = self;
        if !unseen.is_empty() {
            note_seen(postgres, unseen).await;
        }
        if differing.is_empty() && left_behind.is_empty() {
            return Ok(Vec::new());
        }
        let moved: FxHashSet<KeyRef<'_>> = moved.iter().map(Moved::key).collect();
        let told = task.retry(retry::POSTGRES, || async {
            let left = left_unpublished(postgres, &left_behind, &moved).await?;
            let keys = differing.iter().map(|key| batch.keys[*key as usize].borrowed());
            let keys = keys.chain(left.iter().map(Moved::key));
            publish_again(postgres, keys.map(|key| Differs { key, above: 0 })).await
        });
        match told.await {
            Ok(told) => {
                if !told.is_empty() {
                    tracing::info!(
                        ids = told.len(),
                        "other stores are told again where distinct ids belong"
                    );
                }
                Ok(told)
            }
            // Such as a project that is being deleted: no event is to blame, and the next event of the id finds it again.
            Err(GaveUp::Poison(error)) => {
                tracing::warn!(%error, ids = differing.len(), "other stores could not be told where distinct ids belong");
                Ok(Vec::new())
            }
            Err(gave_up) => Err(gave_up),
        }
    }
}

/// What is unpublished of these persons, without what this batch has moved itself.
async fn left_unpublished(
    postgres: &Postgres,
    persons: &[PersonId],
    moved: &FxHashSet<KeyRef<'_>>,
) -> Result<Vec<Moved>, StoreError> {
    if persons.is_empty() {
        return Ok(Vec::new());
    }
    let of_persons = [(&persons as _, Type::UUID_ARRAY)];
    let rows = postgres
        .query("looking for unpublished overrides", LEFT_BEHIND, &of_persons)
        .await?;
    let mut left: Vec<Moved> = rows.iter().map(Moved::of).collect();
    left.retain(|left| !moved.contains(&left.key()));
    Ok(left)
}

/// No batch waits for this to succeed: they are found unseen again.
async fn note_seen(postgres: &Postgres, mut persons: Vec<PersonId>) {
    persons.sort_unstable();
    persons.dedup();
    let these = [(&persons as _, Type::UUID_ARRAY)];
    let noted = postgres.query("noting persons as seen", SEEN, &these);
    if !matches!(tokio::time::timeout(PATIENCE, noted).await, Ok(Ok(_))) {
        tracing::debug!(
            persons = persons.len(),
            "persons could not be noted as seen this hour"
        );
    }
}
