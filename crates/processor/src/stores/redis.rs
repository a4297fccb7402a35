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

/// The error of a command on a key that has to be a `wanted`. Redis's own words name neither the key nor what it holds, so
/// these are asked for.
pub async fn error_at(
    redis: &mut RedisConnection,
    during: &'static str,
    key: &str,
    wanted: &str,
    error: &redis::RedisError,
) -> StoreError {
    if !error.is_io_error()
        && let Ok(Some(found)) = other_type(redis, key, wanted).await
    {
        return StoreError::wrong_type(during, key, &found, wanted);
    }
    StoreError::redis(during, error)
}

/// What a key holds if that is not a `wanted`.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub async fn other_type(
    redis: &mut RedisConnection,
    key: &str,
    wanted: &str,
) -> redis::RedisResult<Option<String>> {
    let found: String = redis::cmd("TYPE").arg(key).query_async(redis).await?;
    Ok((found != wanted && found != "none").then_some(found))
}

/// Counts in a field of a hash that goes when nothing was counted in it for a week. What is no hash, or no number, begins
/// anew: no other program writes it.
const COUNT: &str = r"
local found = redis.call('TYPE', KEYS[1]).ok
if found == 'hash' then
  local count = redis.call('HGET', KEYS[1], ARGV[1])
  if count and not (string.match(count, '^%d+$') and #count < 16) then redis.call('HDEL', KEYS[1], ARGV[1]) end
elseif found ~= 'none' then
  redis.call('DEL', KEYS[1])
end
local count = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('EXPIRE', KEYS[1], 604800)
return count";

/// Adds one to what a hash of ours counts in a field.
///
/// # Errors
/// When Redis cannot be reached or refuses.
pub async fn count_in(redis: &mut RedisConnection, key: &str, field: &str) -> redis::RedisResult<u64> {
    let mut count = redis::cmd("EVAL");
    count.arg(COUNT).arg(1).arg(key).arg(field);
    count.query_async(redis).await
}
