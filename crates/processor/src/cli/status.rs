//! `qurvo-processor status`: what waits where, and for how long.
//!
//! With `--json`, one object: `streams` (per stream: `name`, `length`, `lag`, `pending`, `consumers` with `name`,
//! `pending`, `idle_ms`), `rejected`, `dead_letters`, `oldest_dead_letter_s`, `locks` (seconds left), `last_row`,
//! `unpublished_overrides`, `stale_cohorts`, and `errors` for whatever could not be read.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use redis::streams::{StreamInfoConsumersReply, StreamInfoGroupsReply};
use serde::Serialize;
use stream_reply::StreamId;

use super::{Failure, print};
use crate::config::Config;
use crate::dead_letter::{QUEUE, Queue};
use crate::intake::GROUP;
use crate::rejected::REJECTED;
use crate::stores::{ClickHouse, Postgres, RedisConnection, StoreError, connect_redis};

/// The ingest service answers 503 while a stream holds this many entries.
const INGEST_LIMIT: u64 = 900_000;
/// Beyond this share of it people should know.
const WARN_SHARE: f64 = 0.8;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show again every two seconds until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize)]
struct Status {
    streams: Vec<Stream>,
    rejected: Option<u64>,
    dead_letters: Option<u64>,
    /// Since the oldest one was set aside.
    oldest_dead_letter_s: Option<u64>,
    locks: BTreeMap<String, i64>,
    last_row: Option<String>,
    unpublished_overrides: Option<i64>,
    stale_cohorts: Option<i64>,
    errors: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Stream {
    name: String,
    length: u64,
    lag: Option<u64>,
    pending: u64,
    consumers: Vec<Consumer>,
}

#[derive(Debug, Serialize)]
struct Consumer {
    name: String,
    pending: u64,
    idle_ms: u64,
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    loop {
        let status = read(&config).await?;
        if arguments.json {
            print(&serde_json::to_string(&status).map_err(anyhow::Error::from)?);
        } else {
            if arguments.watch {
                print("\x1b[2J\x1b[H");
            }
            print(&tables(&status));
        }
        if !arguments.watch {
            return if status.errors.is_empty() {
                Ok(())
            } else {
                Err(Failure::Silent)
            };
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}

/// Reads every part; what cannot be read is said and the rest still shown.
async fn read(config: &Config) -> Result<Status, Failure> {
    let mut status = Status::default();
    let mut redis = connect_redis(config).map_err(anyhow::Error::from)?;
    for stream in &config.streams {
        match read_stream(&mut redis, stream).await {
            Ok(read) => status.streams.push(read),
            Err(error) => status.errors.push(error.to_string()),
        }
    }
    if status.errors.is_empty() {
        status.rejected = length(&mut redis, REJECTED).await.ok();
        let queue = Queue {
            redis: redis.clone(),
            name: QUEUE,
            capacity: config.dead_letters.capacity,
        };
        status.dead_letters = queue.count().await.ok();
        if let Some(oldest) = queue.after(StreamId::MIN, 1).await.unwrap_or_default().first() {
            let now = jiff::Timestamp::now().as_millisecond() as u64;
            status.oldest_dead_letter_s = Some(now.saturating_sub(oldest.id.ms) / 1000);
        }
        for lock in ["dlq:replay:lock", "dlq:replay:circuit", "cohort_membership:lock"] {
            if let Ok(left @ 0..) = redis::cmd("TTL").arg(lock).query_async::<i64>(&mut redis).await {
                status.locks.insert(lock.into(), left);
            }
        }
    }
    let clickhouse = ClickHouse::new(&config.clickhouse);
    match last_row(&clickhouse).await {
        Ok(last) => status.last_row = last,
        Err(error) => status.errors.push(error.to_string()),
    }
    let postgres = Postgres::new(&config.database_url).map_err(anyhow::Error::from)?;
    match counts(&postgres).await {
        Ok((overrides, cohorts)) => {
            status.unpublished_overrides = Some(overrides);
            status.stale_cohorts = Some(cohorts);
        }
        Err(error) => status.errors.push(error.to_string()),
    }
    Ok(status)
}

async fn length(redis: &mut RedisConnection, key: &str) -> Result<u64, StoreError> {
    redis::cmd("XLEN")
        .arg(key)
        .query_async(redis)
        .await
        .map_err(|e| StoreError::redis("reading a length", &e))
}

async fn read_stream(redis: &mut RedisConnection, name: &str) -> Result<Stream, StoreError> {
    let failed = |e: redis::RedisError| StoreError::redis("reading the stream's state", &e);
    let mut stream = Stream {
        name: name.into(),
        length: length(redis, name).await?,
        ..Stream::default()
    };
    if stream.length == 0
        && !redis::cmd("EXISTS")
            .arg(name)
            .query_async::<bool>(redis)
            .await
            .map_err(failed)?
    {
        return Ok(stream);
    }
    let groups: StreamInfoGroupsReply = redis::cmd("XINFO")
        .arg("GROUPS")
        .arg(name)
        .query_async(redis)
        .await
        .map_err(failed)?;
    let Some(group) = groups.groups.into_iter().find(|group| group.name == GROUP) else {
        return Ok(stream);
    };
    stream.pending = group.pending as u64;
    stream.lag = group.lag.map(|lag| lag as u64);
    let consumers: StreamInfoConsumersReply = redis::cmd("XINFO")
        .arg("CONSUMERS")
        .arg(name)
        .arg(GROUP)
        .query_async(redis)
        .await
        .map_err(failed)?;
    let consumers = consumers.consumers.into_iter();
    stream.consumers = consumers
        .map(|c| Consumer {
            name: c.name,
            pending: c.pending as u64,
            idle_ms: c.idle as u64,
        })
        .collect();
    Ok(stream)
}

async fn last_row(clickhouse: &ClickHouse) -> Result<Option<String>, StoreError> {
    // The newest month only: bounded, whatever the table holds.
    let sql = "SELECT toString(max(ingested_at)) FROM events WHERE timestamp > now() - INTERVAL 31 DAY HAVING count() > 0";
    Ok(clickhouse
        .rows::<String>("reading the newest row", clickhouse.query(sql))
        .await?
        .pop())
}

async fn counts(postgres: &Postgres) -> Result<(i64, i64), StoreError> {
    let sql = "
        SELECT (SELECT count(*) FROM processor_person_overrides WHERE NOT published),
               (SELECT count(*) FROM cohorts WHERE NOT is_static AND (membership_computed_at IS NULL
                    OR membership_computed_at < now() - interval '15 minutes'))";
    let rows = postgres.query("counting what waits", sql, &[]).await?;
    Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
}

fn tables(status: &Status) -> String {
    let mut streams = Table::new();
    streams
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_header(["stream", "length", "lag", "pending", "consumer", "idle"]);
    let mut warnings = Vec::new();
    for stream in &status.streams {
        let lag = stream.lag.map_or("unknown".into(), |lag| lag.to_string());
        streams.add_row([
            stream.name.clone(),
            stream.length.to_string(),
            lag,
            stream.pending.to_string(),
            String::new(),
            String::new(),
        ]);
        for consumer in &stream.consumers {
            let idle = format!("{:.1} s", consumer.idle_ms as f64 / 1000.0);
            let pending = consumer.pending.to_string();
            streams.add_row([
                String::new(),
                String::new(),
                String::new(),
                pending,
                consumer.name.clone(),
                idle,
            ]);
        }
        if stream.length as f64 > INGEST_LIMIT as f64 * WARN_SHARE {
            warnings.push(format!(
                "{} holds {} entries: the ingest service refuses events at {INGEST_LIMIT}",
                stream.name, stream.length
            ));
        }
    }
    let mut rest = Table::new();
    rest.load_style(UTF8_HORIZONTAL_ONLY);
    let shown = |value: Option<String>| value.unwrap_or_else(|| "unknown".into());
    rest.add_row([
        "rejected events".to_owned(),
        shown(status.rejected.map(|n| n.to_string())),
    ]);
    rest.add_row([
        "dead letters".to_owned(),
        shown(status.dead_letters.map(|n| n.to_string())),
    ]);
    if let Some(age) = status.oldest_dead_letter_s {
        rest.add_row(["oldest dead letter".to_owned(), format!("{age} s")]);
    }
    rest.add_row([
        "newest row written".to_owned(),
        status.last_row.clone().unwrap_or_else(|| "none".into()),
    ]);
    rest.add_row([
        "unpublished overrides".to_owned(),
        shown(status.unpublished_overrides.map(|n| n.to_string())),
    ]);
    rest.add_row([
        "stale cohorts".to_owned(),
        shown(status.stale_cohorts.map(|n| n.to_string())),
    ]);
    for (lock, left) in &status.locks {
        rest.add_row([lock.clone(), format!("{left} s left")]);
    }
    let mut text = format!("{streams}\n{rest}");
    for line in warnings.iter().chain(&status.errors) {
        text.push_str(&format!("\n! {line}"));
    }
    text
}
