//! The writes of a decided batch, in the transaction that holds the locks it was decided under.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::event::{Batch, Field, KeyRef, PersonId, ProjectId};
use crate::stores::{Store, StoreError, Transaction, unnest_keys};

use crate::identity::decision::changes::{Changes, PropertyChange};
use crate::identity::decision::moves::{self, Moves, joined_moves};
use crate::identity::decision::resolve::{Attached, Decision};
use crate::identity::moved::Moved;
use crate::identity::publish::outbox::into_outbox;

const MARK_IDENTIFIED: &str = "
    UPDATE person_distinct_ids m SET identified_at = now()
    FROM unnest($1::uuid[], $2::text[]) AS k (project_id, distinct_id)
    WHERE m.project_id = k.project_id AND m.distinct_id = k.distinct_id AND m.identified_at IS NULL";

/// Attaches anonymous ids that have no mapping. Nothing comes back when another transaction maps one of them at this very
/// moment. With the version when the outbox did not hold it either: a row that was there is one that the transaction has
/// locked.
const ATTACH: &str = concat!(
    "
    WITH n AS (
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::uuid[])
            AS n (project_id, distinct_id, person_id, moves, id)),
    attached AS (
        INSERT INTO person_distinct_ids (id, project_id, person_id, distinct_id)
        SELECT n.id, n.project_id, n.person_id, n.distinct_id FROM n
        ORDER BY n.project_id, n.distinct_id
        ON CONFLICT (project_id, distinct_id) DO NOTHING
        RETURNING id),
    told AS (SELECT n.* FROM n WHERE (SELECT count(*) FROM attached) = cardinality($1))",
    into_outbox!(above: "0", moves: "excluded.moves")
);

/// Mappings of a merged person that move with the merge itself; `unfinished` says how the others follow.
const MOVED_AT_ONCE: i64 = 100;

/// Moves mappings of merged persons, and notes for the other stores where each went.
const MOVE: &str = concat!(
    "
    WITH chosen AS (
        SELECT c.id, x.into_person, x.moves
        FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS x (from_person, into_person, moves)
        CROSS JOIN LATERAL (SELECT m.id FROM person_distinct_ids m WHERE m.person_id = x.from_person LIMIT $4) c),
    told AS (
        UPDATE person_distinct_ids m SET person_id = chosen.into_person
        FROM chosen
        WHERE m.id = chosen.id
        RETURNING m.project_id, m.distinct_id, m.person_id, chosen.moves)",
    into_outbox!(above: "0", moves: joined_moves!("o.moves", "excluded.moves"))
);

/// Writes changed properties with their versions. `updated_at` moves to the hour, or to now for a survivor.
const WRITE_PROPERTIES: &str = "
    UPDATE persons p
    SET properties = x.properties::jsonb, property_versions = x.versions::jsonb,
        updated_at = CASE WHEN x.survived THEN now() ELSE greatest(p.updated_at, date_trunc('hour', now(), 'UTC')) END
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bool[]) AS x (id, properties, versions, survived)
    WHERE p.id = x.id";

/// Records where merged persons went. What an earlier merge has yet to move into one of them follows it.
pub(crate) const REDIRECT: &str = concat!(
    "
    WITH led_on AS (
        UPDATE processor_person_redirects r SET into_person = x.into_person, moves = ",
    joined_moves!("r.moves", "x.moves"),
    "
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[]) AS x (from_person, into_person, moves, project_id)
        WHERE r.project_id = x.project_id AND r.into_person = x.from_person AND r.unfinished)
    INSERT INTO processor_person_redirects (project_id, from_person, into_person, unfinished, moves)
    SELECT x.project_id, x.from_person, x.into_person, left_over.exist,
           CASE WHEN left_over.exist THEN x.moves ELSE '' END
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[]) AS x (from_person, into_person, moves, project_id)
    CROSS JOIN LATERAL (
        SELECT EXISTS (SELECT FROM person_distinct_ids m WHERE m.person_id = x.from_person) AS exist) left_over
    ON CONFLICT (project_id, from_person) DO UPDATE
    SET into_person = excluded.into_person, unfinished = excluded.unfinished, moves = excluded.moves,
        merged_at = now()"
);

/// A person goes with its last mapping.
pub(crate) const DELETE_MERGED: &str = "
    DELETE FROM persons p
    WHERE p.id = ANY($1) AND NOT EXISTS (SELECT FROM person_distinct_ids m WHERE m.person_id = p.id)";

const RECORD: &str = "
    INSERT INTO processor_merges
        (project_id, from_person, into_person, event_id, anonymous_id, distinct_id, stream_id, consumer)
    SELECT n.*, $8 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[]) n";

/// Writes the outcome. Returns the distinct ids that moved, for ClickHouse and Redis; `None` when an anonymous id was
/// mapped by another transaction meanwhile: then the transaction is to be dropped and begun again. `claims` are keys
/// without a mapping, and whom copies name for them.
///
/// # Errors
/// Classified by the server's code.
pub(crate) async fn write(
    transaction: &Transaction,
    batch: &Batch,
    outcome: &Decision,
    changes: &Changes,
    claims: &[(u32, PersonId)],
    consumer: &str,
) -> Result<Option<Vec<Moved>>, StoreError> {
    let mut moved = Vec::new();
    if !changes.properties.is_empty() {
        write_properties(transaction, &changes.properties).await?;
    }
    if !outcome.identified.is_empty() {
        let (projects, ids) = unnest_keys(
            outcome
                .identified
                .iter()
                .map(|key| batch.keys[*key as usize].borrowed()),
        );
        transaction
            .query(
                MARK_IDENTIFIED,
                &[(&projects, Type::UUID_ARRAY), (&ids, Type::TEXT_ARRAY)],
            )
            .await?;
    }
    if !outcome.merges.is_empty() {
        moved.extend(merge(transaction, batch, outcome, &changes.moves, consumer).await?);
    }
    if !outcome.attached.is_empty() {
        let Some(attached) = attach(transaction, batch, outcome, &changes.moves, claims).await? else {
            return Ok(None);
        };
        moved.extend(attached);
    }
    Ok(Some(moved))
}

pub(crate) async fn write_properties(
    transaction: &Transaction,
    changes: &[PropertyChange],
) -> Result<(), StoreError> {
    let persons: Vec<PersonId> = changes.iter().map(|c| c.person).collect();
    let properties: Vec<&str> = changes.iter().map(|c| c.properties.as_str()).collect();
    let versions: Vec<&str> = changes.iter().map(|c| c.versions.as_str()).collect();
    let survived: Vec<bool> = changes.iter().map(|c| c.survived).collect();
    let parameters = [
        (&persons as _, Type::UUID_ARRAY),
        (&properties as _, Type::TEXT_ARRAY),
        (&versions as _, Type::TEXT_ARRAY),
        (&survived as _, Type::BOOL_ARRAY),
    ];
    transaction.query(WRITE_PROPERTIES, &parameters).await.map(drop)
}

async fn attach(
    transaction: &Transaction,
    batch: &Batch,
    outcome: &Decision,
    moves: &Moves,
    claims: &[(u32, PersonId)],
) -> Result<Option<Vec<Moved>>, StoreError> {
    let key = |attached: &Attached| batch.keys[attached.key as usize].borrowed();
    let (projects, ids) = unnest_keys(outcome.attached.iter().map(key));
    let persons: Vec<PersonId> = outcome.attached.iter().map(|a| a.person).collect();
    let moves: Vec<String> = outcome
        .attached
        .iter()
        .map(|a| moves::text(&moves.of(a.key, outcome.homes[a.key as usize])))
        .collect();
    // Of this time, so that the index on them grows at its end.
    let mapping_ids: Vec<Uuid> = outcome.attached.iter().map(|_| Uuid::now_v7()).collect();
    let attached = [
        (&projects as _, Type::UUID_ARRAY),
        (&ids as _, Type::TEXT_ARRAY),
        (&persons as _, Type::UUID_ARRAY),
        (&moves as _, Type::TEXT_ARRAY),
        (&mapping_ids as _, Type::UUID_ARRAY),
    ];
    let rows = transaction.query(ATTACH, &attached).await?;
    if rows.len() < outcome.attached.len() {
        return Ok(None);
    }
    let claims: HashMap<u32, PersonId> = claims.iter().copied().collect();
    // Rows between its attaching and a merge of its person within this batch are under that person.
    let is_doubted = |a: &&Attached| {
        outcome.homes[a.key as usize] != Some(a.person)
            || claims.get(&a.key).is_some_and(|claimed| *claimed != a.person)
    };
    let doubted: HashSet<KeyRef<'_>> = outcome.attached.iter().filter(is_doubted).map(key).collect();
    Ok(Some(
        rows.iter().map(|row| Moved::attached(row, &doubted)).collect(),
    ))
}

async fn merge(
    transaction: &Transaction,
    batch: &Batch,
    outcome: &Decision,
    moves: &Moves,
    consumer: &str,
) -> Result<Vec<Moved>, StoreError> {
    let merges = &outcome.merges;
    let steps: Vec<String> = merges
        .iter()
        .map(|merge| moves::text(&moves.of_person(merge.from)))
        .collect();
    let from: Vec<PersonId> = merges.iter().map(|m| m.from).collect();
    let into: Vec<PersonId> = merges.iter().map(|m| outcome.survivor(m.into)).collect();
    let projects: Vec<ProjectId> = merges.iter().map(|m| batch.events[m.event].project).collect();
    let paths = [(&from as _, Type::UUID_ARRAY), (&into as _, Type::UUID_ARRAY)];

    let events = || merges.iter().map(|m| &batch.events[m.event]);
    let event_ids: Vec<Uuid> = events().map(|e| e.event_id).collect();
    let anonymous: Vec<&str> = events().map(|e| batch.text(e, Field::AnonymousId)).collect();
    let users: Vec<&str> = events().map(|e| batch.text(e, Field::DistinctId)).collect();
    let stream_ids: Vec<String> = events().map(|e| e.source.id.to_string()).collect();

    let redirect = [
        paths[0].clone(),
        paths[1].clone(),
        (&steps as _, Type::TEXT_ARRAY),
        (&projects as _, Type::UUID_ARRAY),
    ];
    let move_some = [
        paths[0].clone(),
        paths[1].clone(),
        (&steps as _, Type::TEXT_ARRAY),
        (&MOVED_AT_ONCE as _, Type::INT8),
    ];
    let gone = [(&from as _, Type::UUID_ARRAY)];
    let record = [
        (&projects as _, Type::UUID_ARRAY),
        paths[0].clone(),
        paths[1].clone(),
        (&event_ids as _, Type::UUID_ARRAY),
        (&anonymous as _, Type::TEXT_ARRAY),
        (&users as _, Type::TEXT_ARRAY),
        (&stream_ids as _, Type::TEXT_ARRAY),
        (&consumer as _, Type::TEXT),
    ];
    let (moved, _, _, _) = tokio::try_join!(
        biased;
        transaction.query(MOVE, &move_some),
        transaction.query(DELETE_MERGED, &gone),
        transaction.query(REDIRECT, &redirect),
        transaction.query(RECORD, &record),
    )?;
    if moved.len() < from.len() {
        let message = "a merged person had no mappings".to_owned();
        return Err(StoreError::transient(Store::Postgres, "merging persons", message));
    }
    Ok(moved.iter().map(Moved::of).collect())
}
