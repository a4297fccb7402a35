//! Telling the other stores once more what PostgreSQL says: what was learnt to differ there is published like a move,
//! through the outbox and in the order of its versions.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;

use crate::event::{KeyRef, PersonId};
use crate::stores::{Postgres, StoreError, unnest_keys};

use crate::identity::known::mappings::{mapped, unfinished};
use crate::identity::moved::Moved;
use crate::identity::publish::outbox::into_outbox;

/// The persons of the keys, so that no merge moves a key between its being read and its being told of. In the order in
/// which all transactions lock persons.
const LOCK: &str = concat!(
    "
    SELECT p.id FROM persons p
    WHERE p.id IN (SELECT coalesce(r.into_person, m.person_id)
                   FROM ",
    mapped!(),
    unfinished!(),
    ")
    ORDER BY p.id
    FOR SHARE OF p"
);

/// A merge that moves a key after it was read and before its person was locked publishes it. Moves of an earlier life of
/// the distinct id, under another person, count no more.
const TELL: &str = concat!(
    "
    WITH told AS (
        SELECT m.project_id, m.distinct_id, coalesce(r.into_person, m.person_id) AS person_id, k.above, '' AS moves
        FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS k (project_id, distinct_id, above)
        JOIN person_distinct_ids m USING (project_id, distinct_id)",
    unfinished!(),
    "
        WHERE coalesce(r.into_person, m.person_id) = ANY($4))",
    into_outbox!(above: "above", moves: "CASE WHEN o.person_id = excluded.person_id THEN o.moves ELSE '' END")
);

/// Distinct ids that are told of together.
const PER_STATEMENT: usize = 1_000;

/// A distinct id that another store says something else of than PostgreSQL, and the version that it has there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Differs<'a> {
    pub(crate) key: KeyRef<'a>,
    pub(crate) above: i64,
}

/// Puts the mappings of distinct ids into the outbox, with versions above all that PostgreSQL knows and above the given
/// ones. Returns those that have a mapping, to be published.
///
/// # Errors
/// PostgreSQL's. Telling again is harmless.
pub(crate) async fn publish_again(
    postgres: &Postgres,
    differing: impl IntoIterator<Item = Differs<'_>>,
) -> Result<Vec<Moved>, StoreError> {
    let mut keys: BTreeMap<KeyRef<'_>, i64> = BTreeMap::new();
    for Differs { key, above } in differing {
        let highest = keys.entry(key).or_default();
        *highest = above.max(*highest);
    }
    let keys: Vec<_> = keys.into_iter().collect();
    let mut told = Vec::new();
    for chunk in keys.chunks(PER_STATEMENT) {
        let (projects, ids) = unnest_keys(chunk.iter().map(|(key, _)| *key));
        let above: Vec<i64> = chunk.iter().map(|(_, above)| *above).collect();
        let these = [(&projects as _, Type::UUID_ARRAY), (&ids as _, Type::TEXT_ARRAY)];
        let transaction = postgres.begin("telling of mappings again").await?;
        let ((), locked) = tokio::try_join!(biased; transaction.start(), transaction.query(LOCK, &these))?;
        let persons: Vec<PersonId> = locked.iter().map(|row| row.get(0)).collect();
        let these = [
            (&projects as _, Type::UUID_ARRAY),
            (&ids as _, Type::TEXT_ARRAY),
            (&above as _, Type::INT8_ARRAY),
            (&persons as _, Type::UUID_ARRAY),
        ];
        let rows = transaction.query(TELL, &these).await?;
        transaction.commit().await?;
        told.extend(rows.iter().map(Moved::of));
    }
    Ok(told)
}
