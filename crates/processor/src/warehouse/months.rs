//! Inserts in parts by calendar month: what the table is partitioned by.

use rustc_hash::FxHashSet;

use crate::event::Batch;

/// The engine refuses a block that spans more than a hundred partitions (months).
const MOST_MONTHS: usize = 90;
const SHORTEST_MONTH_MS: i64 = 28 * 86_400_000;

/// Splits rows so that no part spans more months than one insert may.
pub(super) fn by_months(batch: &Batch, mut rows: Vec<usize>) -> Vec<Vec<usize>> {
    let month = |row: &usize| month(batch.events[*row].timestamp);
    let times = || rows.iter().map(|row| batch.events[*row].timestamp);
    let (first, last) = (
        times().min().unwrap_or_default(),
        times().max().unwrap_or_default(),
    );
    if last - first < SHORTEST_MONTH_MS * (MOST_MONTHS as i64 - 2) {
        return vec![rows];
    }
    rows.sort_by_key(month);
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut in_part: FxHashSet<i64> = FxHashSet::default();
    for row in rows {
        let month = month(&row);
        if parts.is_empty() || (in_part.len() >= MOST_MONTHS && !in_part.contains(&month)) {
            parts.push(Vec::new());
            in_part.clear();
        }
        in_part.insert(month);
        if let Some(part) = parts.last_mut() {
            part.push(row);
        }
    }
    parts
}

/// The calendar month of a time in UTC milliseconds, counted from the year 0: what the table is partitioned by.
fn month(ms: i64) -> i64 {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
    i64::from(date.year()) * 12 + i64::from(date.month())
}
