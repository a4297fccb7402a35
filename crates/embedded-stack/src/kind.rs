//! The three services: what they are called, and where everybody expects them.

use std::fmt;
use std::str::FromStr;

use crate::{DATABASE, PASSWORD, USER};

/// One of the three services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    /// The stream, caches and locks.
    Redis,
    /// Persons and the catalogue.
    Postgres,
    /// Events.
    ClickHouse,
}

impl ServiceKind {
    /// All of them, in the order they are shown.
    pub const ALL: [Self; 3] = [Self::Redis, Self::Postgres, Self::ClickHouse];

    /// Lower-case name: the folder, the log file, the word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::ClickHouse => "clickhouse",
        }
    }

    /// The environment variable that holds this service's URL.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Redis => "REDIS_URL",
            Self::Postgres => "DATABASE_URL",
            Self::ClickHouse => "CLICKHOUSE_URL",
        }
    }

    /// The port that everybody expects this service on.
    pub fn standard_port(self) -> u16 {
        match self {
            Self::Redis => 6379,
            Self::Postgres => 5432,
            Self::ClickHouse => 8123,
        }
    }

    /// The URL of a service of this stack on `port`.
    pub fn url(self, port: u16) -> String {
        match self {
            Self::Redis => format!("redis://127.0.0.1:{port}"),
            Self::Postgres => {
                format!("postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}")
            }
            Self::ClickHouse => format!("http://127.0.0.1:{port}"),
        }
    }
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Postgres => "PostgreSQL",
            Self::ClickHouse => "ClickHouse",
        })
    }
}

impl FromStr for ServiceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("no service is called so; there are {}", known()))
    }
}
