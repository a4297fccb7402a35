//! Every misconfiguration that an operator is likely to make: what `check` and `run` say of it, and with which exit code.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use crate::support::World;

/// Standard output and error together, and the exit code.
fn told(world: &World, command: &str, environment: &[(&str, &str)]) -> (i32, String) {
    // What it finds is broken into lines for people.
    let arguments = match command {
        "check" => &[command, "--json"][..],
        command => &[command],
    };
    let output = world.output(arguments, environment);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code().unwrap_or(-1), text.concat())
}

/// What is set, and what has to be said of it.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// What can never work.
const REFUSED: &[Row] = &[
    (
        "REDIS_URL",
        "http://h:hunter2",
        &["REDIS_URL", "redis://, rediss://"],
    ),
    (
        "REDIS_URL",
        "127.0.0.1:42697",
        &["REDIS_URL", "redis://, rediss://"],
    ),
    (
        "REDIS_URL",
        "redis://127.0.0.1/events",
        &["REDIS_URL=…/(hidden)", "number of a database"],
    ),
    (
        "REDIS_URL",
        "redis://:hunter2#x@127.0.0.1",
        &["REDIS_URL", "percent-encoded", "%23"],
    ),
    ("DATABASE_URL", "mysql://h/db", &["DATABASE_URL", "postgres"]),
    (
        "DATABASE_URL",
        "postgresql://u:12/hunter2@h/db",
        &["DATABASE_URL", "percent-encoded", "%2F"],
    ),
    (
        "DATABASE_URL",
        "postgresql://h/db?sslmode=verify-full&sslrootcert=/nonexistent/ca.crt",
        &["sslrootcert=/nonexistent/ca.crt", "No such file"],
    ),
    (
        "DATABASE_URL",
        "postgresql://h/db?sslmode=nonsense",
        &["sslmode=nonsense"],
    ),
    (
        "DATABASE_URL",
        "postgresql://h/db?pgbouncer=true",
        &["DATABASE_URL", "`pgbouncer`"],
    ),
    (
        "CLICKHOUSE_URL",
        "tcp://h:9000",
        &["CLICKHOUSE_URL=tcp://(hidden)", "http:// or https://"],
    ),
    (
        "CLICKHOUSE_URL",
        "localhost:46495",
        &["CLICKHOUSE_URL=(hidden)", "http:// or https://"],
    ),
    (
        "CLICKHOUSE_URL",
        "http://u:hunter2@h:8123",
        &["CLICKHOUSE_USER and CLICKHOUSE_PASSWORD"],
    ),
    (
        "CLICKHOUSE_URL",
        "http://h:8123/?database=foo",
        &["CLICKHOUSE_URL", "CLICKHOUSE_DB"],
    ),
    ("CLICKHOUSE_DB", "x; DROP", &["CLICKHOUSE_DB", "letters, digits"]),
    (
        "PROCESSOR_BATCH_SIZE",
        "10k",
        &["PROCESSOR_BATCH_SIZE=10k", "1 to 1000000000"],
    ),
    (
        "PROCESSOR_FLUSH_INTERVAL_MS",
        "-1",
        &["PROCESSOR_FLUSH_INTERVAL_MS=-1"],
    ),
    (
        "PROCESSOR_ENV",
        "prod",
        &["PROCESSOR_ENV=prod", "production", "staging"],
    ),
    (
        "PROCESSOR_ROLES",
        "consume,dlg",
        &["PROCESSOR_ROLES=consume,dlg", "cohorts"],
    ),
    (
        "PROCESSOR_CONSUMER_NAME",
        "a\nb",
        &["PROCESSOR_CONSUMER_NAME=a\\nb", "line breaks"],
    ),
    ("HEARTBEAT_STALE_MS", "1", &["HEARTBEAT_STALE_MS=1", "from 1000"]),
    (
        "METRICS_LISTEN",
        ":9090",
        &["METRICS_LISTEN=:9090", "0.0.0.0:9464"],
    ),
    (
        "LOG_LEVEL",
        "warning",
        &["LOG_LEVEL=warning", "error, warn, info"],
    ),
    ("LOG_LEVEL", "eror", &["LOG_LEVEL=eror"]),
];

/// What may work one day; in braces stand the places of services, and of one that says nothing.
const SILENT_OR_WRONG: &[Row] = &[
    (
        "REDIS_URL",
        "redis://127.0.0.1:1",
        &["Connection refused", "check REDIS_URL and that Redis is running"],
    ),
    ("REDIS_URL", "redis://no-such-host.invalid", &["check REDIS_URL"]),
    (
        "REDIS_URL",
        "redis://:hunter2@127.0.0.1:{redis}",
        &["set user and password in REDIS_URL"],
    ),
    (
        "REDIS_URL",
        "redis://127.0.0.1:{redis}/99",
        &["DB index is out of range", "fewer databases"],
    ),
    (
        "REDIS_URL",
        "rediss://127.0.0.1:{redis}",
        &["does the port speak TLS?"],
    ),
    ("REDIS_URL", "redis://{mute}", &["no answer within 3 s"]),
    (
        "DATABASE_URL",
        "postgresql://u@127.0.0.1:1/db",
        &["check DATABASE_URL and that PostgreSQL is running"],
    ),
    (
        "DATABASE_URL",
        "postgresql://nobody:hunter2@127.0.0.1:{postgres}/qurvo_analytics",
        &["set user and password in DATABASE_URL"],
    ),
    (
        "DATABASE_URL",
        "{database}_nowhere",
        &["does not exist", "correct the database's name in DATABASE_URL"],
    ),
    (
        "DATABASE_URL",
        "{database}?sslmode=require",
        &["turn TLS on at the server"],
    ),
    (
        "DATABASE_URL",
        "postgresql://u@{mute}/db",
        &["no answer within 3 s"],
    ),
    (
        "CLICKHOUSE_URL",
        "http://127.0.0.1:1",
        &["Connection refused", "check CLICKHOUSE_URL"],
    ),
    (
        "CLICKHOUSE_URL",
        "https://127.0.0.1:{clickhouse}",
        &["the port does not speak TLS: write http:// in CLICKHOUSE_URL"],
    ),
    ("CLICKHOUSE_URL", "http://{mute}", &["no answer within 3"]),
    (
        "CLICKHOUSE_PASSWORD",
        "hunter2",
        &["set CLICKHOUSE_USER and CLICKHOUSE_PASSWORD"],
    ),
    ("CLICKHOUSE_DB", "nope", &["behind by", "qurvo-processor migrate"]),
    (
        "HEARTBEAT_PATH",
        "/nonexistent/heartbeat",
        &["/nonexistent/heartbeat cannot be written", "HEARTBEAT_PATH"],
    ),
    (
        "GEOIP_DATABASE",
        "/nonexistent.mmdb",
        &["/nonexistent.mmdb", "GEOIP_DATABASE"],
    ),
    (
        "METRICS_LISTEN",
        "{mute}",
        &["cannot be listened on", "METRICS_LISTEN"],
    ),
];

#[tokio::test]
async fn what_can_never_work_is_refused_with_exit_code_2_by_check_and_run() {
    let world = World::start().await;
    for (name, value, texts) in REFUSED {
        for command in ["check", "run"] {
            let (code, text) = told(&world, command, &[(name, value)]);
            assert_eq!(code, 2, "{command} {name}={value}: {text}");
            // A line of the log is JSON, which doubles the backslash.
            let text = text.replace("\\\\", "\\");
            for expected in *texts {
                assert!(
                    text.contains(expected),
                    "{command} {name}={value}: {expected}: {text}"
                );
            }
            assert!(!text.contains("hunter2"), "{command} {name}: {text}");
        }
    }
    // Whether a folder is there only shows on the machine that runs.
    let (code, text) = told(&world, "run", &[("HEARTBEAT_PATH", "/nonexistent/heartbeat")]);
    assert!(
        code == 2 && text.contains("HEARTBEAT_PATH=/nonexistent/heartbeat is not accepted"),
        "{text}"
    );
    let several = [
        ("PROCESSOR_BATCH_SIZE", "many"),
        ("PROCESSOR_ENV", "prod"),
        ("DATABASE_URL", "postgresql://h/db?sslmode=verified"),
        ("LOG_LEVEL", "loud"),
    ];
    let (code, text) = told(&world, "check", &several);
    assert_eq!(code, 2);
    for (name, _) in several {
        assert!(text.contains(name), "{name}: {text}");
    }
    let (code, text) = told(
        &world,
        "check",
        &[("PROCESSOR_ENV", "production"), ("REDIS_URL", "")],
    );
    assert!(code == 2 && text.contains("REDIS_URL must be set"), "{text}");
}

#[tokio::test]
async fn what_does_not_answer_as_it_should_is_told_within_seconds_with_what_to_do() {
    let world = World::start().await;
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().unwrap();
    let port = |service: &embedded_stack::Service| service.port().to_string();
    let places = [
        ("{mute}", mute.to_string()),
        ("{redis}", port(world.stack.redis().unwrap())),
        ("{postgres}", port(world.stack.postgres().unwrap())),
        ("{clickhouse}", port(world.stack.clickhouse().unwrap())),
        ("{database}", world.stack.database_url().unwrap()),
    ];
    for (name, value, texts) in SILENT_OR_WRONG {
        let value = places
            .iter()
            .fold((*value).to_owned(), |value, (place, is)| value.replace(place, is));
        let began = Instant::now();
        let (code, text) = told(&world, "check", &[(name, &value)]);
        assert_eq!(code, 1, "{name}={value}: {text}");
        for expected in *texts {
            assert!(text.contains(expected), "{name}={value}: {expected}: {text}");
        }
        assert!(!text.contains("hunter2"), "{name}: {text}");
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{name}={value}: {:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once_and_a_warning_is_no_failure() {
    let world = World::start().await;
    let wrong = [
        ("REDIS_URL", "redis://127.0.0.1:1"),
        ("DATABASE_URL", "postgresql://u@127.0.0.1:1/db"),
        ("CLICKHOUSE_PASSWORD", "wrong"),
        ("HEARTBEAT_PATH", "/nonexistent/heartbeat"),
    ];
    let output = world.output(&["check", "--json"], &wrong);
    assert_eq!(output.status.code(), Some(1));
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let is_wrong = |finding: &&serde_json::Value| finding["state"] == "wrong" && finding["ok"] == false;
    let found: Vec<&str> = findings
        .iter()
        .filter(is_wrong)
        .map(|f| f["what"].as_str().unwrap())
        .collect();
    assert_eq!(found, ["heartbeat", "Redis", "PostgreSQL", "ClickHouse"]);

    let odd = [
        ("PROCESSOR_BATCHSIZE", "7"),
        ("CLICKHOUSE_HOST", "db"),
        ("PROCESSOR_ENV", "production"),
    ];
    let output = world.output(&["check", "--json"], &odd);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let warnings: Vec<&str> = findings
        .iter()
        .filter(|finding| finding["state"] == "warning" && finding["ok"] == true)
        .map(|finding| finding["detail"].as_str().unwrap())
        .collect();
    for expected in [
        "PROCESSOR_BATCHSIZE is not read and has no effect: is PROCESSOR_BATCH_SIZE meant?",
        "CLICKHOUSE_HOST is not read",
        "development password in production",
    ] {
        assert!(
            warnings.iter().any(|warning| warning.contains(expected)),
            "{expected}: {warnings:?}"
        );
    }
    // Every other command says it beside its output.
    let output = world.output(&["dlq", "list", "--json"], &odd);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && text.contains("is PROCESSOR_BATCH_SIZE meant?"),
        "{text}"
    );
}

#[tokio::test]
async fn a_variable_that_is_no_text_is_refused_and_not_taken_for_unset() {
    let world = World::start().await;
    for arguments in [["check"].as_slice(), &["run"], &["probe", "live"]] {
        let output = world
            .command(arguments, &[])
            .env(
                "DATABASE_URL",
                OsStr::from_bytes(b"postgresql://u:hunter\xe9@h/db"),
            )
            .env("HEARTBEAT_PATH", OsStr::from_bytes(b"/tmp/\xe9"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(
            said.contains("HEARTBEAT_PATH") && said.contains("UTF-8"),
            "{said}"
        );
        assert!(!said.contains("hunter"), "{said}");
    }
}
