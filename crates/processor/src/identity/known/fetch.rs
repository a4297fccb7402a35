//! The fetch: one pipelined round trip that creates what is new, locks what may change, and reads it back.
//!
//! Only persons are locked, in the order of their ids, and whatever changes a person's mappings holds that person's
//! lock: one kind of lock in one order, so instances wait for each other instead of deadlocking.

use rustc_hash::FxHashMap;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::event::{Batch, DistinctId, Key, PersonId, ProjectId};
use crate::stores::{StoreError, Transaction, unnest_keys};

use crate::identity::decision::changes::LockedPerson;
use crate::identity::decision::properties::{Limits, Version};
use crate::identity::decision::resolve::{Known, Mapping};
use crate::identity::known::locked::{loaded, unpacked};
use crate::identity::known::mappings::{MappingRow, OutboxState, READ_MAPPINGS, unfinished};
use crate::identity::known::redirects::with_survivors;
use crate::identity::known::request::Request;
use crate::identity::known::too_much::TooMuch;

/// Inserts the person of each key that has no mapping, unless that person was merged into one that still exists.
const CREATE_PERSONS: &str = with_survivors!(
    "
    INSERT INTO persons (id, project_id)
    SELECT n.person_id, n.project_id
    FROM n
    WHERE NOT EXISTS (SELECT FROM person_distinct_ids m
                      WHERE m.project_id = n.project_id AND m.distinct_id = n.distinct_id)
      AND (n.project_id, n.person_id) NOT IN (SELECT project_id, person_id FROM survivors)
    ORDER BY n.person_id
    ON CONFLICT DO NOTHING"
);

/// Maps each key that has no mapping: to its own person, or to whom that person was merged into.
const CREATE_MAPPINGS: &str = with_survivors!(
    "
    INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
    SELECT n.project_id, coalesce(s.survivor, n.person_id), n.distinct_id
    FROM n
    LEFT JOIN survivors s USING (project_id, person_id)
    WHERE NOT EXISTS (SELECT FROM person_distinct_ids m
                      WHERE m.project_id = n.project_id AND m.distinct_id = n.distinct_id)
    ORDER BY n.project_id, n.distinct_id
    ON CONFLICT (project_id, distinct_id) DO NOTHING"
);

/// Takes back persons of this transaction whose key was mapped elsewhere meanwhile: the first mapping is the truth.
const REMOVE_UNMAPPED: &str = "
    DELETE FROM persons p USING unnest($1::uuid[]) AS n (person_id)
    WHERE p.id = n.person_id AND p.xmin = pg_current_xact_id()::xid
      AND NOT EXISTS (SELECT FROM person_distinct_ids m WHERE m.person_id = p.id)";

/// Locks the persons of the keys, in the order of their ids. A mapping that a merge has yet to move counts as moved.
const LOCK_PERSONS: &str = concat!(
    "
    WITH locked AS MATERIALIZED (
        SELECT p.id, p.properties, p.property_versions
        FROM persons p
        WHERE p.id IN (SELECT coalesce(r.into_person, m.person_id)
                       FROM unnest($1::uuid[], $2::text[]) AS k (project_id, distinct_id)
                       JOIN person_distinct_ids m USING (project_id, distinct_id)",
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
          FROM unnest($1::uuid[], $2::text[]) AS k (project_id, distinct_id)
          JOIN person_distinct_ids m USING (project_id, distinct_id)",
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

/// Arrays for `unnest`, in key order so that instances insert in one order.
struct Columns<'a> {
    projects: Vec<ProjectId>,
    distinct_ids: Vec<&'a str>,
    persons: Vec<PersonId>,
}

impl<'a> Columns<'a> {
    fn of(keys: impl Iterator<Item = &'a Key>, with_persons: bool) -> Self {
        let mut keys: Vec<&Key> = keys.collect();
        if with_persons {
            keys.sort_unstable_by_key(|key| key.borrowed());
        }
        let (projects, distinct_ids) = unnest_keys(keys.iter().map(|key| key.borrowed()));
        Self {
            projects,
            distinct_ids,
            persons: if with_persons {
                keys.iter().map(|k| k.new_person()).collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// One round trip: begin, create, lock, read.
///
/// # Errors
/// Classified by the server's code.
pub(crate) async fn fetch(
    transaction: &Transaction,
    batch: &Batch,
    request: &Request,
    limits: Limits,
) -> Result<Fetched, StoreError> {
    let keys = request.keys();
    let rows = ask(transaction, batch, request, &keys, limits).await?;
    let (answer, too_much) = read_rows(rows, &keys);
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
            mappings: answer.mappings,
            ..too_much
        })
    })
}

/// The rows of one round trip.
struct Rows {
    persons: Vec<Row>,
    mappings: Vec<Row>,
    identified: Vec<Row>,
}

/// Sends everything; `keys` are those of the request.
async fn ask(
    transaction: &Transaction,
    batch: &Batch,
    request: &Request,
    keys: &[u32],
    limits: Limits,
) -> Result<Rows, StoreError> {
    let key = |index: &u32| &batch.keys[*index as usize];
    let create = Columns::of(request.create.iter().map(key), true);
    let lock = Columns::of(request.lock.iter().map(key), false);
    let all = Columns::of(keys.iter().map(key), false);

    let new = [
        (&create.projects as _, Type::UUID_ARRAY),
        (&create.distinct_ids as _, Type::TEXT_ARRAY),
        (&create.persons as _, Type::UUID_ARRAY),
    ];
    let new_persons = [(&create.persons as _, Type::UUID_ARRAY)];
    let locked = [
        (&lock.projects as _, Type::UUID_ARRAY),
        (&lock.distinct_ids as _, Type::TEXT_ARRAY),
    ];
    let (most, together) = LockedPerson::bounds(limits);
    let load = [
        locked[0].clone(),
        locked[1].clone(),
        (&most as _, Type::INT8),
        (&together as _, Type::INT8),
    ];
    let every = [
        (&all.projects as _, Type::UUID_ARRAY),
        (&all.distinct_ids as _, Type::TEXT_ARRAY),
    ];
    let creates = !request.create.is_empty();
    let locks = !request.lock.is_empty();

    let ((), _, _, _, persons, mappings, identified) = tokio::try_join!(
        biased;
        transaction.start(),
        when(creates, transaction.query(CREATE_PERSONS, &new)),
        when(creates, transaction.query(CREATE_MAPPINGS, &new)),
        when(creates, transaction.query(REMOVE_UNMAPPED, &new_persons)),
        when(locks, transaction.query(LOCK_PERSONS, &load)),
        transaction.query(READ_MAPPINGS, &every),
        when(locks, transaction.query(READ_IDENTIFIED, &locked)),
    )?;
    Ok(Rows {
        persons,
        mappings,
        identified,
    })
}

/// Reads what came back. `keys` were asked for, in this order.
fn read_rows(rows: Rows, keys: &[u32]) -> (Answer, TooMuch) {
    let mut answer = Answer::default();
    let mut too_much = TooMuch::default();
    // Each row goes as soon as its person is read: the text and what it says are there together for one at a time.
    for row in rows.persons {
        let id = row.get(0);
        match LockedPerson::of(&row) {
            Some(person) => drop(answer.persons.insert(id, person)),
            None => drop(too_much.sizes.insert(id, row.get::<_, i64>(1).unsigned_abs())),
        }
    }
    for row in rows.mappings.iter().map(MappingRow::of) {
        let key = keys[row.place];
        answer.mappings.insert(key, row.mapping);
        answer.told.insert(key, row.told);
        if !row.moves.is_empty() {
            answer.moves.insert(key, row.moves);
        }
        if row.unseen {
            answer.unseen.push(row.mapping.person);
        }
    }
    for row in rows.identified {
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
