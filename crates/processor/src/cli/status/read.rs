//! Reads every part of the status; what cannot be read is said and the rest still shown.

use std::collections::BTreeMap;

use redis::streams::{StreamInfoConsumersReply, StreamInfoGroupsReply};
use serde_json::Value;
use tokio_postgres::types::Type;

use super::facts::{Circuit, CircuitState, Consumer, Instance, Status, StoreState, Stream};
use super::newest::Newest;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::intake::GROUP;
use crate::runtime::report::{INSTANCES, Report};
use crate::set_aside::{QUEUE, Queue, REJECTED};
use crate::stores::{
    ClickHouse, Places, Postgres, RedisConnection, Store, StoreError, connect_redis, error_at,
};

const LOCKS: [&str; 2] = ["dlq:replay:lock", "cohort_membership:lock"];
const CIRCUIT: &str = "dlq:replay:circuit";
const FAILURES: &str = "dlq:replay:failures";

pub(super) async fn status(config: &Config, newest: &mut Newest) -> Result<Status, Failure> {
    let (mut status, places) = (Status::default(), Places::of(config));
    let mut redis = connect_redis(config)?;
    let clickhouse = ClickHouse::new(&config.clickhouse);
    let postgres = Postgres::new(&config.database_url)?;
    let mut asked = redis.clone();
    let ping = redis::cmd("PING");
    let answers = tokio::join!(
        ping.query_async::<()>(&mut asked),
        postgres.query("connecting", "SELECT 1", &[]),
        clickhouse.execute("connecting", clickhouse.query("SELECT 1")),
    );
    let in_redis = answers.0.map_err(|error| StoreError::redis("connecting", &error));
    if status.answers(Store::Redis, &places, in_redis)
        && let Err(error) = read_redis(&mut status, config, &mut redis).await
    {
        status.errors.push(error.to_string());
    }
    if status.answers(Store::Postgres, &places, answers.1.map(drop)) {
        match counts(&postgres, config).await {
            Ok((overrides, cohorts)) => {
                status.unpublished_overrides = Some(overrides);
                status.stale_cohorts = Some(cohorts);
            }
            Err(error) => status.errors.push(error.to_string()),
        }
        if let Err(error) = postgres.has_projects().await {
            status.errors.push(error.to_string());
        }
    }
    if status.answers(Store::ClickHouse, &places, answers.2) {
        match newest.row(&clickhouse).await {
            Ok(last) => status.last_row = last,
            Err(error) => status.errors.push(error.to_string()),
        }
    }
    Ok(status)
}

impl Status {
    /// What could be read; otherwise the error is noted.
    fn known<T>(&mut self, read: Result<T, StoreError>) -> Option<T> {
        read.map_err(|error| self.errors.push(error.to_string())).ok()
    }

    /// Notes whether a store answers.
    fn answers(&mut self, store: Store, places: &Places, answer: Result<(), StoreError>) -> bool {
        let error = answer.err().map(|error| error.to_string());
        self.errors.extend(error.clone());
        let reachable = error.is_none();
        self.stores.push(StoreState {
            name: store.to_string(),
            at: places.at(store).to_owned(),
            reachable,
            error,
        });
        reachable
    }
}

/// Each part by itself: a key that holds something else hides only what it would have told.
async fn read_redis(
    status: &mut Status,
    config: &Config,
    redis: &mut RedisConnection,
) -> Result<(), StoreError> {
    for stream in &config.streams {
        let read = read_stream(redis, stream).await;
        let read = status.known(read);
        status.streams.extend(read);
    }
    let now = now_ms(redis).await?;
    let read = read_instances(status, redis, now).await;
    status.known(read);
    let rejected = length(redis, REJECTED).await;
    status.rejected = status.known(rejected);
    let queue = Queue {
        redis: redis.clone(),
        name: QUEUE,
        capacity: config.dead_letters.capacity,
    };
    let letters = queue.count().await;
    status.dead_letters = status.known(letters);
    if status.dead_letters.is_some() {
        let oldest = queue.oldest().await?;
        status.oldest_dead_letter_s = oldest.map(|id| now.saturating_sub(id.ms) / 1000);
    }
    let circuit = circuit(redis).await;
    status.circuit = status.known(circuit);
    for lock in LOCKS {
        if let Some(left) = left(redis, lock).await? {
            status.locks.insert(lock, left);
        }
    }
    Ok(())
}

/// Redis's clock, by which its entries and reports are stamped.
async fn now_ms(redis: &mut RedisConnection) -> Result<u64, StoreError> {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME")
        .query_async(redis)
        .await
        .map_err(|e| StoreError::redis("reading the time", &e))?;
    Ok(seconds * 1000 + micros / 1000)
}

async fn read_instances(
    status: &mut Status,
    redis: &mut RedisConnection,
    now: u64,
) -> Result<(), StoreError> {
    let reports = redis::cmd("HGETALL").arg(INSTANCES).query_async(redis).await;
    let reports: BTreeMap<String, String> = match reports {
        Ok(reports) => reports,
        Err(error) => {
            return Err(error_at(redis, "reading the instances", INSTANCES, "hash", &error).await);
        }
    };
    for (name, text) in reports {
        let report = serde_json::from_str::<Report>(&text).ok();
        // Of a report in another form the time may still be where it always was.
        let at = || serde_json::from_str::<Value>(&text).ok()?.get("at")?.as_u64();
        let at = report.as_ref().map(|report| report.at).or_else(at);
        status.instances.push(Instance {
            name,
            silent_for_s: at.map(|at| now.saturating_sub(at) / 1000),
            readable: report.is_some(),
            report,
        });
    }
    Ok(())
}

async fn circuit(redis: &mut RedisConnection) -> Result<Circuit, StoreError> {
    let failures: Option<u64> = redis::cmd("GET")
        .arg(FAILURES)
        .query_async(redis)
        .await
        .map_err(|e| StoreError::redis("reading the circuit", &e))?;
    let open = left(redis, CIRCUIT).await?;
    Ok(Circuit {
        state: if open.is_some() {
            CircuitState::Open
        } else {
            CircuitState::Closed
        },
        seconds_left: open.flatten(),
        failures: failures.unwrap_or_default(),
    })
}

/// What is left of a key's time in seconds: nothing when there is no such key, inner nothing when it never expires.
async fn left(redis: &mut RedisConnection, key: &str) -> Result<Option<Option<u64>>, StoreError> {
    let ttl: i64 = redis::cmd("TTL")
        .arg(key)
        .query_async(redis)
        .await
        .map_err(|e| StoreError::redis("reading a lock", &e))?;
    Ok(match ttl {
        -2 => None,
        seconds => Some(u64::try_from(seconds).ok()),
    })
}

async fn length(redis: &mut RedisConnection, key: &str) -> Result<u64, StoreError> {
    let length = redis::cmd("XLEN").arg(key).query_async(redis).await;
    match length {
        Ok(length) => Ok(length),
        Err(error) => Err(error_at(redis, "reading a length", key, "stream", &error).await),
    }
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

async fn counts(postgres: &Postgres, config: &Config) -> Result<(i64, i64), StoreError> {
    let sql = "
        SELECT (SELECT count(*) FROM processor_person_overrides WHERE NOT published),
               (SELECT count(*) FROM cohorts WHERE NOT is_static AND (membership_computed_at IS NULL
                    OR membership_computed_at = 'infinity'
                    OR membership_computed_at < now() - $1 * interval '1 second'))";
    let stale = config.cohorts.stale.as_secs_f64();
    let rows = postgres
        .query("counting what waits", sql, &[(&stale, Type::FLOAT8)])
        .await?;
    Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
}
