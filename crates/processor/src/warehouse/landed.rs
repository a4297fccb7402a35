//! Which rows are in the warehouse already, on whichever replica: asked only for entries that were delivered before.

use std::time::Duration;

use rustc_hash::FxHashSet;
use uuid::Uuid;

use crate::event::{Batch, Field, ProjectId};
use crate::stores::{ClickHouse, StoreError};

/// Rows asked for in one query: keeps its parameters well below the engine's limits.
const ROWS_PER_QUERY: usize = 1_000;

/// By sort key: the four arrays are the keys, so that the primary index is used. One row holds all that is found: of an
/// answer that is cut off nothing can be taken for "not there".
const LOOK_UP: &str = "
    SELECT groupArray(toString(project_id)) AS projects, groupArray(event_name) AS names, groupArray(at) AS times,
        groupArray(toString(event_id)) AS ids
    FROM (
        SELECT DISTINCT project_id, event_name, toUnixTimestamp64Milli(timestamp) AS at, event_id
        FROM @
        WHERE (project_id, event_name, timestamp, event_id) IN (
            SELECT k.1, k.2, fromUnixTimestamp64Milli(k.3, 'UTC'), k.4
            FROM (SELECT arrayJoin(arrayZip(
                {projects:Array(UUID)}, {names:Array(String)}, {times:Array(Int64)}, {ids:Array(UUID)})) AS k)))";

/// By project alone, which is how far the sort key helps: the ids of all its events may have to be read. In one row, as
/// above.
const OF_IDS: &str = "
    SELECT groupArray((toString(event_id), event_name, formatDateTime(timestamp, '%FT%TZ', 'UTC')))
    FROM (
        SELECT event_id, event_name, timestamp FROM @
        WHERE project_id IN {projects:Array(UUID)} AND event_id IN {ids:Array(UUID)}
        LIMIT 1)";

/// Inserts of this program that the server is working on, except those of `own`. Known by their comment: unlike a
/// query id, it may be anything and need not be unique. In one row, as above.
const RUNNING: &str = "
    SELECT groupArray(Settings['log_comment'] AS comment) FROM @
    WHERE startsWith(comment, {prefix:String}) AND NOT startsWith(comment, {own:String})";

/// Rows that were found, a column each.
#[derive(clickhouse::Row, serde::Deserialize)]
struct Found {
    projects: Vec<String>,
    names: Vec<String>,
    times: Vec<i64>,
    ids: Vec<String>,
}

impl Found {
    fn into_keys(self) -> impl Iterator<Item = SortKey> {
        let ids = self.projects.into_iter().zip(self.ids);
        let rest = self.names.into_iter().zip(self.times);
        ids.zip(rest)
            .filter_map(|((project, event_id), (event_name, at))| {
                Some(SortKey {
                    project_id: project.parse().ok()?,
                    event_name,
                    at,
                    event_id: event_id.parse().ok()?,
                })
            })
    }
}

#[derive(PartialEq, Eq, Hash)]
struct SortKey {
    project_id: ProjectId,
    event_name: String,
    at: i64,
    event_id: Uuid,
}

/// Indices, among `wanted`, of events whose rows are there already.
///
/// # Errors
/// Classified by the engine's code.
pub(crate) async fn among(
    clickhouse: &ClickHouse,
    batch: &Batch,
    wanted: &[usize],
) -> Result<FxHashSet<usize>, StoreError> {
    let mut landed = FxHashSet::default();
    for indices in wanted.chunks(ROWS_PER_QUERY) {
        let events = || indices.iter().map(|i| &batch.events[*i]);
        let query = clickhouse.query_of_all_replicas(LOOK_UP, "events").await?;
        let query = query
            .param(
                "projects",
                events().map(|e| e.project.to_string()).collect::<Vec<_>>(),
            )
            .param(
                "names",
                events()
                    .map(|e| batch.text(e, Field::EventName))
                    .collect::<Vec<_>>(),
            )
            .param("times", events().map(|e| e.timestamp).collect::<Vec<_>>())
            .param(
                "ids",
                events().map(|e| e.event_id.to_string()).collect::<Vec<_>>(),
            );
        let found: FxHashSet<SortKey> = clickhouse
            .row::<Found>("looking up rows", query)
            .await?
            .into_keys()
            .collect();
        landed.extend(indices.iter().copied().filter(|index| {
            let event = &batch.events[*index];
            found.contains(&SortKey {
                project_id: event.project,
                event_name: batch.text(event, Field::EventName).to_owned(),
                at: event.timestamp,
                event_id: event.event_id,
            })
        }));
    }
    Ok(landed)
}

/// A row as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenRow {
    /// Its event id.
    pub event_id: String,
    /// Its event name.
    pub event_name: String,
    /// Its time, ISO 8601, to the second.
    pub time: String,
}

/// A row of one of these projects with one of these event ids, whatever its name and time. The engine gives up after
/// `limit`.
///
/// # Errors
/// Classified by the engine's code.
pub(crate) async fn of_ids(
    clickhouse: &ClickHouse,
    projects: &[ProjectId],
    ids: &[Uuid],
    limit: Duration,
) -> Result<Option<SeenRow>, StoreError> {
    let projects: Vec<String> = projects.iter().map(ToString::to_string).collect();
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let query = clickhouse.query_of_all_replicas(OF_IDS, "events").await?;
    let query = query
        .with_setting("max_execution_time", limit.as_secs().max(1).to_string())
        // Whatever a profile says: half an answer is none.
        .with_setting("timeout_overflow_mode", "throw")
        .param("projects", projects)
        .param("ids", ids);
    let rows: Vec<(String, String, String)> =
        clickhouse.row("looking for rows of an event id", query).await?;
    let row = rows.into_iter().next();
    Ok(row.map(|(event_id, event_name, time)| SeenRow {
        event_id,
        event_name,
        time,
    }))
}

/// Whether there is no row at all.
///
/// # Errors
/// Classified by the engine's code.
pub(crate) async fn none_at_all(clickhouse: &ClickHouse) -> Result<bool, StoreError> {
    let any = "SELECT count() FROM (SELECT 1 FROM @ LIMIT 1)";
    let query = clickhouse.query_of_all_replicas(any, "events").await?;
    let rows: u64 = clickhouse.row("looking for any row", query).await?;
    Ok(rows == 0)
}

/// Comments of inserts by other workers, or by a dead predecessor, that are still running in the server.
///
/// # Errors
/// Classified by the engine's code.
pub(crate) async fn running(
    clickhouse: &ClickHouse,
    prefix: &str,
    own: &str,
) -> Result<FxHashSet<String>, StoreError> {
    let query = clickhouse
        .query_of_all_replicas(RUNNING, "system.processes")
        .await?;
    let query = query.param("prefix", prefix).param("own", own);
    let comments: Vec<String> = clickhouse.row("looking for running inserts", query).await?;
    Ok(comments.into_iter().collect())
}
