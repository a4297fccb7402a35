//! Where the stores are, in words that may be printed: servers and databases, no users and no passwords.

use std::str::FromStr;

use tokio_postgres::config::Host;
use url::Url;

use super::Store;
use crate::config::Config;

/// Servers and databases of the three stores.
#[derive(Debug, Clone)]
pub struct Places {
    /// Servers and database, or the socket's path.
    pub redis: String,
    /// `host:port/database`, with several hosts if there are.
    pub postgres: String,
    /// `host:port/database`.
    pub clickhouse: String,
}

impl Places {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let clickhouse = &config.clickhouse;
        Self {
            redis: config.redis.to_string(),
            postgres: postgres(&config.database_url),
            clickhouse: format!("{}/{}", server(&clickhouse.url), clickhouse.database),
        }
    }

    /// Where a store is.
    pub fn at(&self, store: Store) -> &str {
        match store {
            Store::Redis => &self.redis,
            Store::Postgres => &self.postgres,
            Store::ClickHouse => &self.clickhouse,
        }
    }
}

fn server(url: &Url) -> String {
    let host = url.host_str().unwrap_or("localhost");
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn postgres(url: &str) -> String {
    let Ok(config) = tokio_postgres::Config::from_str(url) else {
        return "an address that cannot be read".into();
    };
    let ports = config.get_ports();
    let port = |index: usize| {
        // One port is that of all hosts.
        let port = if ports.len() == 1 {
            ports.first()
        } else {
            ports.get(index)
        };
        port.copied().unwrap_or(5432)
    };
    let named = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let mut hosts: Vec<String> = named.collect();
    if hosts.is_empty() {
        hosts.extend(config.get_hostaddrs().iter().map(ToString::to_string));
    }
    let servers: Vec<String> = hosts
        .iter()
        .enumerate()
        .map(|(index, host)| format!("{host}:{}", port(index)))
        .collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("postgres");
    format!("{}/{database}", servers.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_databases_are_named_without_passwords() {
        for (url, place) in [
            (
                "postgresql://u:secret@db.example/events",
                "db.example:5432/events",
            ),
            ("postgresql://u:secret@a:1,b:2/events", "a:1,b:2/events"),
            ("postgresql://u:secret@a,b/events", "a:5432,b:5432/events"),
            (
                "host=/run/postgresql user=u password=secret",
                "/run/postgresql:5432/u",
            ),
            ("nonsense secret", "an address that cannot be read"),
        ] {
            assert_eq!(postgres(url), place);
        }
    }
}
