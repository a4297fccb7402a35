//! The fetch: a pipelined round trip that creates what is new, locks what may change, and reads it back.
//!
//! Only persons are locked, in the order of their ids, and whatever changes a person's mappings holds that person's
//! lock: one kind of lock in one order, so instances wait for each other instead of deadlocking.

use rustc_hash::FxHashMap;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::event::{Batch, DistinctId, PersonId, ProjectId};
use crate::stores::{StoreError, Transaction, unnest_keys};

use crate::identity::decision::changes::LockedPerson;
use crate::identity::decision::properties::{Limits, Version};
use crate::identity::decision::resolve::{Known, Mapping};
use crate::identity::known::create::Creation;
use crate::identity::known::locked::{loaded, unpacked};
use crate::identity::known::mappings::{MappingRow, OutboxState, READ_MAPPINGS, mapped, unfinished};
use crate::identity::known::request::Request;
use crate::identity::known::too_much::TooMuch;

/// Locks the persons of the keys, in the order of their ids. A mapping that a merge has yet to move counts as moved.
const LOCK_PERSONS: &str = concat!(
    "
    WITH locked AS MATERIALIZED (
        SELECT p.id, p.properties, p.property_versions
        FROM persons p
        WHERE p.id IN (SELECT coalesce(r.into_person, m.person_id)
                       FROM ",
    mapped!(),
    unfinished!(),
    ")
        ORDER BY p.id
        FOR UPDATE OF p)",
    loaded!()
);

/// Up to two identified distinct ids of each person of the keys: two say as much as all.
const READ_IDENTIFIED: &str = concat!(
    "
    SELECT p.person_id, i.distinct_id
    FROM (SELECT DISTINCT m.project_id, coalesce(r.into_person, m.person_id) AS person_id
          FROM ",
    mapped!(),
    unfinished!(),
    ") p
    CROSS JOIN LATERAL (
        SELECT m.distinct_id
        FROM (SELECT p.person_id AS part
              UNION ALL
              SELECT r.from_person FROM processor_person_redirects r
              WHERE r.project_id = p.project_id AND r.into_person = p.person_id AND r.unfinished) parts
        CROSS JOIN LATERAL (SELECT m.distinct_id FROM person_distinct_ids m
                            WHERE m.person_id = parts.part AND m.identified_at IS NOT NULL
                            ORDER BY m.distinct_id LIMIT 2) m
        LIMIT 2) i"
);

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Per key index.
    pub(crate) mappings: FxHashMap<u32, Mapping>,
    /// Persons under lock.
    pub(crate) persons: FxHashMap<PersonId, LockedPerson>,
    /// Identified distinct ids per person.
    pub(crate) identified: FxHashMap<PersonId, Vec<DistinctId>>,
    /// Merges that moved a key, for those that any moved.
    pub(crate) moves: FxHashMap<u32, Vec<Version>>,
    /// What the outbox says of each key that has a mapping.
    pub(crate) told: FxHashMap<u32, OutboxState>,
    /// Persons that have yet to be seen this hour.
    pub(crate) unseen: Vec<PersonId>,
}

impl Answer {
    /// Reads the mappings of keys, which were asked for in this order.
    fn read(&mut self, keys: &[u32], rows: &[Row]) {
        for row in rows.iter().map(MappingRow::of) {
            let key = keys[row.place];
            self.mappings.insert(key, row.mapping);
            self.told.insert(key, row.told);
            if !row.moves.is_empty() {
                self.moves.insert(key, row.moves);
            }
            if row.unseen {
                self.unseen.push(row.mapping.person);
            }
        }
    }

    /// Adds mappings that this transaction has made.
    fn add_plain(&mut self, plain: FxHashMap<u32, PersonId>) {
        for (key, person) in plain {
            let mapping = Mapping {
                person,
                identified: false,
                moved: Version::OLDEST,
            };
            self.mappings.insert(key, mapping);
            self.told.insert(key, OutboxState::Never);
        }
    }

    /// Completes what caches knew with what PostgreSQL says, which wins.
    pub(crate) fn into_known(self, mut mappings: Vec<Option<Mapping>>) -> Known {
        for (key, mapping) in self.mappings {
            mappings[key as usize] = Some(mapping);
        }
        Known {
            mappings,
            identified: self.identified,
        }
    }
}

/// How a fetch ended.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// What was asked for.
    Everything(Answer),
    /// The persons are too much for one transaction.
    TooMuch(TooMuch),
    /// A mapping moved between being looked up and its person being locked: the transaction is to be dropped and begun
    /// again.
    Moved,
}

/// Begin, create, lock, read: one round trip, and another one where what was to be created was there already.
///
/// # Errors
/// Classified by the server's code.
pub(crate) async fn fetch(
    transaction: &Transaction,
    batch: &Batch,
    request: &Request,
    limits: Limits,
) -> Result<Fetched, StoreError> {
    let (mut answer, too_much) = ask(transaction, batch, request, limits).await?;
    let is_locked = |key: &u32| {
        answer
            .mappings
            .get(key)
            .is_none_or(|m| answer.persons.contains_key(&m.person) || too_much.sizes.contains_key(&m.person))
    };
    let complete = request.lock.iter().all(is_locked)
        // What was to be created exists now; if not, it was removed meanwhile.
        && request.create.iter().all(|key| answer.mappings.contains_key(key));
    Ok(if !complete {
        Fetched::Moved
    } else if too_much.sizes.is_empty() {
        Fetched::Everything(answer)
    } else {
        Fetched::TooMuch(TooMuch {
            mappings: std::mem::take(&mut answer.mappings),
            ..too_much
        })
    })
}

/// Sends everything and reads what comes back.
async fn ask(
    transaction: &Transaction,
    batch: &Batch,
    request: &Request,
    limits: Limits,
) -> Result<(Answer, TooMuch), StoreError> {
    let creation = Creation::of(batch, &request.create);
    let (lock_projects, lock_ids) = keys_of(batch, &request.lock);
    let locked = [
        (&lock_projects as _, Type::UUID_ARRAY),
        (&lock_ids as _, Type::TEXT_ARRAY),
    ];
    let (most, together) = LockedPerson::bounds(limits);
    let load = [
        locked[0].clone(),
        locked[1].clone(),
        (&most as _, Type::INT8),
        (&together as _, Type::INT8),
    ];
    let locks = !request.lock.is_empty();
    let there: Vec<u32> = request.keys().filter(|key| !request.new.contains(key)).collect();
    let ((), created, persons, mappings, identified) = tokio::try_join!(
        biased;
        transaction.start_by_keys(),
        creation.create(transaction),
        when(locks, transaction.query(LOCK_PERSONS, &load)),
        read_mappings(transaction, batch, &there),
        when(locks, transaction.query(READ_IDENTIFIED, &locked)),
    )?;
    let (mut answer, too_much) = read_persons(persons, identified);
    answer.read(&there, &mappings);
    let is_unclear = |key: &&u32| !created.plain.contains_key(key);
    let unclear: Vec<u32> = request.new.iter().filter(is_unclear).copied().collect();
    let ((), mappings) = tokio::try_join!(
        biased;
        creation.remove_strays(transaction, &created),
        read_mappings(transaction, batch, &unclear),
    )?;
    answer.read(&unclear, &mappings);
    answer.add_plain(created.plain);
    Ok((answer, too_much))
}

/// Reads the mappings of keys of the batch.
async fn read_mappings(
    transaction: &Transaction,
    batch: &Batch,
    keys: &[u32],
) -> Result<Vec<Row>, StoreError> {
    let (projects, ids) = keys_of(batch, keys);
    let these = [(&projects as _, Type::UUID_ARRAY), (&ids as _, Type::TEXT_ARRAY)];
    when(!keys.is_empty(), transaction.query(READ_MAPPINGS, &these)).await
}

/// Arrays for `unnest`.
fn keys_of<'a>(batch: &'a Batch, keys: &[u32]) -> (Vec<ProjectId>, Vec<&'a str>) {
    unnest_keys(keys.iter().map(|key| batch.keys[*key as usize].borrowed()))
}

/// Reads who is under lock, and whose distinct ids are identified.
fn read_persons(persons: Vec<Row>, identified: Vec<Row>) -> (Answer, TooMuch) {
    let mut answer = Answer::default();
    let mut too_much = TooMuch::default();
    // Each row goes as soon as its person is read: the text and what it says are there together for one at a time.
    for row in persons {
        let id = row.get(0);
        match LockedPerson::of(&row) {
            Some(person) => drop(answer.persons.insert(id, person)),
            None => drop(too_much.sizes.insert(id, row.get::<_, i64>(1).unsigned_abs())),
        }
    }
    for row in identified {
        let identified = answer.identified.entry(row.get(0)).or_default();
        identified.push(row.get(1));
    }
    (answer, too_much)
}

/// The statement's rows, or none when it is not needed.
async fn when(
    needed: bool,
    statement: impl Future<Output = Result<Vec<Row>, StoreError>>,
) -> Result<Vec<Row>, StoreError> {
    if needed { statement.await } else { Ok(Vec::new()) }
}
