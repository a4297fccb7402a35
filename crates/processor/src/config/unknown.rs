//! Variables that begin like ours and are not: most likely a name is misspelt, and the preset is used in silence.

use std::collections::BTreeSet;
use std::fmt;

use super::variables::VARIABLES;

/// A variable of the environment that the program does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Its name.
    pub name: String,
    /// The known one that looks most like it.
    pub nearest: &'static str,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, nearest } = self;
        write!(f, "{name} is not read and has no effect: is {nearest} meant?")
    }
}

/// Those of this process's environment, in the order of their names.
pub fn unknown_variables() -> Vec<Unknown> {
    let all = std::env::vars_os();
    unknown(all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))))
}

fn unknown(environment: impl Iterator<Item = (String, String)>) -> Vec<Unknown> {
    let prefix = |name: &'static str| &name[..=name.find('_').unwrap_or(name.len() - 1)];
    let ours: BTreeSet<&str> = VARIABLES
        .iter()
        .map(|variable| prefix(variable.name))
        .filter(|prefix| !matches!(*prefix, "OTEL_" | "DD_"))
        .collect();
    let mut found: Vec<Unknown> = environment
        .filter(|(name, _)| ours.iter().any(|prefix| name.starts_with(prefix)) || is_nearly_shared(name))
        .filter(|(name, _)| VARIABLES.iter().all(|variable| variable.name != name))
        .filter(|(name, value)| !is_service_link(name, value))
        .filter_map(|(name, _)| {
            // Of the same store, or the same feature, where we read one of it.
            let is_other =
                |known: &str| name.split_once('_').map(|(word, _)| word) != known.split('_').next();
            let nearest = VARIABLES
                .iter()
                .min_by_key(|known| (is_other(known.name), distance(&name, known.name)))?
                .name;
            Some(Unknown { name, nearest })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Of conventions that many programs share we read a part, and the rest is for others: told are those that only we could
/// mean, and what differs by a letter or two from one that we read.
fn is_nearly_shared(name: &str) -> bool {
    const OF_SENDING: [&str; 3] = ["OTEL_EXPORTER_OTLP_", "OTEL_BSP_", "OTEL_METRIC_EXPORT_"];
    // Names that others have beside those that we read.
    const OF_OTHERS: [&str; 3] = ["DD_AGENT_PORT", "DD_DOGSTATSD_HOST", "DD_TRACE_AGENT_HOST"];
    let is_of_logs = name.contains("_LOGS_") || name.starts_with("OTEL_BLRP_") || OF_OTHERS.contains(&name);
    let is_shared = name.starts_with("OTEL_") || name.starts_with("DD_");
    let is_near = || VARIABLES.iter().any(|known| distance(name, known.name) <= 2);
    is_shared && !is_of_logs && (OF_SENDING.iter().any(|prefix| name.starts_with(prefix)) || is_near())
}

/// What Kubernetes puts into each container for each service of its namespace, such as `REDIS_PORT_6379_TCP`.
fn is_service_link(name: &str, value: &str) -> bool {
    let of_a_port = |(_, rest): (&str, &str)| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split_once("_PORT_").is_some_and(of_a_port)
        || (name.ends_with("_PORT") && value.contains("://"))
}

/// How many letters have to be changed, added or left out.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pairs: &[(&str, &str)]) -> Vec<(String, &'static str)> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        unknown(pairs)
            .into_iter()
            .map(|found| (found.name, found.nearest))
            .collect()
    }

    #[test]
    fn a_misspelt_variable_is_told_with_the_known_one_that_looks_like_it() {
        for (name, nearest) in [
            ("PROCESSOR_BATCHSIZE", "PROCESSOR_BATCH_SIZE"),
            ("PROCESSOR_STREAMS", "PROCESSOR_STREAM"),
            ("HEARTBEAT_FILE", "HEARTBEAT_PATH"),
            ("COHORT_INTERVAL", "COHORT_INTERVAL_MS"),
            ("DATABASE_PASSWORD_FILE", "DATABASE_URL_FILE"),
            ("REDIS_SENTINEL_USERNAME", "REDIS_SENTINEL_USER"),
        ] {
            assert_eq!(found(&[(name, "1")]), [(name.to_owned(), nearest)]);
        }
        assert_eq!(found(&[("CLICKHOUSE_HOST", "db")]).len(), 1);
        for (name, nearest) in [
            ("OTEL_EXPORTER_OTLP_ENDPONT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
            ("OTEL_SERVICE_NAM", "OTEL_SERVICE_NAME"),
            ("DD_AGENTHOST", "DD_AGENT_HOST"),
        ] {
            assert_eq!(found(&[(name, "1")]), [(name.to_owned(), nearest)]);
        }
        assert_eq!(found(&[("OTEL_EXPORTER_OTLP_INSECURE", "true")]).len(), 1);
    }

    #[test]
    fn what_others_put_into_the_environment_is_not_ours() {
        let theirs = [
            ("PATH", "/bin"),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://c"),
            ("DD_LOGS_INJECTION", "true"),
            ("DD_SITE", "datadoghq.eu"),
            ("DD_AGENT_PORT", "8126"),
            ("DD_DOGSTATSD_HOST", "agent"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "1000"),
            ("REDIS_URL", "redis://h"),
            ("REDIS_PORT", "tcp://10.0.0.1:6379"),
            ("REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
            ("REDIS_SERVICE_HOST", "10.0.0.1"),
            ("CLICKHOUSE_SERVICE_PORT_HTTP", "8123"),
        ];
        assert_eq!(found(&theirs), []);
    }
}
