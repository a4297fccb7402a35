//! What `--help` says of the environment: the variables that a command reads.

use crate::config::VARIABLES;

/// What every command reads.
const ALWAYS: [&str; 3] = ["PROCESSOR_ENV", "LOG_LEVEL", "LOG_FORMAT"];
const CLICKHOUSE: [&str; 6] = [
    "CLICKHOUSE_URL",
    "CLICKHOUSE_DB",
    "CLICKHOUSE_USER",
    "CLICKHOUSE_PASSWORD",
    "CLICKHOUSE_COMPRESSION",
    "CLICKHOUSE_REQUEST_TIMEOUT_MS",
];

/// All variables.
pub(super) fn all() -> String {
    table(|_| true)
}

/// For commands that look at, or take something off, the queues of what was set aside.
pub(super) fn of_queues() -> String {
    some(&[&["REDIS_URL"]])
}

/// For commands that put events through the whole pipeline.
pub(super) fn of_replay() -> String {
    let names = [
        "REDIS_URL",
        "DATABASE_URL",
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
    some(&[&names, &CLICKHOUSE])
}

/// For commands that ask all three stores.
pub(super) fn of_stores() -> String {
    some(&[&["REDIS_URL", "DATABASE_URL"], &CLICKHOUSE])
}

/// For commands that ask PostgreSQL alone.
pub(super) fn of_postgres() -> String {
    some(&[&["DATABASE_URL"]])
}

/// For commands that look at cohorts and their members.
pub(super) fn of_members() -> String {
    some(&[&["DATABASE_URL", "COHORT_STALE_MINUTES"], &CLICKHOUSE])
}

/// For commands that compute cohorts.
pub(super) fn of_computing() -> String {
    let names = [
        "REDIS_URL",
        "DATABASE_URL",
        "COHORT_STALE_MINUTES",
        "COHORT_MAX_MEMORY_MB",
        "COHORT_MAX_THREADS",
        "SHUTDOWN_TIMEOUT_MS",
    ];
    some(&[&names, &CLICKHOUSE])
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
        assert_eq!(names, ["REDIS_URL", "PROCESSOR_ENV", "LOG_LEVEL", "LOG_FORMAT"]);
    }

    #[test]
    fn the_level_of_the_log_is_said_to_be_another_one_for_commands_that_are_not_run() {
        assert!(of_none().contains("[default: info for `run`, warn for the other commands]"));
    }

    #[test]
    fn what_is_said_to_be_read_is_a_variable() {
        let count = |text: &str| text.matches("[default: ").count();
        assert_eq!(count(&all()), VARIABLES.len());
        for (text, variables) in [
            (of_replay(), 15 + 6 + 3),
            (of_stores(), 2 + 6 + 3),
            (of_postgres(), 1 + 3),
            (of_members(), 2 + 6 + 3),
            (of_computing(), 6 + 6 + 3),
            (of_heartbeat(), 4 + 3),
            (of_none(), 3),
        ] {
            assert_eq!(count(&text), variables, "{text}");
        }
    }
}
