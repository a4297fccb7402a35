//! What is known of a batch's keys before anything is decided: what this process remembers, and, for the keys that it does
//! not remember or has not looked up for a while, what PostgreSQL says, compared with what Redis says.
//!
//! Redis never answers for itself: what it holds may come from a time before a merge, a deletion, a failover or a restored
//! backup, or from another program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio_postgres::types::Type;

use crate::event::{Batch, PersonId};
use crate::metrics;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::task::Task;
use crate::stores::{Postgres, Redis, StoreError, unnest_keys};

use crate::identity::decision::resolve::Mapping;
use crate::identity::known::cache::PersonCache;
use crate::identity::known::mappings::{MappingRow, OutboxState, READ_MAPPINGS};
use crate::identity::person_key::person_key;

/// Remembered keys that are looked up again in one batch, at most: the others are remembered a little longer.
const MOST_DUE: usize = 1_000;
/// A look-up that is not needed may take this long…
const PATIENCE: Duration = Duration::from_secs(1);
/// …and after it has failed, none is tried for so long.
const REST: Duration = Duration::from_secs(10);
/// Keys in one command to Redis…
const PER_COMMAND: usize = 10_000;
/// …and in one statement: with many more it looks so dear to PostgreSQL that it is compiled.
const PER_STATEMENT: usize = 2_000;

/// What is known of a batch's keys.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// Per key of the batch.
    pub(crate) known: Vec<Option<Mapping>>,
    /// What PostgreSQL said of keys of which Redis says nothing.
    pub(crate) not_in_redis: FxHashMap<u32, Mapping>,
    /// Whom copies name for keys that PostgreSQL does not know, or is yet to be asked about.
    pub(crate) claims: Vec<(u32, PersonId)>,
    /// Keys of which other stores say something else than PostgreSQL, and what it says.
    pub(crate) differing: Vec<(u32, Mapping)>,
    /// Persons that have yet to be seen this hour.
    pub(crate) unseen: Vec<PersonId>,
}

/// What a key holds in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    Person(PersonId),
    /// Text that names no person.
    Nobody,
}

impl Held {
    fn of(value: Option<&[u8]>) -> Self {
        let Some(value) = value else {
            return Self::Nothing;
        };
        // As we write it; other spellings of it are mended like other persons.
        let person = std::str::from_utf8(value).ok().and_then(|text| {
            let person: PersonId = text.parse().ok()?;
            (person.to_string() == text).then_some(person)
        });
        person.map_or(Self::Nobody, Self::Person)
    }
}

/// Whether the others have to be told again of a mapping, given what the outbox and Redis say, and what was remembered.
fn differs(mapping: Mapping, told: OutboxState, held: Held, claim: Option<PersonId>) -> bool {
    let in_redis = held != Held::Nothing && held != Held::Person(mapping.person);
    match told {
        OutboxState::Otherwise => true,
        OutboxState::Never => in_redis || claim.is_some_and(|claimed| claimed != mapping.person),
        // The merge that moved it has published it; Redis may have lost that.
        OutboxState::Published => in_redis,
        OutboxState::Waiting | OutboxState::Moving => false,
    }
}

/// What an instance remembers of persons, and the stores that it compares this with.
pub(crate) struct Recall {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    pub(crate) cache: Arc<PersonCache>,
    /// Remembered persons are not looked up again before this.
    rests_until: Option<Instant>,
}

impl Recall {
    pub(crate) fn new(postgres: Postgres, redis: Redis, cache: PersonCache) -> Self {
        Self {
            postgres,
            redis,
            cache: Arc::new(cache),
            rests_until: None,
        }
    }

    /// What is known of the keys that events use. `trusts_copies` is off after PostgreSQL has shown that something
    /// remembered is gone: then it is asked about everything.
    ///
    /// # Errors
    /// [`GaveUp`] when PostgreSQL does not answer for keys that are not remembered.
    pub(crate) async fn known_of(
        &mut self,
        batch: &Batch,
        trusts_copies: bool,
        task: &Task,
    ) -> Result<Remembered, GaveUp<StoreError>> {
        let mut remembered = Remembered {
            known: vec![None; batch.keys.len()],
            ..Remembered::default()
        };
        let now = Instant::now();
        if !trusts_copies {
            for (key, known) in batch.keys.iter().zip(0..) {
                let claim = self
                    .cache
                    .get(key, now)
                    .map(|(mapping, _)| (known, mapping.person));
                remembered.claims.extend(claim);
            }
            return Ok(remembered);
        }
        let (missing, due) = self.recall(batch, &mut remembered, now);
        let remembers = remembered.known.iter().flatten().count();
        metrics::person_lookups(remembers - due.len(), due.len(), missing.len());
        let asked: Vec<u32> = missing.iter().chain(&due).copied().collect();
        if asked.is_empty() {
            return Ok(remembered);
        }
        let postgres = &self.postgres;
        let in_redis = self.held(batch, &asked);
        let in_postgres = async {
            if missing.is_empty() {
                let read = tokio::time::timeout(PATIENCE, read(postgres, batch, &asked)).await;
                return Ok(read.ok().and_then(Result::ok));
            }
            let read = || read(postgres, batch, &asked);
            task.retry(retry::POSTGRES, read).await.map(Some)
        };
        let (held, rows) = tokio::join!(in_redis, in_postgres);
        if let Some(rows) = rows? {
            self.compare(batch, &asked, held.as_deref(), rows, &mut remembered, now);
        } else {
            tracing::debug!(
                keys = due.len(),
                "remembered persons could not be looked up again"
            );
            self.rests_until = Some(now + REST);
        }
        Ok(remembered)
    }

    /// Takes what is remembered. Returns the keys that are not, and those that are to be looked up again; none of those
    /// that PostgreSQL is asked about anyway, under lock.
    fn recall(&self, batch: &Batch, remembered: &mut Remembered, now: Instant) -> (Vec<u32>, Vec<u32>) {
        let known = &mut remembered.known;
        let mut fallen_due = vec![false; known.len()];
        for ((key, known), due) in batch.keys.iter().zip(known.iter_mut()).zip(&mut fallen_due) {
            if let Some((mapping, is_due)) = self.cache.get(key, now) {
                *known = Some(mapping);
                *due = is_due;
            }
        }
        let changes = batch.events.iter().filter(|e| e.has_user_properties());
        let locked: FxHashSet<u32> = changes.map(|e| e.key).collect();
        let rests = self.rests_until.is_some_and(|until| now < until);
        let (mut missing, mut due, mut seen) = (Vec::new(), Vec::new(), FxHashSet::default());
        for event in &batch.events {
            let anonymous = event.identify.and_then(|identify| identify.anonymous);
            for key in std::iter::once(event.key).chain(anonymous) {
                let remembers = known[key as usize].is_some();
                if locked.contains(&key) || (!remembers && event.identify.is_some()) || !seen.insert(key) {
                    continue;
                }
                if !remembers {
                    missing.push(key);
                } else if (event.source.redelivered || (fallen_due[key as usize] && due.len() < MOST_DUE))
                    && !rests
                {
                    // What was delivered before may be what an instance died of half way.
                    due.push(key);
                }
            }
        }
        (missing, due)
    }

    /// What Redis holds for keys. Trouble with it is no reason to wait: PostgreSQL knows everything that Redis does.
    async fn held(&self, batch: &Batch, keys: &[u32]) -> Option<Vec<Held>> {
        let mut held = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(PER_COMMAND) {
            let names = chunk
                .iter()
                .map(|key| person_key(batch.keys[*key as usize].borrowed()));
            let names: Vec<String> = names.collect();
            match self.redis.texts("reading person keys", &names).await {
                Ok(values) => {
                    held.extend(values.iter().map(|value| Held::of(value.as_deref())));
                }
                Err(error) => {
                    tracing::debug!(%error, "person keys could not be read from Redis");
                    return None;
                }
            }
        }
        Some(held)
    }

    fn compare(
        &self,
        batch: &Batch,
        asked: &[u32],
        held: Option<&[Held]>,
        rows: Vec<MappingRow>,
        remembered: &mut Remembered,
        now: Instant,
    ) {
        let mut found: Vec<Option<MappingRow>> = std::iter::repeat_with(|| None).take(asked.len()).collect();
        for row in rows {
            let place = row.place;
            found[place] = Some(row);
        }
        for (place, (key, row)) in asked.iter().zip(found).enumerate() {
            let claim = remembered.known[*key as usize].map(|mapping| mapping.person);
            let held = held.map(|held| held[place]);
            remembered.known[*key as usize] = row.as_ref().map(|row| row.mapping);
            let Some(row) = row else {
                let in_redis = match held {
                    Some(Held::Person(person)) => Some(person),
                    _ => None,
                };
                let claims = claim.into_iter().chain(in_redis);
                remembered.claims.extend(claims.map(|person| (*key, person)));
                continue;
            };
            // What differs is remembered once the others have been told: until then it is found again.
            let owner = &batch.keys[*key as usize];
            if differs(row.mapping, row.told, held.unwrap_or(Held::Nothing), claim) {
                remembered.differing.push((*key, row.mapping));
            } else if held == Some(Held::Nothing) {
                self.cache.note(owner, row.mapping, now);
                remembered.not_in_redis.insert(*key, row.mapping);
            } else {
                self.cache.insert(owner, row.mapping, now);
            }
            if row.unseen {
                remembered.unseen.push(row.mapping.person);
            }
        }
    }
}

async fn read(postgres: &Postgres, batch: &Batch, keys: &[u32]) -> Result<Vec<MappingRow>, StoreError> {
    let mut found = Vec::with_capacity(keys.len());
    for (chunk, number) in keys.chunks(PER_STATEMENT).zip(0..) {
        let (projects, ids) = unnest_keys(chunk.iter().map(|key| batch.keys[*key as usize].borrowed()));
        let these = [(&projects as _, Type::UUID_ARRAY), (&ids as _, Type::TEXT_ARRAY)];
        let rows = postgres
            .query("looking persons up", READ_MAPPINGS, &these)
            .await?;
        found.extend(rows.iter().map(MappingRow::of).map(|mut row| {
            row.place += number * PER_STATEMENT;
            row
        }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::identity::decision::properties::Version;

    #[test]
    fn what_redis_holds_is_a_person_only_as_we_write_it() {
        let person = PersonId(Uuid::from_u128(0xA));
        let text = person.to_string();
        assert_eq!(Held::of(None), Held::Nothing);
        assert_eq!(Held::of(Some(text.as_bytes())), Held::Person(person));
        let others = [
            text.to_uppercase(),
            person.0.simple().to_string(),
            String::new(),
            "x".to_owned(),
        ];
        for other in others {
            assert_eq!(Held::of(Some(other.as_bytes())), Held::Nobody, "{other}");
        }
        assert_eq!(Held::of(Some(&[0xFF])), Held::Nobody);
    }

    #[test]
    fn the_others_are_told_again_when_they_say_something_else_and_nobody_is_about_to_tell_them() {
        let (person, other) = (PersonId(Uuid::from_u128(1)), PersonId(Uuid::from_u128(2)));
        let mapping = Mapping {
            person,
            identified: false,
            moved: Version::OLDEST,
        };
        let differs = |told, held, claim| differs(mapping, told, held, claim);
        let (same, wrong) = (Held::Person(person), Held::Person(other));
        for told in [OutboxState::Waiting, OutboxState::Moving] {
            assert!(!differs(told, wrong, Some(other)), "a publisher is about to tell");
        }
        for told in [OutboxState::Never, OutboxState::Published] {
            assert!(!differs(told, same, Some(person)) && !differs(told, Held::Nothing, None));
            assert!(differs(told, wrong, Some(person)) && differs(told, Held::Nobody, None));
        }
        // It was moved and published; that this process remembers an older answer concerns no other store.
        assert!(!differs(OutboxState::Published, same, Some(other)));
        assert!(differs(OutboxState::Never, same, Some(other)));
        assert!(differs(OutboxState::Otherwise, same, Some(person)));
    }
}
