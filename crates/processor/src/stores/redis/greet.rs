//! A connection's first words: who we are.

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult};

use super::dial::{CONNECT_TIMEOUT, Socket};
use crate::config::{Password, RedisConfig};

/// Longest wait for one reply: far above what any command here takes, far below what an operator would.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who we are at a server.
#[derive(Default)]
pub(super) struct Credentials {
    info: RedisConnectionInfo,
    /// With what it is now.
    password: Option<(Password, String)>,
}

impl Credentials {
    /// User and password at the servers.
    pub(super) async fn of(config: &RedisConfig) -> Self {
        Self::new(config.user.as_deref(), config.password.as_ref()).await
    }

    /// A user and a password.
    pub(super) async fn new(user: Option<&str>, password: Option<&Password>) -> Self {
        let mut info = RedisConnectionInfo::default();
        if let Some(user) = user {
            info = info.set_username(user);
        }
        let Some(password) = password else {
            return Self { info, password: None };
        };
        let text = password.renewed().await;
        Self {
            info: info.set_password(&text),
            password: Some((password.clone(), text)),
        }
    }

    /// The same for a database.
    pub(super) fn at(self, database: u32) -> Self {
        Self {
            info: self.info.set_db(i64::from(database)),
            ..self
        }
    }
}

/// Opens a connection over a socket, and says who we are.
pub(super) async fn open(
    socket: impl Future<Output = io::Result<Box<dyn Socket>>>,
    who: &Credentials,
) -> RedisResult<MultiplexedConnection> {
    let settings = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
    let opening = async {
        let socket = socket.await?;
        MultiplexedConnection::new_with_config(&who.info, socket, settings).await
    };
    let opened = tokio::time::timeout(2 * CONNECT_TIMEOUT, opening).await;
    let (connection, driver) = opened.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    tokio::spawn(driver);
    if let Some((password, text)) = &who.password {
        password.was_accepted(text);
    }
    Ok(connection)
}
