//! Every environment variable, once: its name, what it is when it is unset, and its meaning.

/// One environment variable as people read about it: in `--help` and in docs/configuration.md.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it is when it is unset.
    pub unset: Unset,
    /// What it is for, one sentence.
    pub meaning: &'static str,
}

/// What an unset variable means.
#[derive(Debug, Clone, Copy)]
pub enum Unset {
    /// The same as this value.
    Value(&'static str),
    /// The same as a value that is not shown as it is.
    Hidden {
        /// The value.
        value: &'static str,
        /// What people read instead.
        shown: &'static str,
    },
    /// Something that depends on where and how the program runs: what people read of it.
    Computed(&'static str),
    /// What the variable is for does not happen.
    Nothing,
}

impl Unset {
    /// As people read it.
    pub fn shown(self) -> &'static str {
        match self {
            Self::Value(text) | Self::Computed(text) | Self::Hidden { shown: text, .. } => text,
            Self::Nothing => "unset",
        }
    }

    /// The value that is read when the variable is unset.
    pub(super) fn value(self) -> Option<&'static str> {
        match self {
            Self::Value(value) | Self::Hidden { value, .. } => Some(value),
            Self::Computed(_) | Self::Nothing => None,
        }
    }
}

/// Declares the variables, each by its own name, and the list of them.
macro_rules! variables {
    ($($name:ident: $unset:expr, $meaning:literal;)*) => {
        $(pub(super) const $name: Variable =
            Variable { name: stringify!($name), unset: $unset, meaning: $meaning };)*
        /// Every variable the program reads.
        pub const VARIABLES: &[Variable] = &[$($name),*];
    };
}

variables! {
    REDIS_URL: Unset::Value("redis://localhost:6379"), "Redis or Valkey: `redis://[[user:]password@]host[:port][/database]`; `redis-sentinel://…host[:port],host[:port]…[/database]#primary`; `redis-cluster://…host[:port],host[:port]…`; each with `rediss` in place of `redis` for TLS; `unix:///path[?db=0&user=…&pass=…]`. User and password are percent-encoded, as in all URLs.";
    REDIS_URL_FILE: Unset::Nothing, "A file that holds `REDIS_URL`.";
    REDIS_PASSWORD_FILE: Unset::Nothing, "A file that holds the password, for a URL without one. It is read again for each new connection.";
    REDIS_SENTINEL_USER: Unset::Nothing, "User at the Sentinels, with the password below.";
    REDIS_SENTINEL_PASSWORD: Unset::Computed("as in `REDIS_URL`, where Sentinels ask for one"), "Password at the Sentinels, where it is not that of the servers.";
    REDIS_SENTINEL_PASSWORD_FILE: Unset::Nothing, "A file that holds `REDIS_SENTINEL_PASSWORD`. It is read again for each new connection.";
    REDIS_CA_FILE: Unset::Computed("the system's authorities"), "Certificates (PEM) of the authorities that may sign Redis's certificate.";
    REDIS_CERT_FILE: Unset::Nothing, "Client certificate (PEM) for a Redis that asks for one. Certificate files are read again once they have changed.";
    REDIS_KEY_FILE: Unset::Nothing, "Its key (PEM).";
    DATABASE_URL: Unset::Hidden {
        value: "postgresql://qurvo:qurvo_secret@localhost:5432/qurvo_analytics",
        shown: "postgresql://qurvo:…@localhost:5432/qurvo_analytics",
    }, "PostgreSQL, as libpq reads it: a URL or `host=… user=…`, with several hosts, `target_session_attrs`, all six of `sslmode`, `sslrootcert`, `sslcert`, `sslkey` (docs/deployment-stores.md).";
    DATABASE_URL_FILE: Unset::Nothing, "A file that holds `DATABASE_URL`.";
    CLICKHOUSE_URL: Unset::Value("http://localhost:8123"), "ClickHouse's HTTP interface; `https://` for TLS. User, password and database have variables of their own.";
    CLICKHOUSE_URL_FILE: Unset::Nothing, "A file that holds `CLICKHOUSE_URL`.";
    CLICKHOUSE_CA_FILE: Unset::Computed("the system's authorities"), "Certificates (PEM) of the authorities that may sign ClickHouse's certificate.";
    CLICKHOUSE_CERT_FILE: Unset::Nothing, "Client certificate (PEM) for a ClickHouse that asks for one.";
    CLICKHOUSE_KEY_FILE: Unset::Nothing, "Its key (PEM).";
    CLICKHOUSE_DB: Unset::Value("qurvo_analytics"), "ClickHouse database.";
    CLICKHOUSE_USER: Unset::Value("qurvo"), "ClickHouse user.";
    CLICKHOUSE_PASSWORD: Unset::Hidden {
        value: "qurvo_secret",
        shown: "(the platform's development password)",
    }, "ClickHouse password.";
    CLICKHOUSE_PASSWORD_FILE: Unset::Nothing, "A file that holds `CLICKHOUSE_PASSWORD`. It is read again every two seconds while there are requests, and after a refusal.";
    CLICKHOUSE_CLUSTER: Unset::Nothing, "The cluster of `system.clusters` that names all replicas. When set, `migrate` runs every statement `ON CLUSTER` with Replicated engines, and rows are looked up on all of them.";
    CLICKHOUSE_COMPRESSION: Unset::Value("auto"), "`lz4`, `none`, or `auto`: LZ4 except to a loopback address.";
    CLICKHOUSE_REQUEST_TIMEOUT_MS: Unset::Value("30000"), "Longest one request to ClickHouse may take before it counts as failed.";
    PROCESSOR_ENV: Unset::Value("development"), "`development`, `test`, `staging` or `production` (there the three service URLs must be set); `NODE_ENV` is read when it is unset.";
    PROCESSOR_ROLES: Unset::Value("consume,dlq,cohorts"), "Comma-separated loops this instance runs.";
    PROCESSOR_CONSUMER_NAME: Unset::Computed("processor-<hostname>-<pid>"), "Consumer name in the group; a stable one takes its own pending entries up again at start.";
    PROCESSOR_STREAM: Unset::Value("events:incoming"), "Stream to consume, or a comma-separated list for a partitioned stream; `events:incoming:{0..3}` is `events:incoming:{0}` to `events:incoming:{3}`. Streams may only be added at its end.";
    PROCESSOR_STREAM_SHARE: Unset::Value("all"), "`all`: every instance reads every stream. `auto`: instances share the streams out among themselves, and each is read by one of them; all instances have to say so.";
    PROCESSOR_STREAM_FIRST: Unset::Nothing, "Streams of `PROCESSOR_STREAM` that are read to their end before the others are begun, for as long as producers move from the first to the others.";
    PROCESSOR_READ_COUNT: Unset::Value("2000"), "Most entries asked of Redis in one read.";
    PROCESSOR_BATCH_SIZE: Unset::Value("1000"), "A batch is flushed at this many events…";
    PROCESSOR_FLUSH_INTERVAL_MS: Unset::Value("5000"), "…or at this age in milliseconds.";
    PROCESSOR_MAX_BATCH_SIZE: Unset::Value("50000"), "While a backlog waits, an insert carries up to about this many events (never fewer than the batch size); persons are resolved a fifth of it at a time.";
    PROCESSOR_BACKPRESSURE_THRESHOLD: Unset::Computed("2 × the larger of both batch sizes"), "Events held in memory before reading stops.";
    PROCESSOR_MAX_HELD_MB: Unset::Value("64"), "Megabytes of stream entries held in memory before reading stops.";
    PROCESSOR_PERSON_CACHE_SIZE: Unset::Value("100000"), "Distinct ids whose person is remembered in the process.";
    PROCESSOR_PERSON_CHECK_SECONDS: Unset::Value("60"), "A remembered person is looked up in PostgreSQL, and compared with Redis, when it is used so long after the last time; between half of it and all.";
    PROCESSOR_CLAIM_INTERVAL_MS: Unset::Value("30000"), "How often entries of dead consumers are looked for.";
    PROCESSOR_CLAIM_IDLE_MS: Unset::Value("60000"), "How long an entry must have been idle to be taken over.";
    PROCESSOR_MERGE_POLICY: Unset::Value("guarded"), "`guarded` never merges two identified users; `always` does.";
    PROCESSOR_MERGE_MEMORY_DAYS: Unset::Value("400"),
        "How long what is settled about a merge is kept in PostgreSQL: on which side of it late property writes belong, and that `person show` tells of it. `0` is for ever.";
    PROCESSOR_PROPERTY_ORDER: Unset::Value("event_time"), "Which write of a property is newer: by `event_time` (never later than its arrival), or by `arrival` alone.";
    PROCESSOR_PERSON_MAX_BYTES: Unset::Value("1048576"), "Bytes that a person's properties may take, printed, with their history; what would be more is left out with a warning.";
    PROCESSOR_PERSON_MAX_KEYS: Unset::Value("10000"), "Properties that a person may have, and one event may write.";
    PROCESSOR_TRIM: Unset::Value("acked"), "`acked` trims consumed entries off the stream, `off` leaves them.";
    DLQ_MAXLEN: Unset::Value("100000"), "Capacity of the dead-letter queue `events:dlq`; when it is full, what is read is held and reading stops.";
    REJECTED_MAXLEN: Unset::Value("100000"), "Capacity of the ring `events:rejected`; the oldest go.";
    DLQ_REPLAY_INTERVAL_MS: Unset::Value("300000"), "How often dead letters are looked for; after an outage they are replayed at once.";
    DLQ_REPLAY_BATCH: Unset::Value("100"), "Dead letters replayed in one step.";
    DLQ_CIRCUIT_THRESHOLD: Unset::Value("5"), "Failed replays in a row after which all instances pause replaying…";
    DLQ_CIRCUIT_RESET_MS: Unset::Value("300000"), "…for this many milliseconds.";
    COHORT_INITIAL_DELAY_MS: Unset::Value("30000"), "When the first run over cohorts begins.";
    COHORT_INTERVAL_MS: Unset::Value("600000"), "How often cohorts are looked at.";
    COHORT_STALE_MINUTES: Unset::Value("15"), "An older membership is computed anew.";
    COHORT_BACKOFF_BASE_MINUTES: Unset::Value("30"), "After the n-th failure in a row a cohort pauses for this long times 2^n…";
    COHORT_BACKOFF_MAX_EXPONENT: Unset::Value("10"), "…where n is at most this.";
    COHORT_MAX_MEMORY_MB: Unset::Value("2000"), "Memory that ClickHouse may use for one cohort's query.";
    COHORT_MAX_THREADS: Unset::Value("2"), "Threads that ClickHouse may use for one cohort's query; up to four run at a time.";
    HEARTBEAT_PATH: Unset::Value("/tmp/processor.heartbeat"), "File that is rewritten while every loop makes progress; beside it stands one with `.json` behind the name, which says what the instance does. Each instance of a machine needs a path of its own.";
    HEARTBEAT_INTERVAL_MS: Unset::Value("15000"), "How often it is rewritten.";
    HEARTBEAT_STALE_MS: Unset::Value("30000"), "How long a loop may show no progress before it is not; at least 1000.";
    GEOIP_DATABASE: Unset::Nothing, "Path of an `.mmdb` file (Country or City); takes precedence over the URL.";
    GEOLITE2_COUNTRY_URL: Unset::Nothing, "Where to download one when there is no file.";
    SHUTDOWN_TIMEOUT_MS: Unset::Value("45000"), "How long the drain may take, after a signal to stop or the death of a loop.";
    LOG_LEVEL: Unset::Hidden {
        value: "info",
        shown: "info for `run`, warn for the other commands",
    }, "`error`, `warn`, `info`, `debug`, `trace`, or a per-module filter such as `info,qurvo_processor::intake=debug`.";
    LOG_FORMAT: Unset::Computed("json, `pretty` on a terminal"), "`json` or `pretty`.";
    METRICS_LISTEN: Unset::Nothing, "`host:port` where `GET /metrics` answers with Prometheus text; unset, there is no socket.";
    OTEL_EXPORTER_OTLP_ENDPOINT: Unset::Nothing, "A collector that takes traces and metrics by OTLP, such as `http://collector:4318`. What is sent, and the variables of one signal: docs/telemetry.md.";
    OTEL_EXPORTER_OTLP_PROTOCOL: Unset::Value("http/protobuf"), "`http/protobuf` or `grpc`.";
    OTEL_EXPORTER_OTLP_HEADERS: Unset::Nothing, "Sent with every request: comma-separated `name=value`, percent-encoded.";
    OTEL_EXPORTER_OTLP_TIMEOUT: Unset::Value("10000"), "Longest one request may take, in milliseconds.";
    OTEL_EXPORTER_OTLP_COMPRESSION: Unset::Value("none"), "`gzip` or `none`.";
    OTEL_EXPORTER_OTLP_CERTIFICATE: Unset::Computed("the system's authorities"), "Certificates (PEM) of the authorities that may sign the collector's certificate.";
    OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: Unset::Nothing, "Client certificate (PEM) for a collector that asks for one.";
    OTEL_EXPORTER_OTLP_CLIENT_KEY: Unset::Nothing, "Its key (PEM).";
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: Unset::Nothing, "The same for traces alone, by HTTP with the whole path.";
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: Unset::Computed("as for both"), "The protocol for traces alone.";
    OTEL_EXPORTER_OTLP_TRACES_HEADERS: Unset::Computed("as for both"), "The headers for traces alone.";
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: Unset::Computed("as for both"), "The time-out for traces alone.";
    OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: Unset::Computed("as for both"), "The compression of traces alone.";
    OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE: Unset::Computed("as for both"), "The authorities for traces alone.";
    OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE: Unset::Computed("as for both"), "The client certificate for traces alone.";
    OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY: Unset::Computed("as for both"), "Its key.";
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: Unset::Nothing, "The same for metrics alone, by HTTP with the whole path.";
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: Unset::Computed("as for both"), "The protocol for metrics alone.";
    OTEL_EXPORTER_OTLP_METRICS_HEADERS: Unset::Computed("as for both"), "The headers for metrics alone.";
    OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: Unset::Computed("as for both"), "The time-out for metrics alone.";
    OTEL_EXPORTER_OTLP_METRICS_COMPRESSION: Unset::Computed("as for both"), "The compression of metrics alone.";
    OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE: Unset::Computed("as for both"), "The authorities for metrics alone.";
    OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE: Unset::Computed("as for both"), "The client certificate for metrics alone.";
    OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY: Unset::Computed("as for both"), "Its key.";
    OTEL_TRACES_EXPORTER: Unset::Value("otlp"), "`otlp`, or `none`: no traces by OTLP.";
    OTEL_METRICS_EXPORTER: Unset::Value("otlp"), "`otlp`, or `none` or `prometheus`: no metrics by OTLP.";
    OTEL_TRACES_SAMPLER: Unset::Nothing, "`always_on`, `always_off` or `traceidratio`, each also with `parentbased_` before it: which traces are sent; those with an error are sent always.";
    OTEL_TRACES_SAMPLER_ARG: Unset::Computed("1"), "The share of traces that `traceidratio` sends, from 0 to 1.";
    OTEL_BSP_MAX_QUEUE_SIZE: Unset::Value("2048"), "Spans that may wait to be sent; what comes on top is dropped and counted.";
    OTEL_BSP_SCHEDULE_DELAY: Unset::Value("5000"), "Spans wait for others so many milliseconds.";
    OTEL_METRIC_EXPORT_INTERVAL: Unset::Value("60000"), "Milliseconds between two sendings of metrics by OTLP.";
    OTEL_SERVICE_NAME: Unset::Computed("`DD_SERVICE`, or `qurvo-processor`"), "What the program is called in traces and metrics.";
    OTEL_RESOURCE_ATTRIBUTES: Unset::Nothing, "Attributes of everything that is sent: comma-separated `name=value`.";
    OTEL_SDK_DISABLED: Unset::Value("false"), "`true`: nothing is sent by OTLP.";
    DD_AGENT_HOST: Unset::Nothing, "Host of a Datadog agent: traces go to its port 8126, metrics by DogStatsD to its port 8125.";
    DD_TRACE_AGENT_PORT: Unset::Computed("8126"), "Where the agent takes traces.";
    DD_TRACE_AGENT_URL: Unset::Nothing, "The same as a URL: `http://host:port`, or `unix:///path` of the agent's socket.";
    DD_DOGSTATSD_PORT: Unset::Computed("8125"), "Where the agent takes metrics, by UDP.";
    DD_DOGSTATSD_URL: Unset::Nothing, "The same as a URL: `udp://host:port`, or `unix:///path` of the agent's socket.";
    DD_TRACE_ENABLED: Unset::Value("true"), "`false`: no traces to the Datadog agent.";
    DD_TRACE_SAMPLE_RATE: Unset::Computed("1"), "The share of traces that are sent, from 0 to 1; those with an error are sent always. `OTEL_TRACES_SAMPLER` ranks above it.";
    DD_SERVICE: Unset::Computed("`OTEL_SERVICE_NAME`"), "What the program is called in traces, metrics and log lines.";
    DD_ENV: Unset::Nothing, "Its environment, such as `staging`.";
    DD_VERSION: Unset::Computed("the program's version"), "Its version.";
    DD_TAGS: Unset::Nothing, "Tags of everything that is sent: comma-separated `name:value`.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables as a page for people.
    fn markdown() -> String {
        let mut page = String::from(
            "# Configuration\n\nEverything is an environment variable; unset means the default. Values that do not parse end the program \
             with exit code 2\nand a message for each of them; a name that begins like one of these and is none is a warning. This page is made from the program: \
             `UPDATE_DOCS=1 ./dev test -E 'test(/configuration_page/)'`.\n\n| variable | default | meaning |\n| --- | --- | --- |\n",
        );
        for Variable { name, unset, meaning } in VARIABLES {
            page.push_str(&format!("| `{name}` | {} | {meaning} |\n", unset.shown()));
        }
        page
    }

    #[test]
    fn the_configuration_page_is_what_the_program_reads() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            markdown(),
            "make it again with UPDATE_DOCS=1"
        );
    }
}
