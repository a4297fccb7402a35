//! What stands in a URL of Redis. No other parser takes several hosts.

use percent_encoding::percent_decode_str;
use url::Url;

use super::servers::{Node, RedisServers};
use crate::config::read::{ConfigError, has_stray_at, invalid};
use crate::config::variables::Variable;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const SCHEMES: &str = "a URL beginning with redis://, rediss://, redis-sentinel://, rediss-sentinel://, redis-cluster://, \
                       rediss-cluster:// or unix://";
const ENCODED: &str =
    "user and password percent-encoded: `/` as %2F, `?` as %3F, `#` as %23, `@` as %40, `%` as %25";
const PRIMARY: &str = "the primary's name behind `#`, such as redis-sentinel://host:26379/0#mymaster";

/// Servers, database, and who we are there.
pub(super) struct Parts {
    pub(super) servers: RedisServers,
    pub(super) database: u32,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) is_tls: bool,
}

/// A URL in pieces: `scheme://user_info@hosts/path?query#fragment`.
struct Pieces<'a> {
    variable: &'a Variable,
    scheme: &'a str,
    user_info: &'a str,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl Parts {
    /// Reads a URL.
    pub(super) fn of(variable: &Variable, text: &str) -> Result<Self, ConfigError> {
        let pieces = Pieces::of(variable, text)?;
        let (mut user, mut password) = user_and_password(pieces.user_info)
            .ok_or_else(|| pieces.refused("user and password in UTF-8, percent-encoded"))?;
        let mut primary = decoded(pieces.fragment);
        let mut database = pieces.path.trim_matches('/').to_owned();
        if pieces.scheme == "unix" {
            database.clear();
        }
        for (name, value) in url::form_urlencoded::parse(pieces.query.as_bytes()) {
            let value = value.into_owned();
            match (pieces.scheme, &*name) {
                ("unix", "db") => database = value,
                ("unix", "user") => user = Some(value),
                ("unix", "pass") => password = Some(value),
                ("redis-sentinel" | "rediss-sentinel", "sentinelMasterId") => primary = Some(value),
                _ => {
                    // Behind a password, what looks like a name may be a piece of it.
                    let name = if pieces.query.contains("pass") {
                        "(hidden)"
                    } else {
                        &*name
                    };
                    let value = format!("{}://…?{name}=(hidden)", pieces.scheme);
                    return Err(invalid(
                        variable,
                        value,
                        "no such parameter: it would have no effect",
                    ));
                }
            }
        }
        let servers = pieces.servers(primary)?;
        let database = pieces.database(&database)?;
        if database != 0 && matches!(servers, RedisServers::Cluster(_)) {
            let accepted = "no database but 0: a cluster has no others";
            return Err(invalid(variable, format!("…/{database}"), accepted));
        }
        Ok(Self {
            servers,
            database,
            user,
            password,
            is_tls: pieces.scheme.starts_with("rediss"),
        })
    }
}

impl<'a> Pieces<'a> {
    fn of(variable: &'a Variable, text: &'a str) -> Result<Self, ConfigError> {
        let hidden = |accepted: &str| invalid(variable, "(hidden)".into(), accepted);
        let (scheme, rest) = text.split_once("://").ok_or_else(|| hidden(SCHEMES))?;
        if has_stray_at(rest) {
            return Err(hidden(ENCODED));
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user_info, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let pieces = Self {
            variable,
            scheme,
            user_info,
            hosts,
            path,
            query,
            fragment,
        };
        if !fragment.is_empty() && !pieces.is_sentinel() {
            return Err(hidden("no `#`: in a password it is written %23"));
        }
        Ok(pieces)
    }

    fn is_sentinel(&self) -> bool {
        matches!(self.scheme, "redis-sentinel" | "rediss-sentinel")
    }

    /// What it was may hold a password.
    fn refused(&self, accepted: &str) -> ConfigError {
        invalid(self.variable, "(hidden)".into(), accepted)
    }

    fn servers(&self, primary: Option<String>) -> Result<RedisServers, ConfigError> {
        match self.scheme {
            "redis" | "rediss" => match self.nodes(REDIS_PORT)?.as_slice() {
                [node] => Ok(RedisServers::One(node.clone())),
                _ => Err(self.refused("one host; several are for redis-sentinel:// and redis-cluster://")),
            },
            "redis-cluster" | "rediss-cluster" => Ok(RedisServers::Cluster(self.nodes(REDIS_PORT)?)),
            "unix" => {
                let is_path = self.hosts.is_empty() && self.path.len() > 1;
                let path = decoded(self.path).filter(|_| is_path);
                let path = path.ok_or_else(|| self.refused("unix:///path/of/the/socket"))?;
                Ok(RedisServers::Socket(path.into()))
            }
            _ if self.is_sentinel() => {
                let primary = primary.filter(|primary| !primary.is_empty());
                Ok(RedisServers::Sentinels {
                    sentinels: self.nodes(SENTINEL_PORT)?,
                    primary: primary.ok_or_else(|| self.refused(PRIMARY))?,
                })
            }
            scheme => {
                let is_word = scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                let shown = if is_word { scheme } else { "(hidden)" };
                Err(invalid(self.variable, format!("{shown}://(hidden)"), SCHEMES))
            }
        }
    }

    fn nodes(&self, port: u16) -> Result<Vec<Node>, ConfigError> {
        let nodes: Option<Vec<Node>> = self.hosts.split(',').map(|host| node(host, port)).collect();
        nodes.ok_or_else(|| {
            self.refused("host:port, or several separated by commas where the scheme takes several")
        })
    }

    fn database(&self, number: &str) -> Result<u32, ConfigError> {
        if number.is_empty() {
            return Ok(0);
        }
        number.parse().map_err(|_| {
            // It may be a piece of a password.
            let accepted = "the number of a database behind the port, such as /0, or nothing there";
            invalid(self.variable, "…/(hidden)".into(), accepted)
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
