//! What is told of one person: by PostgreSQL its properties, its distinct ids, and the merges that it came out of; by the
//! ingestion warnings the merges that were refused. Reads only.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::event::{DistinctId, PersonId, ProjectId, WarningKind};
use crate::stores::{ClickHouse, Postgres, StoreError};

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

/// Warnings of a refused merge that name any of some distinct ids. An event that was delivered again is warned of again.
const REFUSED: &str = "
    SELECT formatDateTime(min(timestamp), '%FT%TZ', 'UTC') AS at, distinct_id, anonymous_id, event_id, stream_id
    FROM (
        SELECT timestamp, JSONExtractString(details, 'distinct_id') AS distinct_id,
               JSONExtractString(details, 'anonymous_id') AS anonymous_id,
               JSONExtractString(details, 'event_id') AS event_id,
               JSONExtractString(details, 'stream_id') AS stream_id
        FROM ingestion_warnings
        WHERE project_id = {project:UUID} AND type = {type:String})
    WHERE has({ids:Array(String)}, distinct_id) OR has({ids:Array(String)}, anonymous_id)
    GROUP BY distinct_id, anonymous_id, event_id, stream_id
    ORDER BY at DESC, stream_id DESC
    LIMIT {most:Int64}";

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

/// One distinct id of each of some persons, an identified one where there is one.
///
/// # Errors
/// PostgreSQL's.
pub async fn known_as(
    postgres: &Postgres,
    persons: &[PersonId],
) -> Result<HashMap<PersonId, DistinctId>, StoreError> {
    let sql = "
        SELECT DISTINCT ON (person_id) person_id, distinct_id FROM person_distinct_ids
        WHERE person_id = ANY($1) ORDER BY person_id, identified_at IS NULL, distinct_id";
    let rows = postgres
        .query("reading distinct ids", sql, &[(&persons as _, Type::UUID_ARRAY)])
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A merge that was asked for and refused, and the event that asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, clickhouse::Row)]
pub struct RefusedMerge {
    /// When, in UTC.
    pub at: String,
    /// The event's distinct id.
    pub distinct_id: String,
    /// The event's anonymous id, which belonged to another identified user; empty where an earlier version did not note it.
    pub anonymous_id: String,
    /// The event; empty likewise.
    pub event_id: String,
    /// The event's entry in the stream; empty likewise.
    pub stream_id: String,
}

/// The newest merges that were refused of some distinct ids, newest first. Warnings are kept for 30 days.
///
/// # Errors
/// ClickHouse's.
pub async fn refused_merges(
    clickhouse: &ClickHouse,
    project: ProjectId,
    ids: &[DistinctId],
    most: i64,
) -> Result<Vec<RefusedMerge>, StoreError> {
    let query = clickhouse
        .query(REFUSED)
        .param("project", project.to_string())
        .param("type", WarningKind::MergeRefused.as_str())
        .param("ids", ids.iter().map(|id| &**id).collect::<Vec<_>>())
        .param("most", most);
    clickhouse.rows("reading refused merges", query).await
}
