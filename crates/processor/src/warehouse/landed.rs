//! Which rows are in the warehouse already: asked only for entries that were delivered before.

use rustc_hash::FxHashSet;
use uuid::Uuid;

use crate::event::{Batch, Field};
use crate::stores::{ClickHouse, StoreError};

/// Rows asked for in one query: keeps its parameters well below the engine's limits.
const ROWS_PER_QUERY: usize = 1_000;

/// By sort key: the four arrays are the keys, so that the primary index is used.
const LOOK_UP: &str = "
    SELECT DISTINCT project_id, event_name, toUnixTimestamp64Milli(timestamp) AS at, event_id
    FROM events
    WHERE (project_id, event_name, timestamp, event_id) IN (
        SELECT k.1, k.2, fromUnixTimestamp64Milli(k.3, 'UTC'), k.4
        FROM (SELECT arrayJoin(arrayZip(
            {projects:Array(UUID)}, {names:Array(String)}, {times:Array(Int64)}, {ids:Array(UUID)})) AS k))";

/// Inserts of this program that the server is working on, except those of `own`. Known by their comment: unlike a
/// query id, it may be anything and need not be unique.
const RUNNING: &str = "
    SELECT Settings['log_comment'] AS comment FROM system.processes
    WHERE startsWith(comment, {prefix:String}) AND NOT startsWith(comment, {own:String})";

#[derive(clickhouse::Row, serde::Deserialize, PartialEq, Eq, Hash)]
struct SortKey {
    #[serde(with = "clickhouse::serde::uuid")]
    project_id: Uuid,
    event_name: String,
    at: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    event_id: Uuid,
}

/// Indices, among `wanted`, of events whose rows are there already.
///
/// # Errors
/// Classified by the engine's code.
pub async fn among(
    clickhouse: &ClickHouse,
    batch: &Batch,
    wanted: &[usize],
) -> Result<FxHashSet<usize>, StoreError> {
    let mut landed = FxHashSet::default();
    for indices in wanted.chunks(ROWS_PER_QUERY) {
        let events = || indices.iter().map(|i| &batch.events[*i]);
        let query = clickhouse
            .query(LOOK_UP)
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
            .rows::<SortKey>("looking up rows", query)
            .await?
            .into_iter()
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

/// Comments of inserts by other workers, or by a dead predecessor, that are still running in the server.
///
/// # Errors
/// Classified by the engine's code.
pub async fn running(
    clickhouse: &ClickHouse,
    prefix: &str,
    own: &str,
) -> Result<FxHashSet<String>, StoreError> {
    let query = clickhouse
        .query(RUNNING)
        .param("prefix", prefix)
        .param("own", own);
    Ok(clickhouse
        .rows("looking for running inserts", query)
        .await?
        .into_iter()
        .collect())
}
