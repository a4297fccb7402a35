//! Numbers for Prometheus: every metric's name and meaning, once, and one function for each thing that is counted.
//!
//! Nothing else names a metric. What is counted is counted per batch, never per event; while no client listens
//! (`METRICS_LISTEN` is unset) every function here does nothing.

#![allow(clippy::disallowed_macros, reason = "the only place that names a metric")]

use std::future::Future;
use std::time::Instant;

use ::metrics::{counter, gauge, histogram};

use crate::logs::writer::LOG;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

/// A metric as people read about it: in the endpoint's own text and in docs/operations.md.
pub(crate) struct Metric {
    /// Its full name.
    pub(crate) name: &'static str,
    /// How it counts.
    pub(crate) kind: Kind,
    help: &'static str,
}

/// Declares the metrics as constants, and all of them as a table.
macro_rules! declare {
    ($($constant:ident, $kind:expr, $name:literal, $help:literal;)*) => {
        $(const $constant: &str = concat!("qurvo_processor_", $name);)*
        pub(crate) const METRICS: &[Metric] = &[$(Metric { name: $constant, kind: $kind, help: $help }),*];
    };
}

const EVENTS_AN_INSERT: Kind = Kind::Histogram(&[
    1.0, 10.0, 100.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0,
]);
const SECONDS: Kind = Kind::Histogram(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
]);

declare! {
    STREAM_LENGTH, Kind::Gauge, "stream_entries", "Entries in the stream, consumed ones included.";
    STREAM_LAG, Kind::Gauge, "stream_lag_entries", "Entries that the group has not read; NaN when Redis cannot say.";
    STREAM_PENDING, Kind::Gauge, "stream_pending_entries", "Entries read and not acknowledged, by any instance.";
    STREAM_OLDEST, Kind::Gauge, "stream_oldest_pending_age_seconds", "Since the oldest of them was sent; 0 without any.";
    LOST, Kind::Counter, "entries_lost_upstream_total", "Entries that were trimmed off the stream while pending, or before any instance read them.";
    HELD_EVENTS, Kind::Gauge, "held_events", "Events in this instance's memory.";
    HELD_BYTES, Kind::Gauge, "held_bytes", "Their bytes.";
    PAUSED, Kind::Gauge, "reading_paused", "1 while reading is paused because a store is away.";
    STATE, Kind::Gauge, "state", "1 for what this instance does now, 0 for the rest, by `state`: `starting`, `waiting`, `serving`, `paused`, `stopping`.";
    STORE_AWAY, Kind::Gauge, "store_away", "1 while this instance finds the store away, by `store`.";
    OPERATOR, Kind::Gauge, "store_needs_operator", "1 while the store is away for a reason that no waiting mends: a password, a right, a name, TLS; by `store`.";
    UNANSWERED, Kind::Gauge, "store_unanswered_seconds", "Since a request to the store is without an answer while nothing else is answered either, from eight seconds on; 0 otherwise; by `store`.";
    HEARTBEAT, Kind::Gauge, "heartbeat_age_seconds", "Since this instance has written its heartbeat file; NaN while it has none.";
    SETTLED, Kind::Counter, "events_settled_total", "Events whose rows are durable and whose entries are acknowledged.";
    BATCH, EVENTS_AN_INSERT, "batch_events", "Events that were settled together: in one insert, as a rule.";
    STORE_SECONDS, SECONDS, "store_seconds", "What the stores took for a batch, by `store`: PostgreSQL's transaction, ClickHouse's insert, Redis's acknowledgement.";
    ATTEMPTS_FAILED, Kind::Counter, "attempts_failed_total", "Attempts that failed and may help when repeated, by `store`.";
    REJECTED, Kind::Counter, "events_rejected_total", "Events refused for good, by `reason`.";
    NO_PROJECT, Kind::Gauge, "no_project_exists", "1 while PostgreSQL's table `projects` has no row, as this instance saw it last: events wait.";
    MOSTLY_UNKNOWN, Kind::Gauge, "mostly_unknown_projects", "1 when at least 90 % of at least 1,000 events in the last two minutes of traffic were of unknown projects.";
    RING, Kind::Gauge, "rejected_entries", "Entries in the ring `events:rejected`.";
    EVICTED, Kind::Counter, "rejected_evicted_total", "Rejected events that the ring has dropped for newer ones.";
    SET_ASIDE, Kind::Counter, "dead_letters_added_total", "Events set aside as dead letters, by `reason`.";
    REPLAYED, Kind::Counter, "dead_letters_replayed_total", "Dead letters that have left the queue by being replayed.";
    LETTERS, Kind::Gauge, "dead_letters", "Events in the dead-letter queue.";
    OLDEST_LETTER, Kind::Gauge, "dead_letter_oldest_age_seconds", "Since the oldest of them was set aside; 0 without any.";
    CIRCUIT, Kind::Gauge, "replay_circuit_open", "1 while no instance replays dead letters because stores failed too often.";
    MERGES, Kind::Counter, "merges_total", "Merges of persons that an `$identify` asked for, by `outcome`: `done`, `refused`.";
    REDIRECTED, Kind::Counter, "distinct_ids_redirected_total", "Distinct ids that merges have given to another person at once.";
    LOG_LINES_LOST, Kind::Counter, "log_lines_lost_total", "Log lines that could not be written, or not as fast as they came.";
    COHORTS, Kind::Counter, "cohorts_total", "Cohorts by `outcome` of their computation: `computed`, `failed`.";
}

/// Events were settled as one batch.
pub(crate) fn settled(events: usize) {
    counter!(SETTLED).increment(events as u64);
    histogram!(BATCH).record(events as f64);
}

/// Work for a batch at a store, which is timed when it succeeds.
pub(crate) async fn timed<T, E>(
    store: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let started = Instant::now();
    let done = work.await?;
    histogram!(STORE_SECONDS, "store" => store).record(started.elapsed());
    Ok(done)
}

/// An attempt failed; another may help.
pub(crate) fn attempt_failed(store: &'static str) {
    counter!(ATTEMPTS_FAILED, "store" => store).increment(1);
}

/// Entries were trimmed off the stream while pending.
pub(crate) fn lost_upstream(entries: usize) {
    counter!(LOST).increment(entries as u64);
}

/// Events were refused.
pub(crate) fn rejected(reason: &'static str, events: usize) {
    counter!(REJECTED, "reason" => reason).increment(events as u64);
}

/// Whether no project exists at all.
pub(crate) fn no_project_exists(none: bool) {
    gauge!(NO_PROJECT).set(f64::from(u8::from(none)));
}

/// Whether nearly all events of the last period were of unknown projects.
pub(crate) fn mostly_unknown_projects(mostly: bool) {
    gauge!(MOSTLY_UNKNOWN).set(f64::from(u8::from(mostly)));
}

/// The ring of rejected events dropped its oldest.
pub(crate) fn evicted(events: u64) {
    counter!(EVICTED).increment(events);
}

/// Events became dead letters.
pub(crate) fn set_aside(reason: &'static str, events: usize) {
    counter!(SET_ASIDE, "reason" => reason).increment(events as u64);
}

/// Dead letters left the queue.
pub(crate) fn replayed(letters: usize) {
    counter!(REPLAYED).increment(letters as u64);
}

/// A batch's merges are committed.
pub(crate) fn merges(done: usize, refused: usize, redirected: usize) {
    counter!(MERGES, "outcome" => "done").increment(done as u64);
    counter!(MERGES, "outcome" => "refused").increment(refused as u64);
    counter!(REDIRECTED).increment(redirected as u64);
}

/// A run over cohorts has ended.
pub(crate) fn cohorts(computed: usize, failed: usize) {
    counter!(COHORTS, "outcome" => "computed").increment(computed as u64);
    counter!(COHORTS, "outcome" => "failed").increment(failed as u64);
}

/// One stream and our group's place in it.
#[derive(Debug, Default)]
pub(crate) struct StreamState {
    pub(crate) length: u64,
    pub(crate) lag: Option<u64>,
    pub(crate) pending: u64,
    pub(crate) oldest_pending_s: f64,
}

/// A stream was looked at.
pub(crate) fn stream(name: &str, state: &StreamState) {
    let of = |metric| gauge!(metric, "stream" => name.to_owned());
    of(STREAM_LENGTH).set(state.length as f64);
    of(STREAM_LAG).set(state.lag.map_or(f64::NAN, |lag| lag as f64));
    of(STREAM_PENDING).set(state.pending as f64);
    of(STREAM_OLDEST).set(state.oldest_pending_s);
}

/// The queue of dead letters was looked at.
pub(crate) fn dead_letters(count: u64, oldest_s: f64) {
    gauge!(LETTERS).set(count as f64);
    gauge!(OLDEST_LETTER).set(oldest_s);
}

/// The ring of rejected events was looked at.
pub(crate) fn ring(entries: u64) {
    gauge!(RING).set(entries as f64);
}

/// The replay's circuit was looked at.
pub(crate) fn circuit(is_open: bool) {
    gauge!(CIRCUIT).set(f64::from(u8::from(is_open)));
}

/// This instance was looked at.
pub(crate) fn instance((events, bytes): (usize, usize), paused: bool, heartbeat_age_s: Option<f64>) {
    gauge!(HELD_EVENTS).set(events as f64);
    gauge!(HELD_BYTES).set(bytes as f64);
    gauge!(PAUSED).set(f64::from(u8::from(paused)));
    gauge!(HEARTBEAT).set(heartbeat_age_s.unwrap_or(f64::NAN));
    // Counted from before a client could ask.
    counter!(LOG_LINES_LOST).absolute(LOG.lost());
}

/// A store is away or back.
pub(crate) fn store_away(store: &'static str, is_away: bool, needs_operator: bool) {
    gauge!(STORE_AWAY, "store" => store).set(f64::from(u8::from(is_away)));
    gauge!(OPERATOR, "store" => store).set(f64::from(u8::from(needs_operator)));
}

/// A store leaves requests without an answer, or answers.
pub(crate) fn store_unanswered(store: &'static str, seconds: f64) {
    gauge!(UNANSWERED, "store" => store).set(seconds);
}

/// What this instance does, among all that it may do.
pub(crate) fn state<'a>(now: &str, all: impl Iterator<Item = &'a str>) {
    for state in all {
        gauge!(STATE, "state" => state.to_owned()).set(f64::from(u8::from(state == now)));
    }
}

/// Tells the recorder what each metric means. What is counted without a label, and what is told of each store, begins at
/// zero rather than out of nothing.
pub(crate) fn describe(stores: [&'static str; 3]) {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => ::metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => ::metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => ::metrics::describe_histogram!(metric.name, metric.help),
        }
    }
    for name in [SETTLED, LOST, EVICTED, REPLAYED] {
        counter!(name).increment(0);
    }
    merges(0, 0, 0);
    cohorts(0, 0);
    for store in stores {
        store_away(store, false, false);
    }
    no_project_exists(false);
    mostly_unknown_projects(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_documented_as_it_is() {
        let page = include_str!("../../../docs/operations.md");
        for metric in METRICS {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let line = format!("| `{}` | {kind} | {} |", metric.name, metric.help);
            assert!(page.contains(&line), "docs/operations.md has no line\n{line}");
        }
    }
}
