//! A connection's first words: who we are.

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult};

use super::dial::{CONNECT_TIMEOUT, Socket};
use crate::config::{Password, RedisConfig};

/// Longest wait for one reply: far above what any command here takes, far below what an operator would.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a connection over a socket, and says who we are.
pub(super) async fn open(
    socket: impl Future<Output = io::Result<Box<dyn Socket>>>,
    user: &RedisConnectionInfo,
) -> RedisResult<MultiplexedConnection> {
    let settings = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
    let opening = async {
        let socket = socket.await?;
        MultiplexedConnection::new_with_config(user, socket, settings).await
    };
    let opened = tokio::time::timeout(2 * CONNECT_TIMEOUT, opening).await;
    let (connection, driver) = opened.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    tokio::spawn(driver);
    Ok(connection)
}

/// User and password at the servers, for a connection.
pub(super) fn credentials(config: &RedisConfig, info: RedisConnectionInfo) -> RedisConnectionInfo {
    with(config.user.as_deref(), config.password.as_ref(), info)
}

/// The same with a user and a password.
pub(super) fn with(
    user: Option<&str>,
    password: Option<&Password>,
    mut info: RedisConnectionInfo,
) -> RedisConnectionInfo {
    if let Some(user) = user {
        info = info.set_username(user);
    }
    if let Some(password) = password {
        info = info.set_password(password.current());
    }
    info
}
