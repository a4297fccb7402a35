//! Sockets to Redis: by TCP, TLS or a path, to the server that is the primary now. The shared connection and the readers
//! both begin here.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::sentinel::Sentinels;
use crate::config::{Node, RedisConfig, RedisServers};
use crate::stores::tls::{self, Demand};

/// Longest that opening a socket may take, TLS and the question to one Sentinel included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Said where a server that is to speak TLS says nothing.
pub const NO_TLS: &str =
    " (REDIS_URL says rediss://: does the port speak TLS? For a plain one write redis://)";

/// A connection's two directions.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Opens sockets to one Redis.
pub struct Dialer {
    config: RedisConfig,
    tls: Option<TlsConnector>,
    sentinels: Option<Sentinels>,
}

impl Dialer {
    pub(super) fn new(config: &RedisConfig) -> Self {
        let tls = config.tls.as_ref();
        let tls = tls.map(|files| TlsConnector::from(Arc::new(tls::client(files, Demand::AuthorityAndName))));
        let sentinels = match &config.servers {
            RedisServers::Sentinels { sentinels, primary } => Some(Sentinels::new(sentinels, primary)),
            _ => None,
        };
        Self {
            config: config.clone(),
            tls,
            sentinels,
        }
    }

    /// What was configured.
    pub fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// A socket to the server that takes writes, as far as that is known.
    ///
    /// # Errors
    /// When it cannot be reached in time, or no Sentinel says which it is.
    pub async fn primary(&self) -> io::Result<Box<dyn Socket>> {
        match &self.config.servers {
            RedisServers::One(node) => self.node(node).await,
            RedisServers::Socket(path) => self.path(path).await,
            RedisServers::Cluster(nodes) => self.first(nodes).await,
            RedisServers::Sentinels { .. } => {
                let Some(sentinels) = &self.sentinels else {
                    return Err(io::Error::other("no Sentinels"));
                };
                let node = sentinels.primary(self).await?;
                let socket = self.node(&node).await;
                socket.map_err(|error| io::Error::new(error.kind(), format!("{node}: {error}")))
            }
        }
    }

    async fn first(&self, nodes: &[Node]) -> io::Result<Box<dyn Socket>> {
        let mut failed = io::Error::other("no nodes");
        for node in nodes {
            match self.node(node).await {
                Ok(socket) => return Ok(socket),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn path(&self, path: &Path) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(UnixStream::connect(path).await?))
    }

    /// A socket to one server.
    pub(super) async fn node(&self, node: &Node) -> io::Result<Box<dyn Socket>> {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, self.open(node)).await;
        opened.unwrap_or_else(|_elapsed| {
            let hint = if self.tls.is_some() { NO_TLS } else { "" };
            let message = format!("no answer within {} s{hint}", CONNECT_TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        })
    }

    async fn open(&self, node: &Node) -> io::Result<Box<dyn Socket>> {
        let tcp = TcpStream::connect((node.host.as_str(), node.port)).await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(tcp));
        };
        let name = ServerName::try_from(node.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, tcp).await?))
    }
}
