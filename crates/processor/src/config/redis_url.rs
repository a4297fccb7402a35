//! `REDIS_URL`: one server, a socket, a primary that Sentinels know, or a cluster; and who we are there.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use super::read::{ConfigError, Reader, has_stray_at, invalid};
use super::tls::{TlsFiles, TlsVariables};
use super::variables::{self, Variable};

const FILES: TlsVariables = TlsVariables {
    authorities: &variables::REDIS_CA_FILE,
    certificate: &variables::REDIS_CERT_FILE,
    key: &variables::REDIS_KEY_FILE,
};
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const SCHEMES: &str = "a URL beginning with redis://, rediss://, redis-sentinel://, rediss-sentinel://, redis-cluster://, \
                       rediss-cluster:// or unix://";

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
    pub password: Option<String>,
    /// How TLS is spoken, if it is.
    pub tls: Option<TlsFiles>,
}

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
        let password = read.secret_file(&variables::REDIS_PASSWORD_FILE)?;
        if password.is_some() && url.password.is_some() {
            let value = read.text(&variables::REDIS_PASSWORD_FILE);
            let accepted = "a password in one place: REDIS_URL has one, too";
            return Err(invalid(&variables::REDIS_PASSWORD_FILE, value, accepted));
        }
        let tls = if url.is_tls {
            Some(read.tls_files(&FILES)?)
        } else {
            read.no_tls_files(&FILES)?;
            None
        };
        Ok(Self {
            servers: url.servers,
            database: url.database,
            user: url.user,
            password: password.or(url.password),
            tls,
        })
    }
}

/// What stands in a URL.
struct Parts {
    servers: RedisServers,
    database: u32,
    user: Option<String>,
    password: Option<String>,
    is_tls: bool,
}

impl Parts {
    fn of(variable: &Variable, text: &str) -> Result<Self, ConfigError> {
        let refused = |accepted: &str| invalid(variable, "(hidden)".into(), accepted);
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(refused(SCHEMES));
        };
        if has_stray_at(rest) {
            let encoded = "user and password percent-encoded: `/` as %2F, `?` as %3F, `#` as %23, `@` as %40, `%` as %25";
            return Err(refused(encoded));
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user_info, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (mut user, mut password) = user_and_password(user_info)
            .ok_or_else(|| refused("user and password in UTF-8, percent-encoded"))?;
        let mut primary = decoded(fragment);
        let mut database = None;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match (scheme, &*name) {
                ("unix", "db") => database = Some(value),
                ("unix", "user") => user = Some(value),
                ("unix", "pass") => password = Some(value),
                ("redis-sentinel" | "rediss-sentinel", "sentinelMasterId") => primary = Some(value),
                _ => {
                    let value = format!("{scheme}://…?{name}=(hidden)");
                    return Err(invalid(
                        variable,
                        value,
                        "no such parameter: it would have no effect",
                    ));
                }
            }
        }
        let is_sentinel = matches!(scheme, "redis-sentinel" | "rediss-sentinel");
        if !is_sentinel && !fragment.is_empty() {
            return Err(refused("no `#`: in a password it is written %23"));
        }
        let nodes = |port| {
            let nodes: Option<Vec<Node>> = hosts.split(',').map(|host| node(host, port)).collect();
            nodes.ok_or_else(|| {
                refused("host:port, or several separated by commas where the scheme takes several")
            })
        };
        let servers = match scheme {
            "redis" | "rediss" => match nodes(REDIS_PORT)?.as_slice() {
                [node] => RedisServers::One(node.clone()),
                _ => {
                    return Err(refused(
                        "one host; several are for redis-sentinel:// and redis-cluster://",
                    ));
                }
            },
            "unix" if authority.is_empty() && path.len() > 1 => {
                RedisServers::Socket(decoded(path).unwrap_or_default().into())
            }
            "unix" => return Err(refused("unix:///path/of/the/socket")),
            _ if is_sentinel => RedisServers::Sentinels {
                sentinels: nodes(SENTINEL_PORT)?,
                primary: primary.filter(|primary| !primary.is_empty()).ok_or_else(|| {
                    refused("the primary's name behind `#`, such as redis-sentinel://host:26379/0#mymaster")
                })?,
            },
            "redis-cluster" | "rediss-cluster" => RedisServers::Cluster(nodes(REDIS_PORT)?),
            _ => {
                let is_word = scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                let shown = if is_word { scheme } else { "(hidden)" };
                return Err(invalid(variable, format!("{shown}://(hidden)"), SCHEMES));
            }
        };
        let database = match (&servers, path.trim_matches('/')) {
            (RedisServers::Socket(_), _) | (_, "") => database.unwrap_or_default(),
            (_, number) => number.to_owned(),
        };
        let database = match database.as_str() {
            "" => 0,
            number => number.parse().map_err(|_| {
                // It may be a piece of a password.
                let accepted = "the number of a database behind the port, such as /0, or nothing there";
                invalid(variable, "…/(hidden)".into(), accepted)
            })?,
        };
        if database != 0 && matches!(servers, RedisServers::Cluster(_)) {
            let accepted = "no database but 0: a cluster has no others";
            return Err(invalid(variable, format!("…/{database}"), accepted));
        }
        Ok(Self {
            servers,
            database,
            user,
            password,
            is_tls: scheme.starts_with("rediss"),
        })
    }
}

/// A single word is the password, as for Redis's own client.
fn user_and_password(user_info: &str) -> Option<(Option<String>, Option<String>)> {
    let some = |text: &str| match text {
        "" => Some(None),
        text => decoded(text).map(Some),
    };
    match user_info.split_once(':') {
        Some((user, password)) => Some((some(user)?, some(password)?)),
        None => Some((None, some(user_info)?)),
    }
}

fn node(text: &str, port: u16) -> Option<Node> {
    if text.is_empty() || text.contains(['/', '@', '?', '#']) {
        return None;
    }
    // Of this scheme the library knows no preset port, and leaves names as they are.
    let url = Url::parse(&format!("redis://{text}")).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| Node {
        host: host.to_owned(),
        port: url.port().unwrap_or(port),
    })
}

/// Undoes a URL's percent encoding.
fn decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    Some(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> RedisConfig {
        RedisConfig::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn node(host: &str, port: u16) -> Node {
        Node {
            host: host.into(),
            port,
        }
    }

    #[test]
    fn one_server_has_a_host_a_port_and_a_database() {
        for (url, host, port, database) in [
            ("redis://localhost", "localhost", 6379, 0),
            ("redis://cache.example:7000/3", "cache.example", 7000, 3),
            ("redis://[::1]:7000/", "::1", 7000, 0),
            ("rediss://u:p@10.0.0.7/1", "10.0.0.7", 6379, 1),
        ] {
            let read = read(url);
            assert_eq!(read.servers, RedisServers::One(node(host, port)), "{url}");
            assert_eq!(
                (read.database, read.tls.is_some()),
                (database, url.starts_with("rediss"))
            );
        }
    }

    #[test]
    fn user_and_password_are_decoded_and_a_single_word_is_the_password() {
        for (info, user, password) in [
            ("", None, None),
            (":secret@", None, Some("secret")),
            ("secret@", None, Some("secret")),
            ("u:p%40%3A%2F@", Some("u"), Some("p@:/")),
            ("u:a@b@", Some("u"), Some("a@b")),
            ("u:a:b@", Some("u"), Some("a:b")),
        ] {
            for scheme in ["redis", "redis-cluster"] {
                let read = read(&format!("{scheme}://{info}host:1"));
                assert_eq!(
                    (read.user.as_deref(), read.password.as_deref()),
                    (user, password),
                    "{info}"
                );
            }
        }
    }

    #[test]
    fn sentinels_are_several_and_know_the_primary_by_its_name() {
        let sentinels = vec![node("a", 26379), node("b", 1), node("::1", 2)];
        for url in [
            "redis-sentinel://secret@a,b:1,[::1]:2/4#my%20primary",
            "rediss-sentinel://:secret@a,b:1,[::1]:2/4?sentinelMasterId=my%20primary",
        ] {
            let read = read(url);
            let (sentinels, primary) = (sentinels.clone(), "my primary".into());
            assert_eq!(read.servers, RedisServers::Sentinels { sentinels, primary });
            assert_eq!((read.database, read.password.as_deref()), (4, Some("secret")));
        }
    }

    #[test]
    fn a_cluster_is_named_by_some_of_its_nodes() {
        let read = read("rediss-cluster://u:p@a:1,b");
        assert_eq!(
            read.servers,
            RedisServers::Cluster(vec![node("a", 1), node("b", 6379)])
        );
        assert!(read.tls.is_some());
    }

    #[test]
    fn a_socket_has_a_path_and_parameters() {
        let read = read("unix:///run/redis%20x.sock?db=2&user=u&pass=p%26");
        assert_eq!(read.servers, RedisServers::Socket("/run/redis x.sock".into()));
        let who = (read.database, read.user.as_deref(), read.password.as_deref());
        assert_eq!(who, (2, Some("u"), Some("p&")));
    }

    #[test]
    fn what_is_not_understood_is_told_without_a_secret() {
        for (url, hint) in [
            ("http://u:hunter2@h", "redis-cluster://"),
            ("redis://u:hunter2@a:1,b:2", "one host"),
            ("redis://u:hunter2@", "host:port"),
            ("redis://u:hunter2@h:99999", "host:port"),
            ("redis-sentinel://u:hunter2@h", "mymaster"),
            ("redis-cluster://u:hunter2@h/1", "no others"),
            ("redis://h?timeout=hunter2", "timeout"),
            ("redis://:hunter2#x@h:6379", "%23"),
            ("unix://hunter2/run", "unix:///path"),
            ("hunter2", "redis://"),
        ] {
            let error = RedisConfig::from_url(url).unwrap_err().to_string();
            assert!(
                error.contains(hint) && !error.contains("hunter2"),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn a_place_is_told_without_user_and_password() {
        for (url, place) in [
            ("redis://localhost", "localhost:6379/0"),
            ("rediss://u:secret@cache.example:7000/3", "cache.example:7000/3"),
            (
                "unix:///run/redis.sock?db=2&pass=secret",
                "/run/redis.sock, database 2",
            ),
            (
                "redis-sentinel://secret@a,[::1]:2/1#main",
                "primary main of Sentinels a:26379,[::1]:2, database 1",
            ),
            ("redis-cluster://secret@a:1,b", "cluster a:1,b:6379"),
        ] {
            assert_eq!(read(url).to_string(), place);
        }
    }
}
