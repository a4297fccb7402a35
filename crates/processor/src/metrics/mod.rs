//! What is counted, and one function for each thing that is. Names and meanings are in `names`, the numbers in `registry`.
//!
//! Nothing else names a metric. What is counted is counted per batch or per request, never per event; while no client
//! listens or is sent to, every function here does nothing.

#![allow(clippy::disallowed_macros, reason = "the only place that names a metric")]

mod names;
pub(crate) mod registry;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::metrics::{Key, Label, counter, gauge, histogram};

use crate::logs::writer::LOG;

#[allow(clippy::wildcard_imports, reason = "all names are for this file")]
use names::*;
pub(crate) use names::{INSERTING, PLATFORM_NAMES, PREFIX, PlatformName, Sent};
#[cfg(test)]
pub(crate) use names::{Kind, METRICS, Metric};

/// Whether anything is counted.
static COUNTS: AtomicBool = AtomicBool::new(false);

/// What labels may say: their series begin at zero rather than out of nothing, so that a first increase is seen.
pub(crate) struct Known<'a> {
    /// The name of this instance.
    pub(crate) consumer: &'a str,
    /// Names of stores in labels.
    pub(crate) stores: [&'static str; 3],
    /// Why events are refused.
    pub(crate) rejects: &'a [&'static str],
    /// Why events are set aside.
    pub(crate) letters: &'a [&'static str],
    /// Locks that instances share.
    pub(crate) locks: &'a [&'static str],
    /// Where telemetry is sent, and what of it.
    pub(crate) destinations: &'a [(&'static str, &'static str)],
}

/// Begins to count; once in a process, and before anything is counted that is to be told.
///
/// # Errors
/// When this process counts already.
pub(crate) fn begin(known: &Known<'_>) -> anyhow::Result<()> {
    registry::install()?;
    COUNTS.store(true, Relaxed);
    let consumer = known.consumer.to_owned();
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION"), "consumer" => consumer).set(1.0);
    for name in [
        SETTLED,
        LOST,
        EVICTED,
        REPLAYED,
        READ_BYTES,
        INSERTED,
        INSERTED_BYTES,
        SAMPLE_ERRORS,
    ] {
        counter!(name).increment(0);
    }
    for delivery in ["first", "again"] {
        counter!(READ, "delivery" => delivery).increment(0);
    }
    merges(0, 0, 0);
    cohorts(0, 0);
    person_lookups(0, 0, 0);
    for store in known.stores {
        store_away(store, false, false);
        failed_in_a_row(store, 0);
    }
    known.rejects.iter().for_each(|reason| rejected(reason, 0));
    known.letters.iter().for_each(|reason| set_aside(reason, 0));
    known.locks.iter().for_each(|lock| lock_held(lock, false));
    for (destination, signal) in known.destinations {
        telemetry_sent(destination, signal, 0);
        telemetry_dropped(destination, signal, 0);
    }
    no_project_exists(false);
    mostly_unknown_projects(false);
    resolving(0);
    Ok(())
}

/// Whether anything is counted: what is dear to find out is spared otherwise.
pub(crate) fn are_counted() -> bool {
    COUNTS.load(Relaxed)
}

/// Sets a gauge, or takes it away where nothing is known: no number is better than an old one or none that is one.
fn set(name: &'static str, label: Option<(&'static str, &str)>, value: Option<f64>) {
    let labels: Vec<Label> = label
        .map(|(label, value)| Label::new(label, value.to_owned()))
        .into_iter()
        .collect();
    match value {
        Some(value) => gauge!(name, labels).set(value),
        None => registry::forget_gauge(&Key::from_parts(name, labels)),
    }
}

/// Seconds since 1970.
fn timestamp(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// Entries came in one reply of so many bytes.
pub(crate) fn read(first: usize, again: usize, bytes: usize) {
    counter!(READ, "delivery" => "first").increment(first as u64);
    counter!(READ, "delivery" => "again").increment(again as u64);
    counter!(READ_BYTES).increment(bytes as u64);
}

/// Events were settled as one batch.
pub(crate) fn settled(events: usize) {
    counter!(SETTLED).increment(events as u64);
    if events > 0 {
        histogram!(BATCH).record(events as f64);
    }
}

/// So many events, one after another in a batch, were settled at this age.
pub(crate) fn settled_at_age(age: Duration, events: usize) {
    let seconds = age.as_secs_f64();
    histogram!(AGE).record_many(seconds, events);
}

/// A stage has done its work for a batch.
pub(crate) fn stage(stage: &'static str, took: Duration) {
    histogram!(STAGE, "stage" => stage).record(took);
}

/// A store has done what it was asked for.
pub(crate) fn operation(store: &'static str, operation: &'static str, took: Duration) {
    histogram!(STORE_SECONDS, "store" => store, "operation" => operation).record(took);
}

/// An attempt failed; another may help.
pub(crate) fn attempt_failed(store: &'static str, by: &'static str) {
    counter!(ATTEMPTS_FAILED, "store" => store, "loop" => by).increment(1);
}

/// So many attempts at a store have failed since one succeeded.
pub(crate) fn failed_in_a_row(store: &'static str, failures: u32) {
    gauge!(IN_A_ROW, "store" => store).set(f64::from(failures));
}

/// Rows of events were inserted.
pub(crate) fn inserted(rows: usize, bytes: usize) {
    counter!(INSERTED).increment(rows as u64);
    counter!(INSERTED_BYTES).increment(bytes as u64);
}

/// The distinct ids of a batch were recalled, or asked about.
pub(crate) fn person_lookups(remembered: usize, due: usize, asked: usize) {
    for (outcome, ids) in [("remembered", remembered), ("due", due), ("asked", asked)] {
        counter!(PERSON_LOOKUPS, "outcome" => outcome).increment(ids as u64);
    }
}

/// The persons of so many events are being decided.
pub(crate) fn resolving(events: usize) {
    gauge!(RESOLVING).set(events as f64);
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
    gauge!(NO_PROJECT).set(flag(none));
}

/// Whether nearly all events of the last period were of unknown projects.
pub(crate) fn mostly_unknown_projects(mostly: bool) {
    gauge!(MOSTLY_UNKNOWN).set(flag(mostly));
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

/// Cohorts were computed, or failed.
pub(crate) fn cohorts(computed: usize, failed: usize) {
    counter!(COHORTS, "outcome" => "computed").increment(computed as u64);
    counter!(COHORTS, "outcome" => "failed").increment(failed as u64);
}

/// One cohort was computed.
pub(crate) fn cohort_took(took: Duration) {
    histogram!(COHORT_SECONDS).record(took);
}

/// A run over cohorts has ended.
pub(crate) fn cohort_run_took(took: Duration) {
    histogram!(COHORT_RUN).record(took);
}

/// A lock is held by this instance, or not any more.
pub(crate) fn lock_held(lock: &str, is_held: bool) {
    gauge!(LOCK, "lock" => lock.to_owned()).set(flag(is_held));
}

/// One stream and our group's place in it.
#[derive(Debug, Default)]
pub(crate) struct StreamState {
    pub(crate) length: u64,
    pub(crate) lag: Option<u64>,
    pub(crate) pending: u64,
    /// When the oldest pending entry was sent, in milliseconds since 1970.
    pub(crate) oldest_pending_ms: Option<u64>,
}

/// A stream was looked at.
pub(crate) fn stream(name: &str, state: &StreamState) {
    let label = Some(("stream", name));
    set(STREAM_LENGTH, label, Some(state.length as f64));
    set(STREAM_LAG, label, state.lag.map(|lag| lag as f64));
    set(STREAM_LAG_KNOWN, label, Some(flag(state.lag.is_some())));
    set(STREAM_PENDING, label, Some(state.pending as f64));
    set(
        STREAM_OLDEST,
        label,
        state.oldest_pending_ms.map(|ms| ms as f64 / 1000.0),
    );
}

/// How long ago the oldest entry was sent that no instance has read.
pub(crate) fn stream_lag(name: &str, lag: Duration) {
    set(
        STREAM_LAG_SECONDS,
        Some(("stream", name)),
        Some(lag.as_secs_f64()),
    );
}

/// Slots of a cluster were looked at; nothing where there is none, or it does not say.
pub(crate) fn open_slots(slots: Option<usize>) {
    set(OPEN_SLOTS, None, slots.map(|slots| slots as f64));
}

/// Redis has answered what it was asked of streams and queues, but for so many questions.
pub(crate) fn sampled(errors: usize) {
    counter!(SAMPLE_ERRORS).increment(errors as u64);
    if errors == 0 {
        gauge!(SAMPLED).set(timestamp(SystemTime::now()));
    }
}

/// The queue of dead letters was looked at.
pub(crate) fn dead_letters(count: u64, oldest_ms: Option<u64>) {
    gauge!(LETTERS).set(count as f64);
    set(OLDEST_LETTER, None, oldest_ms.map(|ms| ms as f64 / 1000.0));
}

/// The ring of rejected events was looked at.
pub(crate) fn ring(entries: u64) {
    gauge!(RING).set(entries as f64);
}

/// The replay's circuit was looked at.
pub(crate) fn circuit(is_open: bool) {
    gauge!(CIRCUIT).set(flag(is_open));
}

/// The replay's failures in a row were looked at.
pub(crate) fn replay_failures(failures: u64) {
    gauge!(REPLAY_FAILURES).set(failures as f64);
}

/// This instance was looked at.
pub(crate) fn instance((events, bytes): (usize, usize), paused: bool, heartbeat_age: Option<Duration>) {
    gauge!(HELD_EVENTS).set(events as f64);
    gauge!(HELD_BYTES).set(bytes as f64);
    gauge!(PAUSED).set(flag(paused));
    let beat = heartbeat_age.and_then(|age| SystemTime::now().checked_sub(age));
    set(HEARTBEAT, None, beat.map(timestamp));
    // Counted from before a client could ask.
    counter!(LOG_LINES_LOST).absolute(LOG.lost());
    metrics_process::Collector::default().collect();
}

/// A store is away or back.
pub(crate) fn store_away(store: &'static str, is_away: bool, needs_operator: bool) {
    gauge!(STORE_AWAY, "store" => store).set(flag(is_away));
    gauge!(OPERATOR, "store" => store).set(flag(needs_operator));
}

/// A store leaves requests without an answer since so long ago, or answers.
pub(crate) fn store_unanswered(store: &'static str, silent_for: Option<Duration>) {
    let since = silent_for.and_then(|time| SystemTime::now().checked_sub(time));
    set(UNANSWERED, Some(("store", store)), since.map(timestamp));
}

/// What this instance does, among all that it may do.
pub(crate) fn state<'a>(now: &str, all: impl Iterator<Item = &'a str>) {
    for state in all {
        gauge!(STATE, "state" => state.to_owned()).set(flag(state == now));
    }
}

/// Spans or numbers were sent.
pub(crate) fn telemetry_sent(destination: &'static str, signal: &'static str, items: usize) {
    counter!(TELEMETRY_SENT, "destination" => destination, "signal" => signal).increment(items as u64);
}

/// Spans or numbers were dropped.
pub(crate) fn telemetry_dropped(destination: &'static str, signal: &'static str, items: usize) {
    counter!(TELEMETRY_DROPPED, "destination" => destination, "signal" => signal).increment(items as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_documented_as_it_is() {
        let page = include_str!("../../../../docs/operations.md");
        for Metric { name, kind, help } in METRICS {
            let line = format!("| `{name}` | {} | {help} |", kind.name());
            assert!(page.contains(&line), "docs/operations.md has no line\n{line}");
        }
    }

    #[test]
    fn every_name_of_the_platform_is_documented_as_it_is() {
        let page = include_str!("../../../../docs/telemetry.md");
        for PlatformName { name, metric, .. } in PLATFORM_NAMES {
            let metric = metric.strip_prefix(PREFIX).unwrap_or(metric);
            let line = format!("| `{name}` | `{metric}` | ");
            assert!(page.contains(&line), "docs/telemetry.md has no line\n{line}");
        }
    }
}
