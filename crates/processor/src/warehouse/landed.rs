//! Which rows are in the warehouse already, on whichever replica: asked only for rows that may have been sent before.

use std::time::Duration;

use rustc_hash::FxHashSet;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event::{Batch, Event, Field, ProjectId};
use crate::stores::{ClickHouse, FailureKind, StoreError};

/// Rows asked for in one query.
const ROWS_PER_QUERY: usize = 1_000;

/// Bytes of event names in one query, at most. The server refuses a parameter of more than 128 KiB
/// (`http_max_field_value_size`), which holds them escaped and quoted.
const NAME_BYTES_PER_QUERY: usize = 30_000;
/// An event name longer than any that ingest takes (255 characters of four bytes) is not asked for: thousands of such rows
/// would take thousands of queries.
const LONGEST_NAME_ASKED_FOR: usize = 1_020;

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

/// The same for names that are too long to be asked for, and to be answered: what comes back is their digest.
const LOOK_UP_LONG_NAMES: &str = "
    SELECT groupArray(toString(project_id)) AS projects, groupArray(digest) AS names, groupArray(at) AS times,
        groupArray(toString(event_id)) AS ids
    FROM (
        SELECT DISTINCT project_id, hex(SHA256(event_name)) AS digest, toUnixTimestamp64Milli(timestamp) AS at, event_id
        FROM @
        WHERE (project_id, timestamp, event_id) IN (
            SELECT k.1, fromUnixTimestamp64Milli(k.2, 'UTC'), k.3
            FROM (SELECT arrayJoin(arrayZip(
                {projects:Array(UUID)}, {times:Array(Int64)}, {ids:Array(UUID)})) AS k)))";

/// By project alone, which is how far the sort key helps: the ids of all its events may have to be read. In one row, as
/// above.
const OF_IDS: &str = "
    SELECT groupArray((toString(event_id), event_name, formatDateTime(timestamp, '%FT%TZ', 'UTC')))
    FROM (
        SELECT event_id, event_name, timestamp FROM @
        WHERE project_id IN {projects:Array(UUID)} AND event_id IN {ids:Array(UUID)}
        LIMIT 1)";

/// Inserts of this program that the server is working on, of one database. Known by their comment: unlike a query id, it
/// may be anything and need not be unique. Of what another server has begun the database may be unknown: such an insert
/// counts. In one row, as above.
const RUNNING: &str = "
    SELECT groupArray(Settings['log_comment'] AS comment) FROM @
    WHERE startsWith(comment, {prefix:String}) AND (current_database = {database:String} OR NOT is_initial_query)";

/// Rows that were found, a column each; names, or their digests.
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
/// [`FailureKind::Transient`] always: that the engine refuses to look says nothing against a row.
pub(crate) async fn among(
    clickhouse: &ClickHouse,
    batch: &Batch,
    wanted: &[usize],
) -> Result<FxHashSet<usize>, StoreError> {
    let name_of = |index: usize| batch.text(&batch.events[index], Field::EventName);
    let mut landed = FxHashSet::default();
    for piece in pieces(wanted, |index| name_of(index).len()) {
        let found = look_up(clickhouse, batch, &piece)
            .await
            .map_err(|error| StoreError {
                kind: FailureKind::Transient,
                ..error
            })?;
        landed.extend(piece.rows.iter().copied().filter(|index| {
            let event = &batch.events[*index];
            found.contains(&SortKey {
                project_id: event.project,
                event_name: piece.named(name_of(*index)),
                at: event.timestamp,
                event_id: event.event_id,
            })
        }));
    }
    Ok(landed)
}

async fn look_up(
    clickhouse: &ClickHouse,
    batch: &Batch,
    piece: &Piece,
) -> Result<FxHashSet<SortKey>, StoreError> {
    let events = || piece.rows.iter().map(|index| &batch.events[*index]);
    let texts = |text: fn(&Event) -> String| events().map(text).collect::<Vec<_>>();
    let sql = if piece.is_long {
        LOOK_UP_LONG_NAMES
    } else {
        LOOK_UP
    };
    let mut query = clickhouse
        .query_of_all_replicas(sql, "events")
        .await?
        .param("projects", texts(|event| event.project.to_string()))
        .param("times", events().map(|event| event.timestamp).collect::<Vec<_>>())
        .param("ids", texts(|event| event.event_id.to_string()));
    if !piece.is_long {
        let names = events().map(|event| batch.text(event, Field::EventName));
        query = query.param("names", names.collect::<Vec<_>>());
    }
    let found = clickhouse.row::<Found>("looking up rows", query).await?;
    Ok(found.into_keys().collect())
}

/// Rows that are asked for in one query.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    rows: Vec<usize>,
    /// Their names are too long to be asked for.
    is_long: bool,
}

impl Piece {
    /// What stands for a name in the answer.
    fn named(&self, name: &str) -> String {
        if self.is_long {
            format!("{:X}", Sha256::digest(name))
        } else {
            name.to_owned()
        }
    }
}

/// Splits rows into queries, by the length of each one's event name.
fn pieces(rows: &[usize], name_bytes: impl Fn(usize) -> usize) -> Vec<Piece> {
    let is_long = |row: &usize| name_bytes(*row) > LONGEST_NAME_ASKED_FOR;
    let (long, short): (Vec<usize>, Vec<usize>) = rows.iter().partition(|row| is_long(row));
    let piece = |rows: &[usize], is_long| Piece {
        rows: rows.to_vec(),
        is_long,
    };
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (place, row) in short.iter().enumerate() {
        let more = name_bytes(*row);
        if place - first == ROWS_PER_QUERY || bytes + more > NAME_BYTES_PER_QUERY {
            pieces.push(piece(&short[first..place], false));
            (first, bytes) = (place, 0);
        }
        bytes += more;
    }
    if first < short.len() {
        pieces.push(piece(&short[first..], false));
    }
    pieces.extend(long.chunks(ROWS_PER_QUERY).map(|rows| piece(rows, true)));
    pieces
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

/// Comments of inserts into this database that are running in the server, whichever instance began them, where they begin
/// with `prefix`.
///
/// # Errors
/// Classified by the engine's code.
pub(crate) async fn running(clickhouse: &ClickHouse, prefix: &str) -> Result<FxHashSet<String>, StoreError> {
    let query = clickhouse
        .query_of_all_replicas(RUNNING, "system.processes")
        .await?;
    let query = query
        .param("prefix", prefix)
        .param("database", clickhouse.database());
    let comments: Vec<String> = clickhouse.row("looking for running inserts", query).await?;
    Ok(comments.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(name_bytes: &[usize]) -> Vec<(usize, bool)> {
        let rows: Vec<usize> = (0..name_bytes.len()).collect();
        let pieces = pieces(&rows, |row| name_bytes[row]);
        let mut all: Vec<usize> = pieces.iter().flat_map(|piece| piece.rows.clone()).collect();
        all.sort_unstable();
        assert_eq!(all, rows, "each row is asked for once");
        pieces
            .iter()
            .map(|piece| (piece.rows.len(), piece.is_long))
            .collect()
    }

    #[test]
    fn a_query_asks_for_a_thousand_rows_and_for_no_more_names_than_a_parameter_takes() {
        assert_eq!(lengths(&[]), []);
        assert_eq!(lengths(&[10; 1000]), [(1000, false)]);
        assert_eq!(lengths(&[10; 2001]), [(1000, false), (1000, false), (1, false)]);
        assert_eq!(lengths(&[1000; 70]), [(30, false), (30, false), (10, false)]);
    }

    #[test]
    fn a_long_name_is_not_asked_for() {
        assert_eq!(lengths(&[5, 1020, 1021, 5]), [(3, false), (1, true)]);
        assert_eq!(lengths(&[200_000; 1001]), [(1000, true), (1, true)]);
        assert_eq!(lengths(&[20_000; 2000]), [(1000, true), (1000, true)]);
    }
}
