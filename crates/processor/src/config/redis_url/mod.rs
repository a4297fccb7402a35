//! `REDIS_URL`: one server, a socket, a primary that Sentinels know, or a cluster; and who we are there.

mod parts;
mod servers;
#[cfg(test)]
mod tests;

use self::parts::Parts;
pub use self::servers::{Node, RedisServers};
use super::password::Password;
use super::read::{ConfigError, Reader, beside_url, invalid};
use super::secrets::path_shown;
use super::tls::{TlsFiles, TlsVariables};
use super::variables::{self, Variable};
use std::fmt;

const FILES: TlsVariables = TlsVariables {
    authorities: &variables::REDIS_CA_FILE,
    certificate: &variables::REDIS_CERT_FILE,
    key: &variables::REDIS_KEY_FILE,
};

/// What names the servers.
const URL: [&Variable; 2] = [&variables::REDIS_URL, &variables::REDIS_URL_FILE];

/// Where Redis is, and who we are there. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// Which servers.
    pub servers: RedisServers,
    /// Number of the database.
    pub database: u32,
    /// User of the server's access list; without one, the default user.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Password>,
    /// User and password at Sentinels, where they are not those of the servers.
    pub at_sentinels: Option<(Option<String>, Password)>,
    /// How TLS is spoken, if it is.
    pub tls: Option<TlsFiles>,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("servers", &self.servers)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for RedisConfig {
    /// Servers and database, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &[Node]| nodes.iter().map(Node::to_string).collect::<Vec<_>>().join(",");
        match &self.servers {
            RedisServers::One(node) => write!(f, "{node}/{}", self.database),
            RedisServers::Socket(path) => write!(f, "{}, database {}", path.display(), self.database),
            RedisServers::Sentinels { sentinels, primary } => {
                let sentinels = list(sentinels);
                write!(
                    f,
                    "primary {primary} of Sentinels {sentinels}, database {}",
                    self.database
                )
            }
            RedisServers::Cluster(nodes) => write!(f, "cluster {}", list(nodes)),
        }
    }
}

impl RedisConfig {
    /// Reads a URL alone, without the variables beside it.
    ///
    /// # Errors
    /// When it is none that is taken.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let lookup = |name: &str| (name == variables::REDIS_URL.name).then(|| url.to_owned());
        Self::read(&Reader { lookup: &lookup }, false)
    }

    pub(super) fn read(read: &Reader<'_>, production: bool) -> Result<Self, ConfigError> {
        let variable = &variables::REDIS_URL;
        let text = read.service(variable, &variables::REDIS_URL_FILE, production)?;
        let url = Parts::of(variable, &text)?;
        let password = read.password_file(&variables::REDIS_PASSWORD_FILE)?;
        if password.is_some() && url.password.is_some() {
            let value = path_shown(&read.text(&variables::REDIS_PASSWORD_FILE));
            let accepted = "a password in one place: REDIS_URL has one, too (a single word before @ is one; a user is written user:@)";
            return Err(invalid(&variables::REDIS_PASSWORD_FILE, value, accepted));
        }
        let tls = if url.is_tls {
            Some(read.tls_files(&FILES)?)
        } else {
            read.no_tls_files(&FILES, URL)?;
            None
        };
        let at_sentinels = read.at_sentinels(matches!(url.servers, RedisServers::Sentinels { .. }))?;
        Ok(Self {
            servers: url.servers,
            database: url.database,
            user: url.user,
            password: password.or(url.password.map(Password::from)),
            at_sentinels,
            tls,
        })
    }
}

impl Reader<'_> {
    /// User and password at Sentinels. One without the other, or without Sentinels, would have no effect.
    fn at_sentinels(&self, has_sentinels: bool) -> Result<Option<(Option<String>, Password)>, ConfigError> {
        let (user, password, file) = (
            &variables::REDIS_SENTINEL_USER,
            &variables::REDIS_SENTINEL_PASSWORD,
            &variables::REDIS_SENTINEL_PASSWORD_FILE,
        );
        let set = [user, password, file]
            .into_iter()
            .find(|variable| self.is_set(variable));
        if let Some(set) = set.filter(|_| !has_sentinels) {
            let accepted =
                "it to be unset, unless REDIS_URL begins with redis-sentinel:// or rediss-sentinel://";
            return Err(beside_url(set, "(hidden)".into(), accepted, URL));
        }
        match (self.optional(user), self.password(password, file)?) {
            (user, Some(password)) => Ok(Some((user, password))),
            (None, None) => Ok(None),
            (Some(name), None) => Err(invalid(user, name, "REDIS_SENTINEL_PASSWORD with it")),
        }
    }
}
