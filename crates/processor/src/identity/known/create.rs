//! Persons and mappings of keys that have none: one statement that says which of them are as new as can be. Those need not
//! be read back.

use rustc_hash::FxHashMap;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::event::{Batch, PersonId, ProjectId};
use crate::stores::{StoreError, Transaction};

/// Gives each key that has no mapping its own person, or the one that this person was merged into, and maps it. One record
/// per merge says where a person went, and is followed hop by hop to the last person that exists; a way that comes back to
/// itself ends there.
///
/// Returns for how many keys there was no mapping, and with it each mapping that was made: its id, its person, and whether
/// the outbox knows the key, from an earlier life of it. Persons come before mappings, so that instances that create the
/// same wait for each other in one order.
const CREATE: &str = "
    WITH RECURSIVE fresh AS MATERIALIZED (
        SELECT n.*
        FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[])
            WITH ORDINALITY AS n (project_id, distinct_id, person_id, id, place)
        WHERE NOT EXISTS (SELECT FROM person_distinct_ids m
                          WHERE m.project_id = n.project_id AND m.distinct_id = n.distinct_id)),
    hops AS (
        SELECT f.*, f.person_id AS at, 0 AS hop FROM fresh f
        UNION ALL
        SELECT h.project_id, h.distinct_id, h.person_id, h.id, h.place, r.into_person, h.hop + 1
        FROM hops h
        JOIN processor_person_redirects r ON r.project_id = h.project_id AND r.from_person = h.at)
        CYCLE at SET again USING way,
    homes AS MATERIALIZED (
        SELECT DISTINCT ON (h.place) h.project_id, h.distinct_id, h.person_id, h.id, p.id AS survivor
        FROM hops h
        LEFT JOIN persons p ON h.hop > 0 AND p.id = h.at
        WHERE h.hop = 0 OR p.id IS NOT NULL
        ORDER BY h.place, h.hop DESC),
    made AS (
        INSERT INTO persons (id, project_id)
        SELECT person_id, project_id FROM homes WHERE survivor IS NULL ORDER BY person_id
        ON CONFLICT DO NOTHING
        RETURNING id),
    mapped AS (
        INSERT INTO person_distinct_ids (id, project_id, person_id, distinct_id)
        SELECT id, project_id, coalesce(survivor, person_id), distinct_id FROM homes
        WHERE (SELECT count(*) FROM made) >= 0
        ORDER BY project_id, distinct_id
        ON CONFLICT (project_id, distinct_id) DO NOTHING
        RETURNING id, project_id, distinct_id, person_id)
    SELECT homes.keys, m.id, m.person_id,
           EXISTS (SELECT FROM processor_person_overrides o
                   WHERE o.project_id = m.project_id AND o.distinct_id = m.distinct_id)
    FROM (SELECT count(*) AS keys FROM homes) homes
    LEFT JOIN mapped m ON true";

/// Takes back persons of this transaction whose key was mapped elsewhere meanwhile: the first mapping is the truth.
const REMOVE_UNMAPPED: &str = "
    DELETE FROM persons p USING unnest($1::uuid[]) AS n (person_id)
    WHERE p.id = n.person_id AND p.xmin = pg_current_xact_id()::xid
      AND NOT EXISTS (SELECT FROM person_distinct_ids m WHERE m.person_id = p.id)";

/// Keys to be created, in the order in which all instances insert.
pub(super) struct Creation<'a> {
    /// Indexes into the batch's keys.
    keys: Vec<u32>,
    projects: Vec<ProjectId>,
    distinct_ids: Vec<&'a str>,
    persons: Vec<PersonId>,
    /// Ids of the mappings: of this time, so that the index on them grows at its end.
    ids: Vec<Uuid>,
}

/// What was created.
#[derive(Debug, Default)]
pub(super) struct Created {
    /// Keys whose mapping this transaction has made, to their own new person, and of which no outbox knows.
    pub(super) plain: FxHashMap<u32, PersonId>,
    /// A key was mapped elsewhere meanwhile: its person may have been inserted.
    has_strays: bool,
}

impl<'a> Creation<'a> {
    pub(super) fn of(batch: &'a Batch, create: &[u32]) -> Self {
        let mut keys = create.to_vec();
        keys.sort_unstable_by_key(|key| batch.keys[*key as usize].borrowed());
        let of = |key: &u32| &batch.keys[*key as usize];
        Self {
            projects: keys.iter().map(|key| of(key).project).collect(),
            distinct_ids: keys.iter().map(|key| &*of(key).distinct_id.0).collect(),
            persons: keys.iter().map(|key| of(key).new_person()).collect(),
            ids: keys.iter().map(|_| Uuid::now_v7()).collect(),
            keys,
        }
    }

    /// Creates what is missing.
    ///
    /// # Errors
    /// Classified by the server's code.
    pub(super) async fn create(&self, transaction: &Transaction) -> Result<Created, StoreError> {
        if self.keys.is_empty() {
            return Ok(Created::default());
        }
        let new = [
            (&self.projects as _, Type::UUID_ARRAY),
            (&self.distinct_ids as _, Type::TEXT_ARRAY),
            (&self.persons as _, Type::UUID_ARRAY),
            (&self.ids as _, Type::UUID_ARRAY),
        ];
        Ok(self.created(&transaction.query(CREATE, &new).await?))
    }

    fn created(&self, rows: &[Row]) -> Created {
        let places: FxHashMap<Uuid, usize> = self.ids.iter().copied().zip(0..).collect();
        let without_mapping: i64 = rows.first().map_or(0, |row| row.get(0));
        let mut mapped = 0;
        let mut plain = FxHashMap::default();
        for row in rows {
            let place = row.get::<_, Option<Uuid>>(1).and_then(|id| places.get(&id));
            let Some(&place) = place else { continue };
            mapped += 1;
            let is_its_own = row.get::<_, PersonId>(2) == self.persons[place];
            if is_its_own && !row.get::<_, bool>(3) {
                plain.insert(self.keys[place], self.persons[place]);
            }
        }
        Created {
            plain,
            has_strays: without_mapping > mapped,
        }
    }

    /// Removes persons that were created in vain.
    ///
    /// # Errors
    /// Classified by the server's code.
    pub(super) async fn remove_strays(
        &self,
        transaction: &Transaction,
        created: &Created,
    ) -> Result<(), StoreError> {
        if !created.has_strays {
            return Ok(());
        }
        let persons = [(&self.persons as _, Type::UUID_ARRAY)];
        transaction.query(REMOVE_UNMAPPED, &persons).await.map(drop)
    }
}
