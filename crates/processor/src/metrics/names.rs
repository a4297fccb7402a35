//! Every metric's name and meaning, once; and the platform's own names for some of them.

/// Before the name of every metric of ours; those of the process have the names that all programs use.
pub(crate) const PREFIX: &str = "qurvo_processor_";

/// How a metric counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    /// With these bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// Its name in Prometheus's format.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// A metric as people read about it: where it is served or sent, and in docs/operations.md.
#[derive(Debug)]
pub(crate) struct Metric {
    /// Its full name.
    pub(crate) name: &'static str,
    /// How it counts.
    pub(crate) kind: Kind,
    /// What it says.
    pub(crate) help: &'static str,
}

impl Metric {
    pub(crate) const fn of(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, help }
    }

    /// Its unit by the names of UCUM, as its name tells it; empty where there is none.
    pub(crate) fn unit(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        match name.rsplit('_').next() {
            Some("seconds") => "s",
            Some("bytes") => "By",
            _ => "",
        }
    }
}

/// Declares the metrics as constants, and all of them as a table.
macro_rules! declare {
    ($($constant:ident, $kind:expr, $name:literal, $help:literal;)* => process: $($process:literal, $process_kind:expr, $process_help:literal;)*) => {
        $(pub(super) const $constant: &str = concat!("qurvo_processor_", $name);)*
        /// All of them, in the order in which they are shown.
        pub(crate) const METRICS: &[Metric] = &[
            $(Metric::of($constant, $kind, $help),)*
            $(Metric::of($process, $process_kind, $process_help)),*
        ];
    };
}

const EVENTS_AN_INSERT: Kind = Kind::Histogram(&[
    1.0, 10.0, 100.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0,
]);
/// Of requests and stages: the last bound is above every time-out.
const SECONDS: Kind = Kind::Histogram(&[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
]);
/// From arrival to landing, outages included.
const AGES: Kind = Kind::Histogram(&[
    0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 6.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 86_400.0,
]);
/// Of cohorts' queries, and of runs over all of them.
const MINUTES: Kind = Kind::Histogram(&[0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0]);

declare! {
    BUILD, Kind::Gauge, "build_info", "1; the program's `version`, and `consumer`: the name of this instance.";
    STREAM_LENGTH, Kind::Gauge, "stream_entries", "Entries in the stream, consumed ones included; this and what follows by `stream`.";
    STREAM_LAG, Kind::Gauge, "stream_lag_entries", "Entries that the group has not read; absent when Redis cannot say.";
    STREAM_LAG_KNOWN, Kind::Gauge, "stream_lag_known", "1 when Redis can say how many entries the group has not read.";
    STREAM_LAG_SECONDS, Kind::Gauge, "stream_lag_seconds", "Since the oldest entry that the group has not read was sent; 0 without any.";
    STREAM_PENDING, Kind::Gauge, "stream_pending_entries", "Entries read and not acknowledged, by any instance.";
    STREAM_OLDEST, Kind::Gauge, "stream_oldest_pending_timestamp_seconds", "When the oldest of them was sent; absent without any.";
    OPEN_SLOTS, Kind::Gauge, "redis_open_slots", "Slots of the Redis Cluster that are on their way from one node to another; absent without a cluster, and where it does not say.";
    SAMPLED, Kind::Gauge, "sample_timestamp_seconds", "When Redis last answered what this instance asks of streams and queues every 5 s; what it does not answer stays as it was.";
    SAMPLE_ERRORS, Kind::Counter, "sample_errors_total", "Questions about streams and queues that Redis did not answer.";
    READ, Kind::Counter, "entries_read_total", "Entries read off the stream, by `delivery`: `first`, `again` (delivered before).";
    READ_BYTES, Kind::Counter, "read_bytes_total", "Bytes of replies with entries.";
    LOST, Kind::Counter, "entries_lost_upstream_total", "Entries that were trimmed off the stream while pending, or before any instance read them.";
    HELD_EVENTS, Kind::Gauge, "held_events", "Events in this instance's memory.";
    HELD_BYTES, Kind::Gauge, "held_bytes", "Their bytes.";
    RESOLVING, Kind::Gauge, "resolving_events", "Events of the batch whose persons are being decided.";
    PAUSED, Kind::Gauge, "reading_paused", "1 while reading is paused because a store is away.";
    STATE, Kind::Gauge, "state", "1 for what this instance does now, 0 for the rest, by `state`: `starting`, `waiting`, `serving`, `paused`, `stopping`.";
    STORE_AWAY, Kind::Gauge, "store_away", "1 while this instance finds the store away, by `store`: `redis`, `postgresql`, `clickhouse`.";
    OPERATOR, Kind::Gauge, "store_needs_operator", "1 while the store is away for a reason that no waiting mends: a password, a right, a name, TLS; by `store`.";
    UNANSWERED, Kind::Gauge, "store_unanswered_since_timestamp_seconds", "Since when a request to the store is without an answer while nothing else is answered either, from eight seconds on; absent otherwise; by `store`.";
    HEARTBEAT, Kind::Gauge, "heartbeat_timestamp_seconds", "When this instance last wrote its heartbeat file; absent while it has none.";
    SETTLED, Kind::Counter, "events_settled_total", "Events that are settled and acknowledged: their rows are durable, and their entries done with.";
    AGE, AGES, "event_age_seconds", "From an event's arrival in the stream to its being settled.";
    BATCH, EVENTS_AN_INSERT, "batch_events", "Events that were settled together: in one insert, as a rule.";
    STAGE, SECONDS, "stage_duration_seconds", "What a stage took for a batch, by `stage`: `decode` (a reply's entries), `identity`, `land`, `acknowledge`; `full` is how long reading waited because no more may be held.";
    STORE_SECONDS, SECONDS, "store_operation_duration_seconds", "What a request took that succeeded, by `store` and `operation`, as errors name it; of PostgreSQL a transaction is one.";
    ATTEMPTS_FAILED, Kind::Counter, "attempts_failed_total", "Attempts that failed and may help when repeated, by `store` and `loop`: the part of the program that made it.";
    IN_A_ROW, Kind::Gauge, "attempts_failed_in_a_row", "Failed attempts at the store since one succeeded, by `store`.";
    INSERTED, Kind::Counter, "rows_inserted_total", "Rows of events that were inserted.";
    INSERTED_BYTES, Kind::Counter, "inserted_bytes_total", "Bytes of these rows as they were sent, before compression.";
    PERSON_LOOKUPS, Kind::Counter, "person_lookups_total", "Distinct ids of batches, by `outcome`: `remembered`, `due` (remembered, and asked about again), `asked` (not remembered).";
    REJECTED, Kind::Counter, "events_rejected_total", "Events refused for good, by `reason` (docs/contract.md lists them).";
    NO_PROJECT, Kind::Gauge, "no_project_exists", "1 while PostgreSQL's table `projects` has no row, as this instance saw it last: events wait.";
    MOSTLY_UNKNOWN, Kind::Gauge, "mostly_unknown_projects", "1 when at least 90 % of at least 1,000 events in the last two minutes of traffic were of unknown projects.";
    RING, Kind::Gauge, "rejected_entries", "Entries in the ring `events:rejected`.";
    EVICTED, Kind::Counter, "rejected_evicted_total", "Rejected events that the ring has dropped for newer ones.";
    SET_ASIDE, Kind::Counter, "dead_letters_added_total", "Events set aside as dead letters, by `reason`: `clickhouse_unavailable`, `postgresql_keeps_failing` and the like.";
    REPLAYED, Kind::Counter, "dead_letters_replayed_total", "Dead letters that have left the queue by being replayed.";
    LETTERS, Kind::Gauge, "dead_letters", "Events in the dead-letter queue.";
    OLDEST_LETTER, Kind::Gauge, "dead_letter_oldest_timestamp_seconds", "When the oldest of them was set aside; absent without any.";
    CIRCUIT, Kind::Gauge, "replay_circuit_open", "1 while no instance replays dead letters because stores failed too often.";
    REPLAY_FAILURES, Kind::Gauge, "replay_failures", "Failures of replays in a row, which open the circuit.";
    LOCK, Kind::Gauge, "lock_held", "1 while this instance holds the lock, by `lock`: its key in Redis.";
    MERGES, Kind::Counter, "merges_total", "Merges of persons that an `$identify` asked for, by `outcome`: `done`, `refused`.";
    REDIRECTED, Kind::Counter, "distinct_ids_redirected_total", "Distinct ids that merges have given to another person at once.";
    COHORTS, Kind::Counter, "cohorts_total", "Cohorts by `outcome` of their computation: `computed`, `failed`.";
    COHORT_SECONDS, MINUTES, "cohort_duration_seconds", "What the computation of one cohort took.";
    COHORT_RUN, MINUTES, "cohort_run_duration_seconds", "What a run over cohorts took.";
    LOG_LINES_LOST, Kind::Counter, "log_lines_lost_total", "Log lines that could not be written, or not as fast as they came.";
    TELEMETRY_SENT, Kind::Counter, "telemetry_sent_total", "Spans, or data points, that were sent, by `destination` (`otlp`, `datadog`, `dogstatsd`) and `signal` (`traces`, `metrics`).";
    TELEMETRY_DROPPED, Kind::Counter, "telemetry_dropped_total", "Spans, or data points, that found no room in the queue or were not taken, by `destination` and `signal`.";
    => process:
    "process_cpu_seconds_total", Kind::Counter, "Processor time of the process, user and system.";
    "process_open_fds", Kind::Gauge, "Files that it has open.";
    "process_max_fds", Kind::Gauge, "Files that it may have open.";
    "process_virtual_memory_bytes", Kind::Gauge, "Its virtual memory.";
    "process_resident_memory_bytes", Kind::Gauge, "Its memory.";
    "process_start_time_seconds", Kind::Gauge, "When it began.";
    "process_threads", Kind::Gauge, "Its threads.";
}

/// A name that the platform's dashboards have for a metric, behind `qurvo.processor.` ("metrics" in docs/contract.md).
#[derive(Debug)]
pub(crate) struct PlatformName {
    /// The name.
    pub(crate) name: &'static str,
    /// Whose number it is.
    pub(crate) metric: &'static str,
    /// The labels of the series that are meant.
    pub(crate) only: &'static [(&'static str, &'static str)],
    /// How the number is sent.
    pub(crate) sent: Sent,
}

/// What becomes of the series of a metric under the platform's name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sent {
    /// One sum of all.
    Sum,
    /// The highest of all.
    Highest,
    /// Each, with its reason by the platform's word.
    Each {
        /// Ours, and the platform's.
        reasons: &'static [(&'static str, &'static str)],
    },
    /// Seconds as a timing in milliseconds.
    Milliseconds,
}

/// The operation that makes events' rows durable, as errors name it.
pub(crate) const INSERTING: &str = "inserting events";

/// The platform's names.
pub(crate) const PLATFORM_NAMES: &[PlatformName] = &[
    platform("buffer_size", HELD_EVENTS, &[], Sent::Sum),
    platform("person_batch_queue_size", RESOLVING, &[], Sent::Sum),
    platform("pel_size", STREAM_PENDING, &[], Sent::Sum),
    platform("dlq_size", LETTERS, &[], Sent::Sum),
    platform("consecutive_errors", IN_A_ROW, &[], Sent::Highest),
    platform(
        "batch_flush_duration_ms",
        STORE_SECONDS,
        &[("operation", INSERTING)],
        Sent::Milliseconds,
    ),
    platform(
        "events_processed_total",
        SETTLED,
        &[],
        Sent::Each { reasons: &[] },
    ),
    platform(
        "events_failed_total",
        SET_ASIDE,
        &[],
        Sent::Each {
            reasons: &[
                ("clickhouse_unavailable", "clickhouse_insert"),
                ("clickhouse_keeps_failing", "clickhouse_insert"),
            ],
        },
    ),
];

const fn platform(
    name: &'static str,
    metric: &'static str,
    only: &'static [(&'static str, &'static str)],
    sent: Sent,
) -> PlatformName {
    PlatformName {
        name,
        metric,
        only,
        sent,
    }
}
