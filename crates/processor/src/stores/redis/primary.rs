//! Which server takes writes, and the way to it.

use std::io;

use super::dial::{Socket, Sockets};
use super::sentinel::Sentinels;
use crate::config::{Node, RedisConfig, RedisServers};

/// Opens sockets to the servers of one Redis.
pub struct Dialer {
    sockets: Sockets,
    sentinels: Option<Sentinels>,
}

impl Dialer {
    pub(super) fn new(config: &RedisConfig) -> Self {
        let sentinels = match &config.servers {
            RedisServers::Sentinels { sentinels, primary } => Some(Sentinels::new(sentinels, primary)),
            _ => None,
        };
        Self {
            sockets: Sockets::new(config),
            sentinels,
        }
    }

    /// What was configured.
    pub fn config(&self) -> &RedisConfig {
        &self.sockets.config
    }

    /// A socket to the server that takes writes, as far as that is known.
    ///
    /// # Errors
    /// When it cannot be reached in time, or no Sentinel says which it is.
    pub async fn primary(&self) -> io::Result<Box<dyn Socket>> {
        match &self.config().servers {
            RedisServers::One(node) => self.node(node).await,
            RedisServers::Socket(path) => self.sockets.path(path).await,
            RedisServers::Cluster(nodes) => self.first(nodes).await,
            RedisServers::Sentinels { .. } => {
                let Some(sentinels) = &self.sentinels else {
                    return Err(io::Error::other("no Sentinels"));
                };
                let node = sentinels.primary(&self.sockets).await?;
                let socket = self.node(&node).await;
                socket.map_err(|error| io::Error::new(error.kind(), format!("{node}: {error}")))
            }
        }
    }

    /// The servers that Sentinels name: the primary, and those that may take its place. None where there are no Sentinels.
    pub(super) async fn named(&self) -> io::Result<Vec<Node>> {
        match &self.sentinels {
            Some(sentinels) => sentinels.named(&self.sockets).await,
            None => Ok(Vec::new()),
        }
    }

    /// A socket to one server.
    pub(super) async fn node(&self, node: &Node) -> io::Result<Box<dyn Socket>> {
        self.sockets.node(node).await
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
}
