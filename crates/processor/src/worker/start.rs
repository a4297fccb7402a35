//! What has to answer, and to be as it is needed, before anything is consumed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use enrichment::geo::GeoIp;
use enrichment::geo_source::GeoSettings;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::intake::{Holder, group};
use crate::migrations;
use crate::runtime::life::Life;
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task::Task;
use crate::stores::{FailureKind, Store, StoreError};
use crate::telemetry::tell_of_waiting;

use super::parts::Stores;

/// Looks at a stream's key of another type before the start is given up: some seconds in all.
const LOOKS_AT_A_WRONG_TYPE: u32 = 8;
/// The move of a slot that takes longer has been broken off, perhaps.
const MOVES_FOR: Duration = Duration::from_secs(30);
/// Longest that a first answer of ClickHouse is waited for, so that one that is mute is found out soon.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// Longest that PostgreSQL's tables are looked at.
const LOOKED_AT: Duration = Duration::from_secs(3);
/// How often whoever waits shows life.
const BEAT: Duration = Duration::from_millis(500);

/// Nothing is consumed before every store has answered once, with the tables that are needed and the rights to them. All
/// are asked at the same time, so that all that is wrong is said.
pub(super) async fn wait_for_stores(
    config: &Config,
    stores: &Stores,
    task: &Task,
    life: &Life,
) -> Result<Holder, GaveUp<StoreError>> {
    let starting = async {
        tokio::try_join!(
            redis_answers(config, stores, task, life),
            postgres_answers(stores, task, life),
            clickhouse_answers(stores, task, life),
        )?;
        of_its_own("start name", task)
            .retry(retry::REDIS, || {
                let name = &config.consumer_name;
                Holder::take(&stores.redis, name, &config.streams, config.claim_idle)
            })
            .await
    };
    // Each attempt has a limit of its own, so whoever waits here lives.
    let starting = task.pulse.beating(BEAT, starting);
    tokio::select! {
        () = task.shutdown.draining().cancelled() => Err(GaveUp::Abandoned(None)),
        started = starting => started,
        never = tell_of_waiting(config, &stores.redis, life) => match never {},
    }
}

/// What is tried beside others needs a sign of life that they do not touch.
fn of_its_own(name: &'static str, task: &Task) -> Task {
    Task::new(name, FIRST_ANSWER, &task.shutdown)
}

async fn redis_answers(
    config: &Config,
    stores: &Stores,
    task: &Task,
    life: &Life,
) -> Result<(), GaveUp<StoreError>> {
    let (wrong_types, on_its_way) = (AtomicU32::new(0), OnceLock::new());
    let task = of_its_own("start Redis", task);
    task.retry(retry::REDIS, || async {
        // Of several streams one is enough: each reader makes its own group, and goes on trying where it cannot.
        let mut failed = None;
        let mut answered = false;
        for stream in &config.streams {
            match group::ensure(&stores.redis, stream).await {
                Ok(()) => answered = true,
                Err(error) => failed = failed.or(Some(in_words(error, stream, &on_its_way))),
            }
        }
        match failed {
            Some(error) if !answered => Err(patient(error, &wrong_types)),
            _ => Ok(()),
        }
    })
    .await?;
    life.has_answered(Store::Redis);
    Ok(())
}

async fn postgres_answers(stores: &Stores, task: &Task, life: &Life) -> Result<(), GaveUp<StoreError>> {
    let postgres = &stores.postgres;
    let task = of_its_own("start PostgreSQL", task);
    task.retry(retry::POSTGRES, || async {
        postgres.query("reaching PostgreSQL", "SELECT 1", &[]).await?;
        let looking = async {
            migrations::postgres_is_as_needed(postgres).await?;
            migrations::postgres_rights(postgres).await
        };
        // A table that somebody has locked is waited for by what writes it.
        let looked = tokio::time::timeout(LOOKED_AT, looking).await;
        looked.unwrap_or(Ok(())).map_err(mendable)
    })
    .await?;
    life.has_answered(Store::Postgres);
    Ok(())
}

async fn clickhouse_answers(stores: &Stores, task: &Task, life: &Life) -> Result<(), GaveUp<StoreError>> {
    let clickhouse = stores.clickhouse.within(FIRST_ANSWER);
    let task = of_its_own("start ClickHouse", task);
    task.retry(retry::CLICKHOUSE, || async {
        clickhouse
            .execute("reaching ClickHouse", clickhouse.query("SELECT 1"))
            .await?;
        migrations::clickhouse_is_as_needed(&clickhouse)
            .await
            .map_err(mendable)
    })
    .await?;
    life.has_answered(Store::ClickHouse);
    Ok(())
}

/// The same, or that somebody has to end the move of the stream's slot.
fn in_words(error: StoreError, stream: &str, on_its_way: &OnceLock<Instant>) -> StoreError {
    if error.is_of_a_move() && on_its_way.get_or_init(Instant::now).elapsed() > MOVES_FOR {
        StoreError::apart(error.during, stream, &error.message)
    } else {
        error
    }
}

/// A table or a right that is missing can be added while the process waits.
fn mendable(error: StoreError) -> StoreError {
    StoreError {
        kind: FailureKind::Transient,
        ..error
    }
}

/// A key that is no stream may be about to be replaced. After some looks at it, it is for a supervisor to start again.
fn patient(mut error: StoreError, wrong_types: &AtomicU32) -> StoreError {
    if error.is_wrong_type() && wrong_types.fetch_add(1, Ordering::Relaxed) + 1 >= LOOKS_AT_A_WRONG_TYPE {
        error.kind = FailureKind::Poison;
    }
    error
}

/// The GeoIP database, and what loads it, if one is configured.
pub(super) fn start_geo(config: &Config, shutdown: &Shutdown) -> (GeoIp, Option<JoinHandle<()>>) {
    if config.geoip_database.is_none() && config.geoip_url.is_none() {
        tracing::warn!("GEOIP_DATABASE and GEOLITE2_COUNTRY_URL are unset: events get no country");
        return (GeoIp::disabled(), None);
    }
    let settings = GeoSettings {
        database: config.geoip_database.clone(),
        url: config.geoip_url.clone(),
        ..GeoSettings::default()
    };
    let (geo, task) = settings.start(shutdown.draining().clone());
    (geo, Some(task))
}
