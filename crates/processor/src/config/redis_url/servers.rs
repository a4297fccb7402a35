//! Which servers there are.

use std::fmt;
use std::path::PathBuf;

/// Which servers a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisServers {
    /// One.
    One(Node),
    /// One, by its socket in the file system.
    Socket(PathBuf),
    /// The primary of that name, which Sentinels know.
    Sentinels {
        /// Asked in turn.
        sentinels: Vec<Node>,
        /// What they call the primary.
        primary: String,
    },
    /// A cluster; any node knows the others.
    Cluster(Vec<Node>),
}

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}
