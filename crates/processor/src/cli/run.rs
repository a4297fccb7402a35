//! `qurvo-processor run`: the worker.

use anyhow::Context;

use super::failure::Failure;
use crate::config::{Config, unknown_variables};
use crate::runtime::shutdown::Shutdown;
use crate::stores::Places;
use crate::telemetry::{self, Exports};
use crate::worker;

pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let places = Places::of(&config);
    let roles: Vec<&str> = config.roles.iter().map(|role| role.name()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        roles = roles.join(","),
        consumer = config.consumer_name,
        redis = places.redis,
        postgresql = places.postgres,
        clickhouse = places.clickhouse,
        telemetry = config.telemetry.summary(),
        "starting"
    );
    for unknown in unknown_variables() {
        tracing::warn!("{unknown}");
    }
    if let Some(said) = config.development_password() {
        tracing::warn!("{said}");
    }
    if let Some(error) = config.heartbeat_fault() {
        return Err(Failure::Config(error.into()));
    }
    let shutdown = Shutdown::default();
    shutdown
        .on_signals(config.shutdown_timeout)
        .context("installing signal handlers")?;
    let exports = Exports::begin(&config.telemetry, config.metrics_listen.is_some())?;
    let endpoint = match &config.metrics_listen {
        Some(address) => Some(telemetry::listen(address).await?),
        None => None,
    };
    let ended = worker::run(config, endpoint, shutdown).await;
    exports.end().await;
    let ended = ended?;
    if ended.left_pending > 0 {
        tracing::error!(
            left_pending = ended.left_pending,
            "stopped with entries held: they stay pending for others"
        );
        return Err(Failure::Silent);
    }
    if ended.failed {
        return Err(Failure::Silent);
    }
    tracing::info!("stopped: everything held was settled");
    Ok(())
}
