//! A run for people, and beside another one.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::figures::{Better, Figure};
use crate::report::{Outcome, Report};

/// Medians that differ by less are the same, whatever their runs say.
const SAME: f64 = 0.05;

/// A heading, and the figures that stand under short names. Scenarios have a row where they have the first of them.
type Layout = (&'static str, &'static [(&'static str, &'static str)]);

#[rustfmt::skip]
const LAYOUTS: &[Layout] = &[
    ("Draining a full stream; events/s, µs of CPU time per event, and the limits of the same runs", &[
        ("rate", "rate"), ("worker_us", "worker"), ("redis_us", "Redis"), ("postgres_us", "PostgreSQL"),
        ("clickhouse_us", "ClickHouse"), ("read_rate", "read/s"), ("read_us", "read"), ("insert_rate", "rows/s"),
        ("insert_us", "insert"), ("chain_rate", "limit/s"), ("of_chain", "%"),
    ]),
    ("Several streams on a Redis Cluster; events/s, µs of CPU time per event of all instances and nodes", &[
        ("shared_rate", "rate"), ("instances", "instances"), ("worker_us", "workers"), ("redis_us", "nodes"),
        ("postgres_us", "PostgreSQL"), ("clickhouse_us", "ClickHouse"), ("parts", "parts"), ("worker_mb", "largest MB"),
        ("others", "others"),
    ]),
    ("What else it takes; ms until the first read, bytes per event written to files, peak memory in MB", &[
        ("startup_ms", "start"), ("redis_bytes", "Redis"), ("postgres_bytes", "PostgreSQL"),
        ("clickhouse_bytes", "ClickHouse"), ("body_bytes", "sent"), ("parts", "parts"),
        ("merged_rows", "merged"), ("insert_merged", "limit's"), ("worker_mb", "worker"),
        ("clickhouse_mb", "engine"), ("others", "others"),
    ]),
    ("At a rate; age at landing in ms, µs of CPU time per event", &[
        ("age_p50_ms", "p50"), ("age_p99_ms", "p99"), ("age_p999_ms", "p99.9"),
        ("worker_us", "worker"), ("redis_us", "Redis"), ("postgres_us", "PostgreSQL"), ("clickhouse_us", "ClickHouse"),
        ("inserts_rate", "inserts/s"), ("cores", "cores"), ("worker_mb", "MB"), ("others", "others"),
    ]),
    ("Catching up", &[
        ("caught_up_s", "seconds"), ("outage_s", "outage s"), ("catch_up_rate", "events/s"), ("normal_ms", "usual age ms"),
        ("worker_mb", "worker MB"), ("others", "others"),
    ]),
    ("Cohorts and commands; seconds", &[
        ("cohorts_s", "cycle of five"), ("audit_s", "audit"), ("audit_mb", "audit MB"), ("status_s", "status"),
        ("show_s", "a person"), ("reload_s", "dictionary"), ("dictionary_mb", "its MB"), ("others", "others"),
    ]),
];

/// All that was measured.
pub(crate) fn show(report: &Report) -> String {
    tables(report, |_, (_, figure)| number(figure.median))
}

/// What was measured as a multiple of `before`; marked where it is more than noise.
pub(crate) fn compare(report: &Report, before: &Report) -> String {
    let tables = tables(report, |scenario, (name, figure)| {
        let known = before.scenarios.iter().find(|known| known.name == scenario.name);
        let known =
            known.filter(|known| (known.persons, known.events) == (scenario.persons, scenario.events));
        known
            .and_then(|known| known.figures.get(name))
            .map_or_else(String::new, |known| ratio(figure, known))
    });
    format!(
        "As multiples of {} ({}); + is better and ! is worse than noise: medians apart by {:.0} %\n\
         or more, and no run of one within the runs of the other\n{tables}",
        before.taken_at,
        before.commit,
        SAME * 100.0
    )
}

fn tables(report: &Report, cell: impl Fn(&Outcome, (&str, &Figure)) -> String) -> String {
    let mut text = String::new();
    for (heading, columns) in LAYOUTS {
        let has = |outcome: &&Outcome| outcome.figures.contains_key(columns[0].0);
        let outcomes: Vec<&Outcome> = report.scenarios.iter().filter(has).collect();
        if outcomes.is_empty() {
            continue;
        }
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(std::iter::once("scenario").chain(columns.iter().map(|(_, short)| *short)));
        for outcome in outcomes {
            let cells = columns.iter().map(|(name, _)| {
                let figure = outcome.figures.get(*name);
                figure.map_or_else(String::new, |figure| cell(outcome, (name, figure)))
            });
            table.add_row(std::iter::once(outcome.name.clone()).chain(cells));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        text.push_str(&format!("\n{heading}\n{table}\n"));
    }
    text
}

/// As many digits as mean something.
fn number(value: f64) -> String {
    match value.abs() {
        whole if whole >= 100.0 || whole.fract() == 0.0 => grouped(value),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let from_end = digits.chars().rev().enumerate();
    let mut reversed = String::new();
    for (n, digit) in from_end {
        if n > 0 && n % 3 == 0 && digit.is_ascii_digit() {
            reversed.push(',');
        }
        reversed.push(digit);
    }
    reversed.chars().rev().collect()
}

fn ratio(now: &Figure, before: &Figure) -> String {
    let ratio = now.median / before.median;
    if !ratio.is_finite() {
        return String::new();
    }
    let mark = match (is_noise(now, before), now.better) {
        (true, _) | (_, Better::Neither) => " ",
        (false, better) if (ratio > 1.0) == (better == Better::Higher) => "+",
        (false, _) => "!",
    };
    format!("{ratio:.2}{mark}")
}

fn is_noise(one: &Figure, other: &Figure) -> bool {
    let bounds = |figure: &Figure| {
        let runs = figure.runs.iter().copied();
        (
            runs.clone().fold(f64::INFINITY, f64::min),
            runs.fold(f64::NEG_INFINITY, f64::max),
        )
    };
    let ((lowest, highest), (low, high)) = (bounds(one), bounds(other));
    let overlap = lowest <= high && low <= highest;
    overlap || (one.median / other.median - 1.0).abs() < SAME
}
