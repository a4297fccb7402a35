//! How the environment is read.

use super::*;

fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
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
    assert_eq!(config.backpressure_threshold, 100_000);
    assert_eq!(config.clickhouse.compression, Compression::None);
    assert!(config.consumer_name.starts_with("processor-"));
}

#[test]
fn every_preset_is_a_value_that_is_accepted() {
    let unset = config(&[]).map(|_| ()).ok();
    assert_eq!(unset, Some(()));
    for variable in VARIABLES {
        let Some(value) = variable.unset.value() else {
            continue;
        };
        let told = config(&[(variable.name, value)])
            .err()
            .map(|error| error.to_string());
        assert_eq!(told, None, "{}", variable.name);
    }
}

#[test]
fn a_value_that_does_not_parse_names_variable_value_and_what_is_accepted() {
    let error = config(&[("PROCESSOR_BATCH_SIZE", "many")])
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("PROCESSOR_BATCH_SIZE") && error.contains("many") && error.contains("whole number")
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
    let errors = config(&[("NODE_ENV", "production")]).err().unwrap();
    let missing = ["REDIS_URL", "DATABASE_URL", "CLICKHOUSE_URL"].map(|name| ConfigError::Missing { name });
    assert_eq!(errors.0, missing);
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

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let wrong = [
        ("PROCESSOR_ENV", "prod"),
        ("PROCESSOR_BATCH_SIZE", "many"),
        ("CLICKHOUSE_URL", "tcp://h"),
        ("HEARTBEAT_STALE_MS", "1"),
        ("PROCESSOR_CONSUMER_NAME", "a\nb"),
        ("METRICS_LISTEN", ":9464"),
    ];
    let errors = config(&wrong).err().unwrap();
    let mut named: Vec<&str> = errors.0.iter().map(ConfigError::name).collect();
    named.sort_unstable();
    let mut expected = wrong.map(|(name, _)| name);
    expected.sort_unstable();
    assert_eq!(named, expected);
}

#[test]
fn a_url_says_only_what_is_read_of_it() {
    for (name, url, hint) in [
        ("CLICKHOUSE_URL", "http://u:hunter2@h:8123", "CLICKHOUSE_PASSWORD"),
        (
            "CLICKHOUSE_URL",
            "http://h:8123/?database=hunter2",
            "CLICKHOUSE_DB",
        ),
        ("CLICKHOUSE_URL", "h:8123", "http://"),
        ("REDIS_URL", "redis://h:6379/events", "number of a database"),
        ("REDIS_URL", "redis://:hunter2#x@h:6379", "%23"),
        ("REDIS_URL", "redis://u:12/hunter2@h:6379", "%2F"),
        ("DATABASE_URL", "postgresql://u:12?hunter2@h/db", "%3F"),
        // An `@` before it makes what follows look like a host and a path.
        ("REDIS_URL", "redis://:1@2/hunter2@h:6379", "%2F"),
        ("REDIS_URL", "redis://:1@2/hunter2", "number of a database"),
        ("DATABASE_URL", "postgresql://u:1@2/hunter2@h/db", "%2F"),
        ("DATABASE_URL", "postgresql://u:1@2?hunter2@h/db", "%3F"),
        ("DATABASE_URL", "postgresql://u:1@2#hunter2@h/db", "%23"),
    ] {
        let error = config(&[(name, url)]).err().unwrap().to_string();
        assert!(
            error.contains(name) && error.contains(hint) && !error.contains("hunter2"),
            "{url}: {error}"
        );
    }
    // The last `@` ends the password, so this one need not be encoded.
    assert!(config(&[("REDIS_URL", "redis://:a@b@h:6379/0")]).is_ok());
    // Nor one in a parameter's value.
    let named = "postgresql://u:p@h/db?application_name=a@b";
    assert!(config(&[("DATABASE_URL", named)]).is_ok());
}

#[test]
fn what_goes_with_a_url_is_not_judged_while_the_url_is_wrong() {
    let told = |pairs: &'static [(&'static str, &'static str)]| {
        let lookup = move |name: &str| {
            let found = pairs.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let Err(ConfigErrors(wrong)) = Config::from_lookup(&lookup) else {
            return Vec::new();
        };
        wrong.iter().map(ConfigError::name).collect::<Vec<_>>()
    };
    let files = [
        [("REDIS_URL", "rediss//h"), ("REDIS_CA_FILE", "/ca")],
        [("REDIS_URL", "nonsense"), ("REDIS_SENTINEL_PASSWORD", "p")],
        [("REDIS_URL_FILE", "/does/not/exist"), ("REDIS_CERT_FILE", "/c")],
        [("CLICKHOUSE_URL", "nonsense"), ("CLICKHOUSE_CA_FILE", "/ca")],
    ];
    for pairs in Box::leak(Box::new(files)) {
        assert_eq!(told(pairs), [pairs[0].0]);
    }
    assert_eq!(told(&[("REDIS_CA_FILE", "/ca")]), ["REDIS_CA_FILE"]);
    assert_eq!(
        told(&[
            ("REDIS_URL", "nonsense"),
            ("CLICKHOUSE_CA_FILE", "/ca"),
            ("DLQ_MAXLEN", "x")
        ]),
        ["REDIS_URL", "CLICKHOUSE_CA_FILE", "DLQ_MAXLEN"]
    );
}
