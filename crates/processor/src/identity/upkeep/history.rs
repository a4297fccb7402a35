//! What PostgreSQL tells of one person: its properties, its distinct ids, and the merges that it came out of. Reads only.

use serde::Serialize;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::event::{DistinctId, PersonId, ProjectId};
use crate::stores::{Postgres, StoreError};

/// Of the person and of all that became it, newest first.
const MERGES: &str = "
    WITH RECURSIVE part AS (
        SELECT $2::uuid AS person
        UNION SELECT m.from_person FROM processor_merges m JOIN part p ON m.into_person = p.person
              WHERE m.project_id = $1)
    SELECT to_char(m.merged_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), m.from_person, m.into_person,
           m.event_id, m.anonymous_id, m.distinct_id, m.stream_id, m.consumer
    FROM processor_merges m JOIN part p ON m.into_person = p.person
    WHERE m.project_id = $1 ORDER BY m.id DESC LIMIT $3";

/// A person as PostgreSQL has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// Nothing when there is no such person, or when they are no JSON.
    pub properties: Option<serde_json::Value>,
    /// In the order of their text.
    pub distinct_ids: Vec<DistinctId>,
    /// Newest first.
    pub merges: Vec<PastMerge>,
}

/// A merge, and the event that asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PastMerge {
    /// When, in UTC.
    pub at: String,
    /// The person that was merged.
    pub from: PersonId,
    /// The person that it became.
    pub into: PersonId,
    /// The event.
    pub event_id: Uuid,
    /// The event's anonymous id.
    pub anonymous_id: DistinctId,
    /// The event's distinct id.
    pub distinct_id: DistinctId,
    /// The event's entry in the stream.
    pub stream_id: String,
    /// The instance that merged.
    pub consumer: String,
}

/// Reads at most `most` distinct ids and merges of a person.
///
/// # Errors
/// PostgreSQL's.
pub async fn history(
    postgres: &Postgres,
    project: ProjectId,
    person: PersonId,
    most: i64,
) -> Result<History, StoreError> {
    let sql = "SELECT properties::text FROM persons WHERE id = $1";
    let one = [(&person as _, Type::UUID)];
    let rows = postgres.query("reading a person", sql, &one).await?;
    let properties = rows.first().map(|row| row.get::<_, String>(0));
    let sql =
        "SELECT distinct_id FROM person_distinct_ids WHERE person_id = $1 ORDER BY distinct_id LIMIT $2";
    let some = [(&person as _, Type::UUID), (&most as _, Type::INT8)];
    let distinct_ids = postgres.query("reading distinct ids", sql, &some).await?;
    let merges = [
        (&project as _, Type::UUID),
        (&person as _, Type::UUID),
        (&most as _, Type::INT8),
    ];
    let merges = postgres.query("reading merges", MERGES, &merges).await?;
    let merges = merges.iter().map(|row| PastMerge {
        at: row.get(0),
        from: row.get(1),
        into: row.get(2),
        event_id: row.get(3),
        anonymous_id: row.get(4),
        distinct_id: row.get(5),
        stream_id: row.get(6),
        consumer: row.get(7),
    });
    Ok(History {
        properties: properties.and_then(|text| serde_json::from_str(&text).ok()),
        distinct_ids: distinct_ids.iter().map(|row| row.get(0)).collect(),
        merges: merges.collect(),
    })
}
