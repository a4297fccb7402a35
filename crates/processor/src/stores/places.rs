//! Where the stores are, in words that may be printed: servers and databases, no users and no passwords.

use url::Url;

use super::Store;
use crate::config::{Config, PostgresConfig};

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
            postgres: postgres(&config.postgres),
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

fn postgres(config: &PostgresConfig) -> String {
    let servers: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
    format!("{}/{}", servers.join(","), config.database())
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
        ] {
            assert_eq!(postgres(&url.parse().unwrap()), place);
        }
    }
}
