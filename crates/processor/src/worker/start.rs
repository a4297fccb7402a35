//! What has to answer before anything is consumed.

use std::sync::atomic::{AtomicU32, Ordering};

use enrichment::geo::GeoIp;
use enrichment::geo_source::GeoSettings;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::intake::{Holder, group};
use crate::runtime::retry::{self, GaveUp};
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task::Task;
use crate::stores::{FailureKind, StoreError};

use super::parts::Stores;

/// Looks at a stream's key of another type before the start is given up: some seconds in all.
const LOOKS_AT_A_WRONG_TYPE: u32 = 8;

/// Nothing is consumed before every store has answered once.
pub(super) async fn wait_for_stores(
    config: &Config,
    stores: &Stores,
    task: &Task,
) -> Result<Holder, GaveUp<StoreError>> {
    let starting = async {
        let wrong_types = AtomicU32::new(0);
        task.retry(retry::REDIS, || async {
            for stream in &config.streams {
                let ensured = group::ensure(&stores.redis, stream).await;
                ensured.map_err(|error| patient(error, &wrong_types))?;
            }
            Ok(())
        })
        .await?;
        task.retry(retry::POSTGRES, || {
            stores.postgres.query("reaching PostgreSQL", "SELECT 1", &[])
        })
        .await?;
        task.retry(retry::CLICKHOUSE, || {
            let query = stores.clickhouse.query("SELECT 1");
            stores.clickhouse.execute("reaching ClickHouse", query)
        })
        .await?;
        task.retry(retry::REDIS, || {
            let (url, name) = (&config.redis_url, &config.consumer_name);
            Holder::take(url, name, &config.streams, config.claim_idle)
        })
        .await
    };
    tokio::select! {
        () = task.shutdown.draining().cancelled() => Err(GaveUp::Abandoned(None)),
        started = starting => started,
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
