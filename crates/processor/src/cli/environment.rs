//! What `--help` says of the environment: the variables that a command reads.

use crate::config::VARIABLES;

/// What every command reads.
const ALWAYS: [&str; 3] = ["PROCESSOR_ENV", "LOG_LEVEL", "LOG_FORMAT"];
const REDIS: [&str; 9] = [
    "REDIS_URL",
    "REDIS_URL_FILE",
    "REDIS_PASSWORD_FILE",
    "REDIS_SENTINEL_USER",
    "REDIS_SENTINEL_PASSWORD",
    "REDIS_SENTINEL_PASSWORD_FILE",
    "REDIS_CA_FILE",
    "REDIS_CERT_FILE",
    "REDIS_KEY_FILE",
];
const POSTGRES: [&str; 2] = ["DATABASE_URL", "DATABASE_URL_FILE"];
const CLICKHOUSE: [&str; 11] = [
    "CLICKHOUSE_URL",
    "CLICKHOUSE_URL_FILE",
    "CLICKHOUSE_CA_FILE",
    "CLICKHOUSE_CERT_FILE",
    "CLICKHOUSE_KEY_FILE",
    "CLICKHOUSE_DB",
    "CLICKHOUSE_USER",
    "CLICKHOUSE_PASSWORD",
    "CLICKHOUSE_PASSWORD_FILE",
    "CLICKHOUSE_COMPRESSION",
    "CLICKHOUSE_REQUEST_TIMEOUT_MS",
];

/// All variables.
pub(super) fn all() -> String {
    table(|_| true)
}

/// For commands that look at, or take something off, the queues of what was set aside.
pub(super) fn of_queues() -> String {
    some(&[&REDIS])
}

/// For commands that put events through the whole pipeline.
pub(super) fn of_replay() -> String {
    let names = [
        "PROCESSOR_CONSUMER_NAME",
        "PROCESSOR_STREAM",
        "PROCESSOR_MERGE_POLICY",
        "PROCESSOR_PROPERTY_ORDER",
        "PROCESSOR_PERSON_MAX_BYTES",
        "PROCESSOR_PERSON_MAX_KEYS",
        "DLQ_MAXLEN",
        "REJECTED_MAXLEN",
        "DLQ_REPLAY_BATCH",
        "DLQ_CIRCUIT_THRESHOLD",
        "DLQ_CIRCUIT_RESET_MS",
        "GEOIP_DATABASE",
        "GEOLITE2_COUNTRY_URL",
    ];
    some(&[&names, &REDIS, &POSTGRES, &CLICKHOUSE])
}

/// For commands that ask all three stores.
pub(super) fn of_stores() -> String {
    some(&[&REDIS, &POSTGRES, &CLICKHOUSE])
}

/// For commands that ask PostgreSQL alone.
pub(super) fn of_postgres() -> String {
    some(&[&POSTGRES])
}

/// For commands that look at cohorts and their members.
pub(super) fn of_members() -> String {
    some(&[&["COHORT_STALE_MINUTES"], &POSTGRES, &CLICKHOUSE])
}

/// For commands that compute cohorts.
pub(super) fn of_computing() -> String {
    let names = [
        "COHORT_STALE_MINUTES",
        "COHORT_MAX_MEMORY_MB",
        "COHORT_MAX_THREADS",
        "SHUTDOWN_TIMEOUT_MS",
    ];
    some(&[&names, &REDIS, &POSTGRES, &CLICKHOUSE])
}

/// For commands that read an instance's heartbeat.
pub(super) fn of_heartbeat() -> String {
    some(&[&[
        "PROCESSOR_CONSUMER_NAME",
        "HEARTBEAT_PATH",
        "HEARTBEAT_INTERVAL_MS",
        "HEARTBEAT_STALE_MS",
    ]])
}

/// For commands that ask no store.
pub(super) fn of_none() -> String {
    some(&[])
}

fn some(names: &[&[&str]]) -> String {
    table(|name| ALWAYS.contains(&name) || names.iter().any(|some| some.contains(&name)))
}

fn table(is_read: impl Fn(&str) -> bool) -> String {
    let mut text = String::from("Environment:\n");
    for variable in VARIABLES.iter().filter(|variable| is_read(variable.name)) {
        text.push_str(&format!(
            "  {}\n      {} [default: {}]\n",
            variable.name,
            variable.meaning,
            variable.unset.shown()
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_lists_its_own_variables_and_those_of_every_command() {
        let text = of_queues();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| !line.starts_with(' '))
            .collect();
        assert_eq!(names, [REDIS.as_slice(), &ALWAYS].concat());
    }

    #[test]
    fn the_level_of_the_log_is_said_to_be_another_one_for_commands_that_are_not_run() {
        assert!(of_none().contains("[default: info for `run`, warn for the other commands]"));
    }

    #[test]
    fn what_is_said_to_be_read_is_a_variable() {
        const STORES: usize = REDIS.len() + 2 + 11;
        let count = |text: &str| text.matches("[default: ").count();
        assert_eq!(count(&all()), VARIABLES.len());
        for (text, variables) in [
            (of_replay(), 13 + STORES + 3),
            (of_stores(), STORES + 3),
            (of_postgres(), 2 + 3),
            (of_members(), 1 + 2 + 11 + 3),
            (of_computing(), 4 + STORES + 3),
            (of_heartbeat(), 4 + 3),
            (of_none(), 3),
        ] {
            assert_eq!(count(&text), variables, "{text}");
        }
    }
}
