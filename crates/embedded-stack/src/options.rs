//! What a stack is to be: which services, where, how durable, for how long. Plain data; starts nothing.

use std::path::PathBuf;

use crate::temporary::TemporaryFolder;
use crate::{ServiceKind, StackError};

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

    /// One more.
    #[must_use]
    pub fn with(mut self, kind: ServiceKind, url: &str) -> Self {
        self.urls.push((kind, url.to_owned()));
        self
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
    pub(crate) cluster: bool,
    pub(crate) clickhouse_config: Option<String>,
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
            cluster: false,
            clickhouse_config: None,
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

    /// Whether Redis is a cluster of three masters and a replica of each, instead of one server.
    #[must_use]
    pub fn cluster(self, cluster: bool) -> Self {
        Self { cluster, ..self }
    }

    /// A configuration of ClickHouse's own, with clusters for instance, as XML.
    #[must_use]
    pub fn clickhouse_config(self, xml: &str) -> Self {
        Self {
            clickhouse_config: Some(xml.to_owned()),
            ..self
        }
    }
}
