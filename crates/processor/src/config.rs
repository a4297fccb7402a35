//! Every environment variable, once: its name, its default, its meaning, and how it is read.
//!
//! A value that does not parse is an error naming the variable, the value and what is accepted; there is never a
//! silent default. Values that may hold a password are never repeated in an error.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::identity::properties::Limits;

/// One environment variable as people read about it: in `--help` and in docs/configuration.md.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What an unset variable means, as text.
    pub default: &'static str,
    /// What it is for, one sentence.
    pub meaning: &'static str,
}

/// Declares the variables as a table.
macro_rules! variables {
    ($($name:literal, $default:literal, $meaning:literal;)*) => {
        /// Every variable the program reads.
        pub const VARIABLES: &[Variable] = &[$(Variable { name: $name, default: $default, meaning: $meaning }),*];
    };
}

variables! {
    "REDIS_URL", "redis://localhost:6379", "Redis or Valkey; `rediss://` for TLS.";
    "DATABASE_URL", "postgresql://qurvo:…@localhost:5432/qurvo_analytics", "PostgreSQL; `sslmode=require` for TLS.";
    "CLICKHOUSE_URL", "http://localhost:8123", "ClickHouse's HTTP interface; `https://` for TLS.";
    "CLICKHOUSE_DB", "qurvo_analytics", "ClickHouse database.";
    "CLICKHOUSE_USER", "qurvo", "ClickHouse user.";
    "CLICKHOUSE_PASSWORD", "(the platform's development password)", "ClickHouse password.";
    "CLICKHOUSE_CLUSTER", "", "When set, `migrate` runs every statement `ON CLUSTER` with Replicated engines.";
    "CLICKHOUSE_COMPRESSION", "auto", "`lz4`, `none`, or `auto`: LZ4 except to a loopback address.";
    "CLICKHOUSE_REQUEST_TIMEOUT_MS", "30000", "Longest one request to ClickHouse may take before it counts as failed.";
    "PROCESSOR_ENV", "development", "`development`, `test` or `production` (there the three service URLs must be set); `NODE_ENV` is read when it is unset.";
    "PROCESSOR_ROLES", "consume,dlq,cohorts", "Comma-separated loops this instance runs.";
    "PROCESSOR_CONSUMER_NAME", "processor-<hostname>-<pid>", "Consumer name in the group; a stable one takes its own pending entries up again at start.";
    "PROCESSOR_STREAM", "events:incoming", "Stream to consume, or a comma-separated list for a partitioned stream; streams may only be added at its end.";
    "PROCESSOR_READ_COUNT", "2000", "Most entries asked of Redis in one read.";
    "PROCESSOR_BATCH_SIZE", "1000", "A batch is flushed at this many events…";
    "PROCESSOR_FLUSH_INTERVAL_MS", "5000", "…or at this age in milliseconds.";
    "PROCESSOR_MAX_BATCH_SIZE", "10000", "While a backlog waits, batches grow up to this many events (never below the batch size).";
    "PROCESSOR_BACKPRESSURE_THRESHOLD", "2 × the larger of both batch sizes", "Events held in memory before reading stops.";
    "PROCESSOR_MAX_HELD_MB", "48", "Megabytes of stream entries held in memory before reading stops.";
    "PROCESSOR_PERSON_CACHE_SIZE", "100000", "Distinct ids whose person is remembered in the process.";
    "PROCESSOR_PERSON_CHECK_SECONDS", "60",
        "A remembered person is looked up in PostgreSQL, and compared with Redis, when it is used so long after the last time; between half of it and all.";
    "PROCESSOR_CLAIM_INTERVAL_MS", "30000", "How often entries of dead consumers are looked for.";
    "PROCESSOR_CLAIM_IDLE_MS", "60000", "How long an entry must have been idle to be taken over.";
    "PROCESSOR_MERGE_POLICY", "guarded", "`guarded` never merges two identified users; `always` does.";
    "PROCESSOR_MERGE_MEMORY_DAYS", "400",
        "How long what is settled about a merge is kept in PostgreSQL: on which side of it late property writes belong, and that `person show` tells of it. `0` is for ever.";
    "PROCESSOR_PROPERTY_ORDER", "event_time",
        "Which write of a property is newer: by `event_time` (never later than its arrival), or by `arrival` alone.";
    "PROCESSOR_PERSON_MAX_BYTES", "1048576",
        "Bytes that a person's properties may take, printed, with their history; what would be more is left out with a warning.";
    "PROCESSOR_PERSON_MAX_KEYS", "10000", "Properties that a person may have, and one event may write.";
    "PROCESSOR_TRIM", "acked", "`acked` trims consumed entries off the stream, `off` leaves them.";
    "DLQ_MAXLEN", "100000", "Capacity of the dead-letter queue `events:dlq`; when it is full, what is read is held and reading stops.";
    "REJECTED_MAXLEN", "100000", "Capacity of the ring `events:rejected`; the oldest go.";
    "DLQ_REPLAY_INTERVAL_MS", "300000", "How often dead letters are looked for; after an outage they are replayed at once.";
    "DLQ_REPLAY_BATCH", "100", "Dead letters replayed in one step.";
    "DLQ_CIRCUIT_THRESHOLD", "5", "Failed replays in a row after which all instances pause replaying…";
    "DLQ_CIRCUIT_RESET_MS", "300000", "…for this many milliseconds.";
    "COHORT_INITIAL_DELAY_MS", "30000", "When the first run over cohorts begins.";
    "COHORT_INTERVAL_MS", "600000", "How often cohorts are looked at.";
    "COHORT_STALE_MINUTES", "15", "An older membership is computed anew.";
    "COHORT_BACKOFF_BASE_MINUTES", "30", "After the n-th failure in a row a cohort pauses for this long times 2^n…";
    "COHORT_BACKOFF_MAX_EXPONENT", "10", "…where n is at most this.";
    "COHORT_MAX_MEMORY_MB", "2000", "Memory that ClickHouse may use for one cohort's query.";
    "COHORT_MAX_THREADS", "2", "Threads that ClickHouse may use for one cohort's query; up to four run at a time.";
    "HEARTBEAT_PATH", "/tmp/processor.heartbeat", "File that is rewritten while every loop makes progress.";
    "HEARTBEAT_INTERVAL_MS", "15000", "How often it is rewritten.";
    "HEARTBEAT_STALE_MS", "30000", "How long a loop may show no progress before it is not.";
    "GEOIP_DATABASE", "", "Path of an `.mmdb` file (Country or City); takes precedence over the URL.";
    "GEOLITE2_COUNTRY_URL", "", "Where to download one when there is no file.";
    "SHUTDOWN_TIMEOUT_MS", "45000", "How long the drain may take after a signal to stop.";
    "LOG_LEVEL", "info", "`error`, `warn`, `info`, `debug`, `trace`, or a per-module filter such as `info,qurvo_processor::intake=debug`.";
    "LOG_FORMAT", "json, `pretty` on a terminal", "`json` or `pretty`.";
    "METRICS_LISTEN", "", "`host:port` where `GET /metrics` answers with Prometheus text; unset, there is no socket.";
}

/// Why the configuration was refused. Shown to the operator; exit code 2.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A value does not parse.
    #[error("{name}={value} is not accepted: expected {accepted}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// Its value, or a placeholder where it may hold a secret.
        value: String,
        /// What would be accepted.
        accepted: String,
    },
    /// A variable must be set here.
    #[error("{name} must be set when PROCESSOR_ENV is production")]
    Missing {
        /// The variable.
        name: &'static str,
    },
}

/// A loop an instance may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Consume the stream.
    Consume,
    /// Replay dead letters.
    Dlq,
    /// Recompute cohort memberships.
    Cohorts,
}

impl Role {
    /// Its name in `PROCESSOR_ROLES`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::Dlq => "dlq",
            Self::Cohorts => "cohorts",
        }
    }
}

/// What an `$identify` may merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergePolicy {
    /// Never merge two identified users.
    Guarded,
    /// Merge whatever is identified.
    Always,
}

/// Which of two writes of a property is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyOrder {
    /// The one whose event happened later, as far as it had arrived by then.
    EventTime,
    /// The one that came later in the stream.
    Arrival,
}

/// The dead-letter queue.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetterConfig {
    /// Letters it takes.
    pub capacity: u64,
    /// Between two looks.
    pub interval: Duration,
    /// Letters replayed in one step.
    pub step: usize,
    /// Failures in a row that open the circuit.
    pub threshold: u32,
    /// How long it stays open.
    pub reset: Duration,
}

/// The computing of cohorts.
#[derive(Debug, Clone, Copy)]
pub struct CohortConfig {
    /// Before the first run.
    pub initial_delay: Duration,
    /// Between the beginnings of two runs.
    pub interval: Duration,
    /// An older membership is computed anew.
    pub stale: Duration,
    /// After the n-th failure in a row a cohort pauses for so long, times 2^n.
    pub backoff_base: Duration,
    /// Largest n.
    pub backoff_max_exponent: u32,
    /// Memory of one query.
    pub max_memory_bytes: u64,
    /// Threads of one query.
    pub max_threads: usize,
}

/// Whether bodies to and from ClickHouse are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Plain bodies.
    None,
    /// LZ4 blocks.
    Lz4,
}

/// Log output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// How to reach ClickHouse. `Debug` hides the password.
#[derive(Clone)]
pub struct ClickHouseConfig {
    /// Base URL of the HTTP interface.
    pub url: Url,
    /// Database.
    pub database: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
    /// Cluster for `ON CLUSTER`, if any.
    pub cluster: Option<String>,
    /// Body compression.
    pub compression: Compression,
    /// Longest one request may take.
    pub request_timeout: Duration,
}

impl std::fmt::Debug for ClickHouseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouseConfig")
            .field("url", &redacted(self.url.as_str()))
            .field("database", &self.database)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The whole configuration. Durations and sizes are already in their own types.
#[derive(Clone)]
#[allow(
    missing_docs,
    reason = "each field is the variable of the same name, documented in VARIABLES"
)]
pub struct Config {
    pub redis_url: Url,
    pub database_url: String,
    pub clickhouse: ClickHouseConfig,
    pub roles: BTreeSet<Role>,
    pub consumer_name: String,
    pub streams: Vec<String>,
    pub read_count: usize,
    pub batch_size: usize,
    pub flush_interval: Duration,
    pub max_batch_size: usize,
    pub backpressure_threshold: usize,
    pub max_held_bytes: usize,
    pub person_cache_size: usize,
    pub person_check: Duration,
    pub claim_interval: Duration,
    pub claim_idle: Duration,
    pub merge_policy: MergePolicy,
    /// None is for ever.
    pub merge_memory_days: Option<i32>,
    /// Which write of a property is newer.
    pub property_order: PropertyOrder,
    /// How much a person may hold.
    pub person_limits: Limits,
    pub trim: bool,
    pub rejected_max_len: u64,
    /// Dead letters.
    pub dead_letters: DeadLetterConfig,
    /// Cohorts.
    pub cohorts: CohortConfig,
    pub heartbeat_path: PathBuf,
    pub heartbeat_interval: Duration,
    pub heartbeat_stale: Duration,
    pub geoip_database: Option<PathBuf>,
    pub geoip_url: Option<Url>,
    pub shutdown_timeout: Duration,
    pub log_level: String,
    pub log_format: Option<LogFormat>,
    pub metrics_listen: Option<String>,
}

impl Config {
    /// Reads the process environment.
    ///
    /// # Errors
    /// The first variable whose value is not accepted.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(&|name| std::env::var(name).ok())
    }

    /// Reads variables through `lookup`; an empty value counts as unset.
    ///
    /// # Errors
    /// The first variable whose value is not accepted.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let read = Reader { lookup };
        let production = read.production()?;
        let batch_size = read.count("PROCESSOR_BATCH_SIZE", 1000)?;
        let max_batch_size = read.count("PROCESSOR_MAX_BATCH_SIZE", 10_000)?.max(batch_size);
        let held = read.count("PROCESSOR_BACKPRESSURE_THRESHOLD", 2 * max_batch_size)?;
        Ok(Self {
            redis_url: read.url(
                "REDIS_URL",
                "redis://localhost:6379",
                &["redis", "rediss"],
                production,
            )?,
            database_url: read
                .url(
                    "DATABASE_URL",
                    "postgresql://qurvo:qurvo_secret@localhost:5432/qurvo_analytics",
                    &["postgres", "postgresql"],
                    production,
                )?
                .to_string(),
            clickhouse: read.clickhouse(production)?,
            roles: read.roles()?,
            consumer_name: read
                .text("PROCESSOR_CONSUMER_NAME")
                .unwrap_or_else(default_consumer_name),
            streams: read.streams()?,
            read_count: read.count("PROCESSOR_READ_COUNT", 2000)?,
            batch_size,
            flush_interval: read.millis("PROCESSOR_FLUSH_INTERVAL_MS", 5_000)?,
            max_batch_size: max_batch_size.min(held),
            backpressure_threshold: held,
            max_held_bytes: read.count("PROCESSOR_MAX_HELD_MB", 48)? * 1024 * 1024,
            person_cache_size: read.count("PROCESSOR_PERSON_CACHE_SIZE", 100_000)?,
            person_check: Duration::from_secs(read.count("PROCESSOR_PERSON_CHECK_SECONDS", 60)? as u64),
            claim_interval: read.millis("PROCESSOR_CLAIM_INTERVAL_MS", 30_000)?,
            claim_idle: read.millis("PROCESSOR_CLAIM_IDLE_MS", 60_000)?,
            merge_policy: read.choice(
                "PROCESSOR_MERGE_POLICY",
                &[("guarded", MergePolicy::Guarded), ("always", MergePolicy::Always)],
            )?,
            merge_memory_days: read.days("PROCESSOR_MERGE_MEMORY_DAYS", 400)?,
            property_order: read.choice(
                "PROCESSOR_PROPERTY_ORDER",
                &[
                    ("event_time", PropertyOrder::EventTime),
                    ("arrival", PropertyOrder::Arrival),
                ],
            )?,
            person_limits: Limits {
                keys: read.count("PROCESSOR_PERSON_MAX_KEYS", 10_000)?,
                bytes: read.count("PROCESSOR_PERSON_MAX_BYTES", 1 << 20)?,
            },
            trim: read.choice("PROCESSOR_TRIM", &[("acked", true), ("off", false)])?,
            rejected_max_len: read.count("REJECTED_MAXLEN", 100_000)? as u64,
            dead_letters: DeadLetterConfig {
                capacity: read.count("DLQ_MAXLEN", 100_000)? as u64,
                interval: read.millis("DLQ_REPLAY_INTERVAL_MS", 300_000)?,
                step: read.count("DLQ_REPLAY_BATCH", 100)?,
                threshold: read.count("DLQ_CIRCUIT_THRESHOLD", 5)? as u32,
                reset: read.millis("DLQ_CIRCUIT_RESET_MS", 300_000)?,
            },
            cohorts: CohortConfig {
                initial_delay: read.millis("COHORT_INITIAL_DELAY_MS", 30_000)?,
                interval: read.millis("COHORT_INTERVAL_MS", 600_000)?,
                stale: read.minutes("COHORT_STALE_MINUTES", 15)?,
                backoff_base: read.minutes("COHORT_BACKOFF_BASE_MINUTES", 30)?,
                backoff_max_exponent: read.count("COHORT_BACKOFF_MAX_EXPONENT", 10)? as u32,
                max_memory_bytes: read.count("COHORT_MAX_MEMORY_MB", 2_000)? as u64 * 1024 * 1024,
                max_threads: read.count("COHORT_MAX_THREADS", 2)?,
            },
            heartbeat_path: read
                .text("HEARTBEAT_PATH")
                .unwrap_or_else(|| "/tmp/processor.heartbeat".into())
                .into(),
            heartbeat_interval: read.millis("HEARTBEAT_INTERVAL_MS", 15_000)?,
            heartbeat_stale: read.millis("HEARTBEAT_STALE_MS", 30_000)?,
            geoip_database: read.text("GEOIP_DATABASE").map(PathBuf::from),
            geoip_url: read.optional_url("GEOLITE2_COUNTRY_URL", &["http", "https"])?,
            shutdown_timeout: read.millis("SHUTDOWN_TIMEOUT_MS", 45_000)?,
            log_level: read.text("LOG_LEVEL").unwrap_or_else(|| "info".into()),
            log_format: read.optional_choice(
                "LOG_FORMAT",
                &[("json", LogFormat::Json), ("pretty", LogFormat::Pretty)],
            )?,
            metrics_listen: read.address("METRICS_LISTEN")?,
        })
    }
}

/// Reads and parses single variables.
struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
            .map(|v| v.trim().to_owned())
            .filter(|v| !v.is_empty())
    }

    fn production(&self) -> Result<bool, ConfigError> {
        let name = if self.text("PROCESSOR_ENV").is_some() {
            "PROCESSOR_ENV"
        } else {
            "NODE_ENV"
        };
        self.choice(
            name,
            &[
                ("development", false),
                ("production", true),
                ("test", false),
                ("staging", false),
            ],
        )
    }

    /// A positive whole number.
    fn count(&self, name: &'static str, default: usize) -> Result<usize, ConfigError> {
        match self.text(name) {
            None => Ok(default),
            Some(value) => value
                .parse()
                .ok()
                .filter(|n| (1..=1_000_000_000).contains(n))
                .ok_or(ConfigError::Invalid {
                    name,
                    value,
                    accepted: "a whole number from 1 to 1000000000".into(),
                }),
        }
    }

    /// A host and a port to listen on.
    fn address(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(Some(value))
            }
            _ => Err(ConfigError::Invalid {
                name,
                value,
                accepted: "host:port, such as 0.0.0.0:9464".into(),
            }),
        }
    }

    fn millis(&self, name: &'static str, default: usize) -> Result<Duration, ConfigError> {
        self.count(name, default)
            .map(|ms| Duration::from_millis(ms as u64))
    }

    fn minutes(&self, name: &'static str, default: usize) -> Result<Duration, ConfigError> {
        self.count(name, default)
            .map(|minutes| Duration::from_secs(60 * minutes as u64))
    }

    /// Days up to a century; 0 is for ever.
    fn days(&self, name: &'static str, default: i32) -> Result<Option<i32>, ConfigError> {
        let days = match self.text(name) {
            None => default,
            Some(value) => value
                .parse()
                .ok()
                .filter(|days| (0..=36_500).contains(days))
                .ok_or(ConfigError::Invalid {
                    name,
                    value,
                    accepted: "a whole number from 0 to 36500".into(),
                })?,
        };
        Ok((days > 0).then_some(days))
    }

    /// One of the named choices; the first is the default.
    fn choice<T: Copy>(&self, name: &'static str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        Ok(self.optional_choice(name, choices)?.unwrap_or(choices[0].1))
    }

    fn optional_choice<T: Copy>(
        &self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match choices.iter().find(|(word, _)| *word == value) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => Err(ConfigError::Invalid {
                name,
                value,
                accepted: choices
                    .iter()
                    .map(|(word, _)| *word)
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    fn url(
        &self,
        name: &'static str,
        default: &str,
        schemes: &[&str],
        required: bool,
    ) -> Result<Url, ConfigError> {
        match self.text(name) {
            None if required => Err(ConfigError::Missing { name }),
            value => parse_url(name, value.as_deref().unwrap_or(default), schemes),
        }
    }

    fn optional_url(&self, name: &'static str, schemes: &[&str]) -> Result<Option<Url>, ConfigError> {
        self.text(name)
            .map(|value| parse_url(name, &value, schemes))
            .transpose()
    }

    fn clickhouse(&self, production: bool) -> Result<ClickHouseConfig, ConfigError> {
        let url = self.url(
            "CLICKHOUSE_URL",
            "http://localhost:8123",
            &["http", "https"],
            production,
        )?;
        let compression = self.optional_choice(
            "CLICKHOUSE_COMPRESSION",
            &[
                ("auto", None),
                ("lz4", Some(Compression::Lz4)),
                ("none", Some(Compression::None)),
            ],
        )?;
        let automatic = if is_loopback(&url) {
            Compression::None
        } else {
            Compression::Lz4
        };
        Ok(ClickHouseConfig {
            compression: compression.flatten().unwrap_or(automatic),
            url,
            database: self.identifier("CLICKHOUSE_DB", "qurvo_analytics")?,
            request_timeout: self.millis("CLICKHOUSE_REQUEST_TIMEOUT_MS", 30_000)?,
            user: self.text("CLICKHOUSE_USER").unwrap_or_else(|| "qurvo".into()),
            password: self
                .text("CLICKHOUSE_PASSWORD")
                .unwrap_or_else(|| "qurvo_secret".into()),
            cluster: match self.text("CLICKHOUSE_CLUSTER") {
                None => None,
                Some(_) => Some(self.identifier("CLICKHOUSE_CLUSTER", "")?),
            },
        })
    }

    /// A name that may stand in DDL, where nothing can be bound: letters, digits, underscore, hyphen, braces.
    fn identifier(&self, name: &'static str, default: &str) -> Result<String, ConfigError> {
        let value = self.text(name).unwrap_or_else(|| default.to_owned());
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '{' | '}');
        if !value.is_empty() && value.chars().all(plain) {
            Ok(value)
        } else {
            Err(ConfigError::Invalid {
                name,
                value,
                accepted: "letters, digits, `_` and `-`".into(),
            })
        }
    }

    fn roles(&self) -> Result<BTreeSet<Role>, ConfigError> {
        let name = "PROCESSOR_ROLES";
        let value = self.text(name).unwrap_or_else(|| "consume,dlq,cohorts".into());
        value
            .split(',')
            .map(|word| match word.trim() {
                "consume" => Ok(Role::Consume),
                "dlq" => Ok(Role::Dlq),
                "cohorts" => Ok(Role::Cohorts),
                _ => Err(ConfigError::Invalid {
                    name,
                    value: value.clone(),
                    accepted: "a comma-separated list of consume, dlq, cohorts".into(),
                }),
            })
            .collect()
    }

    fn streams(&self) -> Result<Vec<String>, ConfigError> {
        let name = "PROCESSOR_STREAM";
        let value = self.text(name).unwrap_or_else(|| "events:incoming".into());
        let streams: Vec<String> = value.split(',').map(|s| s.trim().to_owned()).collect();
        let distinct: BTreeSet<&String> = streams.iter().collect();
        if streams.iter().any(String::is_empty) || distinct.len() != streams.len() {
            let accepted = "a stream name or a comma-separated list of distinct ones".into();
            return Err(ConfigError::Invalid {
                name,
                value,
                accepted,
            });
        }
        Ok(streams)
    }
}

/// Parses a URL; its text, which may hold a password, is not repeated in the error.
fn parse_url(name: &'static str, value: &str, schemes: &[&str]) -> Result<Url, ConfigError> {
    let refused = |value: String| ConfigError::Invalid {
        name,
        value,
        accepted: format!("a URL beginning with {}", schemes.join(":// or ") + "://"),
    };
    let url = Url::parse(value).map_err(|_| refused("(hidden)".into()))?;
    if schemes.contains(&url.scheme()) {
        Ok(url)
    } else {
        Err(refused(format!("{}://(hidden)", url.scheme())))
    }
}

/// The URL without user and password, for logs.
pub fn redacted(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut url) => {
            let _no_authority = url.set_username("");
            let _no_authority = url.set_password(None);
            url.set_query(None);
            url.to_string()
        }
        Err(_) => "(not a URL)".into(),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// `processor-<hostname>-<pid>`: the pid alone is the same in every container.
fn default_consumer_name() -> String {
    format!(
        "processor-{}-{}",
        gethostname::gethostname().to_string_lossy(),
        std::process::id()
    )
}

/// The variables as a page for people.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Configuration\n\nEverything is an environment variable; unset means the default. A value that does not parse ends the \
         program with exit code 2\nand a message that names it. This page is made from the program: \
         `UPDATE_DOCS=1 ./dev test -E 'test(/configuration_page/)'`.\n\n| variable | default | meaning |\n| --- | --- | --- |\n",
    );
    for Variable {
        name,
        default,
        meaning,
    } in VARIABLES
    {
        let default = if default.is_empty() { "unset" } else { default };
        page.push_str(&format!("| `{name}` | {default} | {meaning} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Config::from_lookup(&move |name| pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    #[test]
    fn a_memory_of_no_days_is_one_for_ever() {
        let days = |value| config(&[("PROCESSOR_MERGE_MEMORY_DAYS", value)]).map(|c| c.merge_memory_days);
        assert_eq!(days("0").unwrap(), None);
        assert_eq!(days("1").unwrap(), Some(1));
        assert_eq!(days("").unwrap(), Some(400));
        for wrong in ["-1", "36501", "ever", "1.5"] {
            let error = days(wrong).unwrap_err().to_string();
            assert!(error.contains("PROCESSOR_MERGE_MEMORY_DAYS"), "{error}");
        }
    }

    #[test]
    fn unset_means_the_default() {
        let config = config(&[]).unwrap();
        assert_eq!(config.batch_size, 1000);
        assert_eq!(config.flush_interval, Duration::from_secs(5));
        assert_eq!(config.streams, ["events:incoming"]);
        assert_eq!(config.backpressure_threshold, 20_000);
        assert_eq!(config.clickhouse.compression, Compression::None);
        assert!(config.consumer_name.starts_with("processor-"));
    }

    #[test]
    fn a_value_that_does_not_parse_names_variable_value_and_what_is_accepted() {
        let error = config(&[("PROCESSOR_BATCH_SIZE", "many")])
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("PROCESSOR_BATCH_SIZE")
                && error.contains("many")
                && error.contains("whole number")
        );
        let error = config(&[("PROCESSOR_ROLES", "consume,dance")])
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("dance") && error.contains("cohorts"));
    }

    #[test]
    fn a_password_in_a_refused_url_is_not_repeated() {
        let error = config(&[("REDIS_URL", "http://u:hunter2@h")])
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("REDIS_URL") && !error.contains("hunter2"),
            "{error}"
        );
        assert!(!redacted("postgresql://u:hunter2@h/db").contains("hunter2"));
    }

    #[test]
    fn production_requires_the_three_service_urls() {
        let error = config(&[("NODE_ENV", "production")]).err().unwrap();
        assert_eq!(error, ConfigError::Missing { name: "REDIS_URL" });
    }

    #[test]
    fn a_threshold_below_the_largest_batch_makes_batches_smaller() {
        let config = config(&[("PROCESSOR_BACKPRESSURE_THRESHOLD", "2000")]).unwrap();
        assert_eq!(config.max_batch_size, 2000);
    }

    #[test]
    fn an_address_needs_a_host_and_a_port() {
        let listens = |value| config(&[("METRICS_LISTEN", value)]).map(|config| config.metrics_listen);
        assert_eq!(listens(""), Ok(None));
        assert_eq!(listens("[::1]:9464"), Ok(Some("[::1]:9464".into())));
        for refused in ["9464", ":9464", "localhost", "localhost:0", "localhost:99999"] {
            assert!(listens(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_database_name_cannot_carry_sql() {
        assert!(config(&[("CLICKHOUSE_DB", "x; DROP TABLE y")]).is_err());
    }
}
