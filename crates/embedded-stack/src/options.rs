//! What a stack is to be: which services, where, how durable, for how long. Plain data; starts nothing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::temporary::TemporaryFolder;
use crate::{PASSWORD, StackError, USER};

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
                format!(
                    "postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/{}",
                    crate::DATABASE
                )
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

/// How long the services live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// They end with the [`crate::Stack`], and with the process that owns it, however that process ends.
    Owner,
    /// They go on until somebody stops them; a later stack on the same folder finds them again.
    Detached,
}

/// Which port a service gets the first time. Later it keeps the one it had, unless somebody else took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortChoice {
    /// Any free one.
    Free,
    /// The standard one where it is free, else any free one.
    Standard,
}

/// Services that are used as they are instead of being started, by their URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct External {
    urls: Vec<(ServiceKind, String)>,
}

impl External {
    /// Those whose URL variable is set and not empty.
    pub fn from_environment() -> Self {
        let url = |kind: ServiceKind| std::env::var(kind.variable()).ok().filter(|url| !url.is_empty());
        let urls = ServiceKind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind, url(kind)?)))
            .collect();
        Self { urls }
    }

    /// Without those that `excluded` names.
    #[must_use]
    pub(crate) fn without(mut self, excluded: impl Fn(ServiceKind, &str) -> bool) -> Self {
        self.urls.retain(|(kind, url)| !excluded(*kind, url));
        self
    }

    /// The URL given for `kind`, if any.
    pub fn url(&self, kind: ServiceKind) -> Option<&str> {
        self.urls
            .iter()
            .find(|(known, _)| *known == kind)
            .map(|(_, url)| url.as_str())
    }
}

/// What to start, where and how.
#[derive(Debug)]
pub struct StackOptions {
    pub(crate) data_dir: PathBuf,
    pub(crate) temporary: Option<TemporaryFolder>,
    pub(crate) durable: bool,
    pub(crate) services: Vec<ServiceKind>,
    pub(crate) lifetime: Lifetime,
    pub(crate) ports: PortChoice,
    pub(crate) external: External,
}

impl StackOptions {
    /// All three services with their data in `data_dir`: durable, on free ports, ending with their owner.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            temporary: None,
            durable: true,
            services: ServiceKind::ALL.to_vec(),
            lifetime: Lifetime::Owner,
            ports: PortChoice::Free,
            external: External::default(),
        }
    }

    /// For tests: all three services in a fresh folder that goes with the stack, not durable against loss of power
    /// (a killed service still loses nothing it acknowledged).
    ///
    /// # Errors
    /// When no temporary folder can be made.
    pub fn temporary() -> Result<Self, StackError> {
        let folder = TemporaryFolder::create()?;
        let options = Self::new(folder.path());
        Ok(Self {
            temporary: Some(folder),
            durable: false,
            ..options
        })
    }

    /// Whether the services flush to disk before they acknowledge.
    #[must_use]
    pub fn durable(self, durable: bool) -> Self {
        Self { durable, ..self }
    }

    /// Starts only these services.
    #[must_use]
    pub fn only(self, services: &[ServiceKind]) -> Self {
        Self {
            services: services.to_vec(),
            ..self
        }
    }

    /// How long the services live.
    #[must_use]
    pub fn lifetime(self, lifetime: Lifetime) -> Self {
        Self { lifetime, ..self }
    }

    /// Which ports are tried first.
    #[must_use]
    pub fn ports(self, ports: PortChoice) -> Self {
        Self { ports, ..self }
    }

    /// Services that are there already and are not to be started.
    #[must_use]
    pub fn external(self, external: External) -> Self {
        Self { external, ..self }
    }
}
