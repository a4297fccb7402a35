//! What is measured, by name: its unit, and which way is better.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Lower,
    Higher,
    /// Says under what circumstances the others were measured.
    Neither,
}

/// What one run of a scenario measured, by the names in [`FIGURES`].
pub(crate) type Run = Vec<(&'static str, f64)>;

/// A figure of a scenario: the median of its runs, and all of them in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) median: f64,
    pub(crate) runs: Vec<f64>,
}

/// Name, unit, better, meaning; µs are of CPU time, user and system, of a process and its children.
#[rustfmt::skip]
pub(crate) const FIGURES: &[(&str, &str, Better, &str)] = &[
    ("rate", "events/s", Better::Higher, "from the first read until everything is acknowledged"),
    ("shared_rate", "events/s", Better::Higher, "of all instances, from the first read until everything is acknowledged"),
    ("instances", "", Better::Neither, "that share the streams out among themselves"),
    ("of_chain", "%", Better::Higher, "the rate in hundredths of the limit of the chain, of the same run"),
    ("worker_us", "µs/event", Better::Lower, "the worker's CPU"),
    ("redis_us", "µs/event", Better::Lower, "Redis's CPU"),
    ("postgres_us", "µs/event", Better::Lower, "PostgreSQL's CPU"),
    ("clickhouse_us", "µs/event", Better::Lower, "ClickHouse's CPU, until its merges are over"),
    ("redis_bytes", "bytes/event", Better::Lower, "written by Redis"),
    ("postgres_bytes", "bytes/event", Better::Lower, "written by PostgreSQL"),
    ("clickhouse_bytes", "bytes/event", Better::Lower, "written by ClickHouse, until its merges are over"),
    ("body_bytes", "bytes/row", Better::Lower, "sent to ClickHouse"),
    ("inserts", "", Better::Lower, "inserts, into every table"),
    ("parts", "", Better::Lower, "parts that inserts made, in every table"),
    ("merged_rows", "rows/event", Better::Lower, "rows that merges wrote, projections not counted"),
    ("worker_mb", "MB", Better::Lower, "the worker's peak memory"),
    ("clickhouse_mb", "MB", Better::Lower, "ClickHouse's peak memory"),
    ("startup_ms", "ms", Better::Lower, "from the worker's start to its first read"),
    ("read_rate", "events/s", Better::Neither, "limit: read and acknowledge"),
    ("read_us", "µs/event", Better::Neither, "limit: read and acknowledge, client and Redis"),
    ("insert_rate", "rows/s", Better::Neither, "limit: insert, one client"),
    ("insert_us", "µs/row", Better::Neither, "limit: insert, client and engine until its merges are over"),
    ("insert_merged", "rows/row", Better::Neither, "limit: insert, rows that merges wrote until they were over"),
    ("chain_rate", "events/s", Better::Neither, "limit: all cores do nothing else than both"),
    ("age_p50_ms", "ms", Better::Lower, "from when an event was due to when its insert was answered"),
    ("age_p99_ms", "ms", Better::Lower, "the same, of 99 % of the events"),
    ("age_p999_ms", "ms", Better::Lower, "the same, of 99.9 % of the events"),
    ("age_max_ms", "ms", Better::Lower, "the same, of all"),
    ("inserts_rate", "inserts/s", Better::Lower, "inserts, into every table"),
    ("cores", "cores", Better::Lower, "that the worker and the services keep busy"),
    ("outage_s", "s", Better::Neither, "ClickHouse stood still for so long"),
    ("caught_up_s", "s", Better::Lower, "from its return until events land as young as before"),
    ("catch_up_rate", "events/s", Better::Higher, "landed in that time"),
    ("normal_ms", "ms", Better::Lower, "oldest event at landing before the outage"),
    ("reload_s", "s", Better::Lower, "loading the dictionary of overrides"),
    ("dictionary_mb", "MB", Better::Lower, "that dictionary"),
    ("cohorts_s", "s", Better::Lower, "a cycle over five cohorts"),
    ("audit_s", "s", Better::Lower, "`person audit`"),
    ("audit_mb", "MB", Better::Lower, "`person audit`, peak memory"),
    ("status_s", "s", Better::Lower, "`status`"),
    ("show_s", "s", Better::Lower, "`person show`"),
    ("others", "%", Better::Neither, "share of the machine that other processes used meanwhile"),
];

/// The figures of some runs.
pub(crate) fn gathered(runs: &[Run]) -> BTreeMap<String, Figure> {
    let mut figures = BTreeMap::new();
    for (name, unit, better, _) in FIGURES {
        let of = |run: &Run| {
            run.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| *value)
        };
        let runs: Vec<f64> = runs.iter().filter_map(of).collect();
        if let Some(median) = median(&runs) {
            let (unit, better) = ((*unit).to_owned(), *better);
            let figure = Figure {
                unit,
                better,
                median,
                runs,
            };
            figures.insert((*name).to_owned(), figure);
        }
    }
    figures
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The value below which such a share of sorted ones lies.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
