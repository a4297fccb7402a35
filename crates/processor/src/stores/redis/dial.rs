//! Sockets to servers of Redis: by TCP, TLS or a path. The shared connections and the readers' own begin here.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::config::{Node, RedisConfig};
use crate::stores::tls::{self, Demand};

/// Longest that opening a socket may take, TLS and the question to one Sentinel included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Said where a server that is to speak TLS says nothing.
pub const NO_TLS: &str =
    " (REDIS_URL says rediss://: does the port speak TLS? For a plain one write redis://)";

/// A connection's two directions.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Opens sockets to the servers of one configuration.
pub(super) struct Sockets {
    pub(super) config: RedisConfig,
    tls: Option<TlsConnector>,
}

impl Sockets {
    pub(super) fn new(config: &RedisConfig) -> Self {
        let tls = config.tls.as_ref();
        let tls = tls.map(|files| TlsConnector::from(Arc::new(tls::client(files, Demand::AuthorityAndName))));
        Self {
            config: config.clone(),
            tls,
        }
    }

    /// By its path in the file system.
    pub(super) async fn path(&self, path: &Path) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(UnixStream::connect(path).await?))
    }

    /// By its address.
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
