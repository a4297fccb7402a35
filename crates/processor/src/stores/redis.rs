//! Redis connections for everything but the blocking reads, which have their own.

use std::time::Duration;

use redis::Client;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use super::StoreError;
use crate::config::Config;

/// A shared, multiplexed connection that reconnects by itself. Cloning is cheap.
pub type RedisConnection = ConnectionManager;

/// Longest wait for one reply: far above what any command here takes, far below what an operator would.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for `REDIS_URL`; connects nowhere yet.
///
/// # Errors
/// When the URL is not one the client takes.
pub fn redis_client(config: &Config) -> Result<Client, StoreError> {
    Client::open(config.redis_url.as_str()).map_err(|e| StoreError::redis("reading REDIS_URL", &e))
}

/// The shared connection. It connects at the first command and again after every loss; a command during an outage
/// fails at once, since retrying belongs to the caller.
///
/// # Errors
/// When the URL is not one the client takes.
pub fn connect_redis(config: &Config) -> Result<RedisConnection, StoreError> {
    let settings = ConnectionManagerConfig::new()
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_number_of_retries(1)
        .set_max_delay(Duration::from_millis(500));
    redis_client(config)?
        .get_connection_manager_lazy(settings)
        .map_err(|e| StoreError::redis("preparing the connection", &e))
}
