//! The configuration: environment variables as they are listed in `variables`, in types of their own.
//!
//! A value that does not parse is an error naming the variable, the value and what is accepted; there is never a
//! silent default. Values that may hold a password are never repeated in an error. All errors are told at once.

mod choices;
mod clickhouse;
mod conventions;
mod database_url;
mod environment;
mod password;
mod read;
mod redis_url;
mod secrets;
mod streams;
mod telemetry;
#[cfg(test)]
mod telemetry_tests;
#[cfg(test)]
mod tests;
mod tls;
mod unknown;
mod variables;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

pub use choices::{Compression, LogFormat, MergePolicy, PropertyOrder, Role, StreamShare};
pub use clickhouse::ClickHouseConfig;
pub use database_url::{PostgresConfig, PostgresServer, Ssl, SslMode};
use environment::{in_text, of_environment};
pub use password::Password;
use read::Reader;
pub use read::{ConfigError, ConfigErrors};
pub use redis_url::{Node, RedisConfig, RedisServers};
pub use secrets::names_a_file;
pub use streams::stream_names;
pub use telemetry::{OtlpConfig, OtlpProtocol, Resource, TelemetryConfig, place};
pub use tls::{Identity, TlsFiles};
pub use unknown::{Unknown, unknown_variables};
pub use variables::VARIABLES;

/// What is said of the password that everybody knows.
const DEVELOPMENT_PASSWORD: &str = "a store is used with the platform's development password in production: give the user \
                                    a password of its own, and set CLICKHOUSE_PASSWORD and DATABASE_URL";

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

/// The heartbeat file, and whose it is to be: all that a probe has to know.
#[derive(Debug, Clone)]
pub struct HeartbeatConfig {
    /// The file.
    pub path: PathBuf,
    /// How often it is rewritten.
    pub interval: Duration,
    /// How long a loop may show no progress before it is not.
    pub stale: Duration,
    /// The consumer's name, where it is configured.
    pub consumer: Option<String>,
}

/// The whole configuration. Durations and sizes are already in their own types.
#[derive(Clone)]
#[allow(
    missing_docs,
    reason = "each field is the variable of the same name, documented in VARIABLES"
)]
pub struct Config {
    /// Whether this is where a company's events are.
    pub production: bool,
    pub redis: RedisConfig,
    pub postgres: PostgresConfig,
    pub clickhouse: ClickHouseConfig,
    pub roles: BTreeSet<Role>,
    pub consumer_name: String,
    pub streams: Vec<String>,
    /// Those of them that are read to their end before the others.
    pub streams_first: Vec<String>,
    /// Which instances read which of them.
    pub stream_share: StreamShare,
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
    pub person_max_keys: usize,
    pub person_max_bytes: usize,
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
    /// What is sent where.
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// Reads the process environment.
    ///
    /// # Errors
    /// Every variable whose value is not accepted.
    pub fn from_env() -> Result<Self, ConfigErrors> {
        in_text(Self::from_lookup(&of_environment))
    }

    /// Reads variables through `lookup`; an empty value counts as unset.
    ///
    /// # Errors
    /// Every variable whose value is not accepted.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        read_all(lookup, Self::read)
    }

    fn read(read: &Reader<'_>) -> Result<Self, ConfigError> {
        use variables as var;
        let production = read.is_production()?;
        let batch_size = read.count(&var::PROCESSOR_BATCH_SIZE)?;
        let max_batch_size = read.count(&var::PROCESSOR_MAX_BATCH_SIZE)?.max(batch_size);
        let held = read.optional_count(&var::PROCESSOR_BACKPRESSURE_THRESHOLD)?;
        let held = held.unwrap_or(2 * max_batch_size);
        let heartbeat = HeartbeatConfig::read(read)?;
        let consumer_name = heartbeat.consumer.unwrap_or_else(default_consumer_name);
        Ok(Self {
            telemetry: TelemetryConfig::read(read, &consumer_name)?,
            production,
            redis: RedisConfig::read(read, production)?,
            postgres: PostgresConfig::read(read, production)?,
            clickhouse: ClickHouseConfig::read(read, production)?,
            roles: read.roles(&var::PROCESSOR_ROLES)?,
            consumer_name,
            streams: read.streams(&var::PROCESSOR_STREAM)?,
            streams_first: read.streams_first(&var::PROCESSOR_STREAM_FIRST, &var::PROCESSOR_STREAM)?,
            stream_share: read.choice(
                &var::PROCESSOR_STREAM_SHARE,
                &[("all", StreamShare::All), ("auto", StreamShare::Auto)],
            )?,
            read_count: read.count(&var::PROCESSOR_READ_COUNT)?,
            batch_size,
            flush_interval: read.milliseconds(&var::PROCESSOR_FLUSH_INTERVAL_MS)?,
            max_batch_size: max_batch_size.min(held),
            backpressure_threshold: held,
            max_held_bytes: read.mebibytes(&var::PROCESSOR_MAX_HELD_MB)?,
            person_cache_size: read.count(&var::PROCESSOR_PERSON_CACHE_SIZE)?,
            person_check: read.seconds(&var::PROCESSOR_PERSON_CHECK_SECONDS)?,
            claim_interval: read.milliseconds(&var::PROCESSOR_CLAIM_INTERVAL_MS)?,
            claim_idle: read.milliseconds(&var::PROCESSOR_CLAIM_IDLE_MS)?,
            merge_policy: read.choice(
                &var::PROCESSOR_MERGE_POLICY,
                &[("guarded", MergePolicy::Guarded), ("always", MergePolicy::Always)],
            )?,
            merge_memory_days: read.days(&var::PROCESSOR_MERGE_MEMORY_DAYS)?,
            property_order: read.choice(
                &var::PROCESSOR_PROPERTY_ORDER,
                &[
                    ("event_time", PropertyOrder::EventTime),
                    ("arrival", PropertyOrder::Arrival),
                ],
            )?,
            person_max_keys: read.count(&var::PROCESSOR_PERSON_MAX_KEYS)?,
            person_max_bytes: read.count(&var::PROCESSOR_PERSON_MAX_BYTES)?,
            trim: read.choice(&var::PROCESSOR_TRIM, &[("acked", true), ("off", false)])?,
            rejected_max_len: read.count(&var::REJECTED_MAXLEN)? as u64,
            dead_letters: DeadLetterConfig::read(read)?,
            cohorts: CohortConfig::read(read)?,
            heartbeat_path: heartbeat.path,
            heartbeat_interval: heartbeat.interval,
            heartbeat_stale: heartbeat.stale,
            geoip_database: read.optional(&var::GEOIP_DATABASE).map(PathBuf::from),
            geoip_url: read.optional_url(&var::GEOLITE2_COUNTRY_URL, &["http", "https"])?,
            shutdown_timeout: read.milliseconds(&var::SHUTDOWN_TIMEOUT_MS)?,
            log_level: read.text(&var::LOG_LEVEL),
            log_format: read.optional_choice(
                &var::LOG_FORMAT,
                &[("json", LogFormat::Json), ("pretty", LogFormat::Pretty)],
            )?,
            metrics_listen: read.address(&var::METRICS_LISTEN)?,
        })
    }
}

impl Config {
    /// What is wrong with the heartbeat's path on this machine: without its folder no probe could ever say yes.
    pub fn heartbeat_fault(&self) -> Option<ConfigError> {
        let folder = self.heartbeat_path.parent()?;
        let is_there = folder.as_os_str().is_empty() || folder.is_dir();
        (!is_there).then(|| ConfigError::Invalid {
            name: variables::HEARTBEAT_PATH.name,
            value: self.heartbeat_path.display().to_string(),
            accepted: "a path in a folder that is there".into(),
        })
    }

    /// What is said where a password that everybody knows is used in production.
    pub fn development_password(&self) -> Option<&'static str> {
        let known = variables::CLICKHOUSE_PASSWORD.unset.value().unwrap_or_default();
        let in_postgres = self.postgres.session.get_password() == Some(known.as_bytes());
        let is_used = self.clickhouse.password.current() == known || in_postgres;
        (self.production && is_used).then_some(DEVELOPMENT_PASSWORD)
    }
}

impl HeartbeatConfig {
    /// Reads what is needed from the process environment, whatever else is wrong there.
    ///
    /// # Errors
    /// Every variable whose value is not accepted.
    pub fn from_env() -> Result<Self, ConfigErrors> {
        in_text(read_all(&of_environment, Self::read))
    }

    fn read(read: &Reader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            path: read.text(&variables::HEARTBEAT_PATH).into(),
            interval: read.milliseconds(&variables::HEARTBEAT_INTERVAL_MS)?,
            stale: read.milliseconds_from(1000, &variables::HEARTBEAT_STALE_MS)?,
            consumer: read.name(&variables::PROCESSOR_CONSUMER_NAME)?,
        })
    }
}

/// Reads again without what is wrong, until nothing more is: an operator mends all of it at once.
fn read_all<T>(
    lookup: &dyn Fn(&str) -> Option<String>,
    read: impl Fn(&Reader<'_>) -> Result<T, ConfigError>,
) -> Result<T, ConfigErrors> {
    let mut wrong: Vec<ConfigError> = Vec::new();
    let mut unjudged: Vec<&'static str> = Vec::new();
    loop {
        let is_wrong =
            |name: &str| wrong.iter().any(|error| error.name() == name) || unjudged.contains(&name);
        let preset = |name: &str| {
            VARIABLES
                .iter()
                .find(|variable| variable.name == name)?
                .unset
                .value()
        };
        let rest = |name: &str| {
            if is_wrong(name) {
                preset(name).map(str::to_owned)
            } else {
                lookup(name)
            }
        };
        match read(&Reader { lookup: &rest }) {
            Ok(config) if wrong.is_empty() => return Ok(config),
            // Read beside the preset of a URL that is wrong: whether it goes with the right one nobody knows.
            Err(ConfigError::BesideUrl { name, url, .. }) if url.iter().any(|url| is_wrong(url)) => {
                unjudged.push(name);
            }
            Err(error) if !is_wrong(error.name()) => wrong.push(error),
            Ok(_) | Err(_) => return Err(ConfigErrors(wrong)),
        }
    }
}

impl DeadLetterConfig {
    fn read(read: &Reader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            capacity: read.count(&variables::DLQ_MAXLEN)? as u64,
            interval: read.milliseconds(&variables::DLQ_REPLAY_INTERVAL_MS)?,
            step: read.count(&variables::DLQ_REPLAY_BATCH)?,
            threshold: read.small_count(&variables::DLQ_CIRCUIT_THRESHOLD)?,
            reset: read.milliseconds(&variables::DLQ_CIRCUIT_RESET_MS)?,
        })
    }
}

impl CohortConfig {
    fn read(read: &Reader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            initial_delay: read.milliseconds(&variables::COHORT_INITIAL_DELAY_MS)?,
            interval: read.milliseconds(&variables::COHORT_INTERVAL_MS)?,
            stale: read.minutes(&variables::COHORT_STALE_MINUTES)?,
            backoff_base: read.minutes(&variables::COHORT_BACKOFF_BASE_MINUTES)?,
            backoff_max_exponent: read.small_count(&variables::COHORT_BACKOFF_MAX_EXPONENT)?,
            max_memory_bytes: read.mebibytes(&variables::COHORT_MAX_MEMORY_MB)? as u64,
            max_threads: read.count(&variables::COHORT_MAX_THREADS)?,
        })
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

/// `processor-<hostname>-<pid>`: the pid alone is the same in every container.
fn default_consumer_name() -> String {
    format!(
        "processor-{}-{}",
        gethostname::gethostname().to_string_lossy(),
        std::process::id()
    )
}
