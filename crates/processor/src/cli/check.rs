//! `qurvo-processor check`: can this configuration work? Stops at the first thing wrong and says what to do. Changes
//! nothing.
//!
//! With `--json`, one array of findings in the order in which they were made: `what` was looked at, whether it is `ok`,
//! the `detail` (when not ok: what to do), and how many `ms` it took.

use std::time::Instant;

use serde::Serialize;

use super::failure::Failure;
use super::output::{Rows, print, print_json};
use crate::cohorts;
use crate::config::Config;
use crate::intake::{GROUP, REFUSED_AT};
use crate::migrations;
use crate::replay;
use crate::set_aside::{QUEUE, REJECTED};
use crate::stores::{ClickHouse, Places, Postgres, Redis, StoreError};
use crate::telemetry::streams::{self, Stream};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    detail: String,
    ms: u128,
}

/// The oldest versions that have what is used.
const OLDEST_REDIS: u64 = 7;
const OLDEST_POSTGRES: i32 = 140_000;
const OLDEST_CLICKHOUSE: (u64, u64) = (24, 8);

/// What keys of ours have to be, once they are there.
const KEYS: [(&str, &str); 4] = [
    (QUEUE, "stream"),
    (REJECTED, "stream"),
    (replay::LOCK, "string"),
    (cohorts::LOCK, "string"),
];

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let mut findings = vec![Finding {
        what: "configuration",
        ok: true,
        detail: format!("this instance would be consumer {}", config.consumer_name),
        ms: 0,
    }];
    let places = Places::of(&config);
    let checks: [(&'static str, Check<'_>); 6] = [
        ("Redis", Box::pin(at(&places.redis, redis(&config)))),
        ("PostgreSQL", Box::pin(at(&places.postgres, postgres(&config)))),
        (
            "ClickHouse",
            Box::pin(at(&places.clickhouse, clickhouse(&config))),
        ),
        ("schema", Box::pin(schema(&config))),
        ("projects", Box::pin(projects(&config))),
        ("streams", Box::pin(streams(&config))),
    ];
    for (what, check) in checks {
        let started = Instant::now();
        let (ok, detail) = match check.await {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        findings.push(Finding {
            what,
            ok,
            detail,
            ms: started.elapsed().as_millis(),
        });
        if !ok {
            break;
        }
    }
    if arguments.json {
        print_json(&findings)?;
    } else {
        let mut table = Rows::new(&["check", "", "detail", "ms"]).prose(&["detail"]);
        for finding in &findings {
            let mark = if finding.ok { "ok" } else { "WRONG" };
            table.add([finding.what, mark, &finding.detail, &finding.ms.to_string()]);
        }
        print(&table.to_string());
    }
    if findings.iter().all(|finding| finding.ok) {
        Ok(())
    } else {
        Err(Failure::Silent)
    }
}

/// What was found, or what is wrong and what to do.
type Check<'a> = std::pin::Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

fn explain(what_to_do: &str) -> impl Fn(StoreError) -> String + '_ {
    move |error| format!("{error}: {what_to_do}")
}

/// Says of whatever was found where it was looked for.
async fn at(
    place: &str,
    check: impl Future<Output = Result<String, String>> + Send,
) -> Result<String, String> {
    match check.await {
        Ok(detail) => Ok(format!("{place}: {detail}")),
        Err(detail) => Err(format!("{place}: {detail}")),
    }
}

async fn redis(config: &Config) -> Result<String, String> {
    let redis = Redis::new(&config.redis_url).map_err(explain("check REDIS_URL"))?;
    let info: String = redis
        .ask("connecting", redis::cmd("INFO").arg("server"))
        .await
        .map_err(explain("check REDIS_URL and that Redis is running"))?;
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .unwrap_or("0")
        .trim();
    let major: u64 = version
        .split('.')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    if major < OLDEST_REDIS {
        return Err(format!(
            "version {version} is too old: use Redis {OLDEST_REDIS} or newer"
        ));
    }
    Ok(format!("version {version}"))
}

async fn postgres(config: &Config) -> Result<String, String> {
    let postgres = Postgres::new(&config.database_url).map_err(explain("check DATABASE_URL"))?;
    let rows = postgres
        .query(
            "connecting",
            "SELECT current_setting('server_version_num')::int",
            &[],
        )
        .await
        .map_err(explain("check DATABASE_URL and that PostgreSQL is running"))?;
    let version: i32 = rows.first().map_or(0, |row| row.get(0));
    if version < OLDEST_POSTGRES {
        return Err(format!(
            "version {version} is too old: use PostgreSQL 14 or newer"
        ));
    }
    Ok(format!("version {}.{}", version / 10_000, version % 10_000))
}

async fn clickhouse(config: &Config) -> Result<String, String> {
    let clickhouse = ClickHouse::new(&config.clickhouse);
    let anywhere = clickhouse.without_database();
    let rows: Vec<String> = anywhere
        .rows("connecting", anywhere.query("SELECT version()"))
        .await
        .map_err(explain(
            "check CLICKHOUSE_URL, CLICKHOUSE_USER and CLICKHOUSE_PASSWORD",
        ))?;
    let version = rows.into_iter().next().unwrap_or_default();
    let mut parts = version.split('.').map(|n| n.parse().unwrap_or(0));
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST_CLICKHOUSE {
        return Err(format!(
            "version {version} is too old: use ClickHouse 24.8 or newer"
        ));
    }
    Ok(format!("version {version}"))
}

async fn schema(config: &Config) -> Result<String, String> {
    let postgres = Postgres::new(&config.database_url).map_err(explain("check DATABASE_URL"))?;
    let clickhouse = ClickHouse::new(&config.clickhouse);
    let report = migrations::status(&postgres, &clickhouse)
        .await
        .map_err(|error| error.to_string())?;
    let pending: Vec<&str> = report.pending().map(|step| step.name).collect();
    if !pending.is_empty() {
        return Err(format!(
            "behind by {}: run `qurvo-processor migrate`",
            pending.join(", ")
        ));
    }
    migrations::verify(&postgres, &clickhouse).await.map_err(|error| {
        format!(
            "{error}: all migrations are recorded as applied, but this is not as they leave it; restore it, or, if it \
             is the dictionary (a password may have changed), run `DROP DICTIONARY person_overrides_dict` in \
             ClickHouse and then `qurvo-processor migrate`"
        )
    })?;
    Ok(format!(
        "{} migrations, tables and dictionary as needed",
        report.steps.len()
    ))
}

async fn projects(config: &Config) -> Result<String, String> {
    let postgres = Postgres::new(&config.database_url).map_err(explain("check DATABASE_URL"))?;
    postgres
        .has_projects()
        .await
        .map_err(explain("check DATABASE_URL, or create a project"))?;
    Ok("there are some".into())
}

async fn streams(config: &Config) -> Result<String, String> {
    let redis = Redis::new(&config.redis_url).map_err(explain("check REDIS_URL"))?;
    let mut details = Vec::new();
    for stream in &config.streams {
        details.push(stream_state(&redis, stream).await?);
    }
    for (key, wanted) in KEYS {
        let checked = redis.check_type("looking at a key", key, wanted).await;
        checked.map_err(|error| error.to_string())?;
    }
    details.push(if config.trim {
        "trims what every group has acknowledged".into()
    } else {
        "trims nothing (PROCESSOR_TRIM=off): something else must shorten the stream".into()
    });
    Ok(details.join("; "))
}

/// Length and group of one stream. Neither has to be there yet.
async fn stream_state(redis: &Redis, stream: &str) -> Result<String, String> {
    let failed = explain("check that REDIS_URL names a user who may read streams");
    let found = redis.type_of("looking at the streams", stream).await;
    let found = found.map_err(&failed)?;
    if found != "stream" && found != "none" {
        return Err(format!(
            "{stream} is a {found}, not a stream: change PROCESSOR_STREAM, or remove the key"
        ));
    }
    let Some(Stream { length, group }) = streams::read(redis, stream).await.map_err(&failed)? else {
        return Ok(format!(
            "{stream}: not there yet, a worker creates it with its group {GROUP}"
        ));
    };
    if length >= REFUSED_AT {
        return Err(format!(
            "{stream} holds {length} entries, and ingest refuses events from {REFUSED_AT} on: start workers, and leave \
             PROCESSOR_TRIM at `acked`"
        ));
    }
    let group = match group {
        Some(_) => format!("group {GROUP} is there"),
        None => format!("a worker creates its group {GROUP}"),
    };
    Ok(format!(
        "{stream}: {length} of at most {REFUSED_AT} entries, {group}"
    ))
}
