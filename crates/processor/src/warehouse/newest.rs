//! When the newest row came, without looking at all rows: the engine numbers its blocks, and says when a part was made.

use std::collections::BTreeMap;

use crate::stores::{ClickHouse, StoreError};

/// Of each partition the part that holds the newest block: of the months in which events happen now, then the one that was
/// made last first. Old months are made anew as well, by mutations.
const PARTS: &str = "
    SELECT argMax(name, max_block_number) AS part, toInt64(toUnixTimestamp(argMax(modification_time, max_block_number))) AS made
    FROM system.parts
    WHERE database = currentDatabase() AND table = 'events' AND active
    GROUP BY partition_id
    ORDER BY partition_id BETWEEN toString(toYYYYMM(now() - INTERVAL 31 DAY)) AND toString(toYYYYMM(now() + INTERVAL 1 DAY)) DESC,
        made DESC";

/// The newest row of a part; nothing when the part is gone.
const NEWEST: &str = "
    SELECT toUnixTimestamp64Milli(max(ingested_at)) AS at_ms
    FROM events WHERE _part = {part:String} HAVING count() > 0";

/// Of the newest month only: bounded, whatever the table holds. Where nothing is said of parts.
const OF_A_MONTH: &str = "
    SELECT toUnixTimestamp64Milli(max(ingested_at)) AS at_ms
    FROM events WHERE timestamp > now() - INTERVAL 31 DAY HAVING count() > 0";

/// Parts looked at in one go, at most: more than one only when an older month was merged after the last insert.
const MOST_PARTS: usize = 8;

#[derive(clickhouse::Row, serde::Deserialize)]
struct Part {
    part: String,
    /// In seconds.
    made: i64,
}

#[derive(Debug, Clone, Copy, clickhouse::Row, serde::Deserialize)]
struct Row {
    at_ms: i64,
}

/// Parts never change: what was read of one is remembered for as long as it is among the newest.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    of_parts: BTreeMap<String, Row>,
}

impl Newest {
    /// When the newest row came, in milliseconds since the epoch, as far as there is any.
    ///
    /// # Errors
    /// ClickHouse's.
    pub(crate) async fn row(&mut self, clickhouse: &ClickHouse) -> Result<Option<i64>, StoreError> {
        const DURING: &str = "reading the newest row";
        // Not every user may read the engine's own tables.
        let parts: Vec<Part> = clickhouse
            .rows(DURING, clickhouse.query(PARTS))
            .await
            .unwrap_or_default();
        self.of_parts
            .retain(|name, _| parts.iter().any(|part| part.part == *name));
        let mut newest: Option<Row> = None;
        for Part { part, made } in parts.into_iter().take(MOST_PARTS) {
            // No row is younger than the part that holds it.
            if newest.as_ref().is_some_and(|newest| newest.at_ms / 1000 > made) {
                continue;
            }
            let row = match self.of_parts.get(&part) {
                Some(row) => Some(*row),
                None => clickhouse
                    .rows::<Row>(DURING, clickhouse.query(NEWEST).param("part", &part))
                    .await?
                    .pop(),
            };
            if let Some(row) = row {
                self.of_parts.insert(part, row);
                let is_newer = newest.as_ref().is_none_or(|newest| newest.at_ms < row.at_ms);
                newest = if is_newer { Some(row) } else { newest };
            }
        }
        if newest.is_none() {
            let rows = clickhouse
                .rows::<Row>(DURING, clickhouse.query(OF_A_MONTH))
                .await?;
            newest = rows.into_iter().next();
        }
        Ok(newest.map(|row| row.at_ms))
    }
}
