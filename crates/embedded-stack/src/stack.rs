//! The three services together: started side by side, described by their URLs, stopped together.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::service::Plan;
use crate::site::Site;
use crate::temporary::TemporaryFolder;
use crate::{
    DATABASE, External, Lifetime, PASSWORD, PortChoice, RedisCluster, Service, ServiceKind, ServiceState,
    StackError, StackOptions, USER, clickhouse, cluster_nodes, ports, postgres,
};

/// A cluster's masters, and replicas of each.
const MASTERS: usize = 3;
const REPLICAS: usize = 1;
/// How long to wait for another command on the same folder.
const LOCK_PATIENCE: Duration = Duration::from_mins(1);

/// Running services and the URLs of those that are used but not started.
///
/// Dropping it ends the services it started, unless they are detached, and removes a temporary folder.
#[derive(Debug)]
pub struct Stack {
    // Dropped in this order: services first, then what they stand on.
    services: Vec<Service>,
    cluster: Option<RedisCluster>,
    external: External,
    _lock: Option<File>,
    _temporary: Option<TemporaryFolder>,
}

/// What is known of one service of a data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not this stack's: its URL is set in the environment.
    External(String),
    /// Runs as this process.
    Running {
        /// Process number.
        pid: i32,
        /// Port on 127.0.0.1.
        port: u16,
        /// URL to connect to.
        url: String,
    },
    /// Does not run.
    Stopped,
}

impl Standing {
    /// The URL, if the service runs or is somebody else's.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::External(url) | Self::Running { url, .. } => Some(url),
            Self::Stopped => None,
        }
    }
}

impl Stack {
    /// Starts the services that `options` name, side by side, and waits until each answers. Services left running in
    /// the same folder by a detached stack are used as they are.
    ///
    /// # Errors
    /// When the folder is in use, a program is missing, or a service does not come up; none is left running then,
    /// but for detached ones that did come up.
    pub async fn start(options: StackOptions) -> Result<Self, StackError> {
        let (site, lock) = claim(options.data_dir.clone()).await?;
        if let Some(xml) = &options.clickhouse_config {
            clickhouse::configure(&site, xml)?;
        }
        let external = external_only(options.external, &site);
        let plan = Plan {
            durable: options.durable,
            lifetime: options.lifetime,
            ports: options.ports,
            bus: None,
        };
        let wanted = |kind: ServiceKind| options.services.contains(&kind) && external.url(kind).is_none();
        let is_cluster =
            wanted(ServiceKind::Redis) && (options.cluster || !cluster_nodes::find(&site, plan).is_empty());
        if is_cluster && let Some(alone) = Service::find(ServiceKind::Redis, &site, DETACHED) {
            let pid = match alone.state().await {
                ServiceState::Running(pid) => pid,
                ServiceState::Stopped => 0,
            };
            return Err(StackError::AlreadyRunning {
                service: ServiceKind::Redis,
                pid,
            });
        }
        let open = async |kind: ServiceKind| {
            if wanted(kind) && !(is_cluster && kind == ServiceKind::Redis) {
                Service::open(kind, &site, plan).await.map(Some)
            } else {
                Ok(None)
            }
        };
        // All are waited for, also when one fails: a start that is given up half way leaves a process behind.
        let open_cluster = async {
            if is_cluster {
                RedisCluster::open(&site, MASTERS, REPLICAS, plan).await.map(Some)
            } else {
                Ok(None)
            }
        };
        let (cluster, redis, postgres, clickhouse) = tokio::join!(
            open_cluster,
            open(ServiceKind::Redis),
            open(ServiceKind::Postgres),
            open(ServiceKind::ClickHouse)
        );
        let services = [redis?, postgres?, clickhouse?].into_iter().flatten().collect();
        let lock = (plan.lifetime == Lifetime::Owner).then_some(lock);
        Ok(Self {
            services,
            cluster: cluster?,
            external,
            _lock: lock,
            _temporary: options.temporary,
        })
    }

    /// One of the services that this stack runs.
    ///
    /// # Errors
    /// When it is not one of them.
    pub fn service(&self, kind: ServiceKind) -> Result<&Service, StackError> {
        self.services
            .iter()
            .find(|service| service.kind() == kind)
            .ok_or(StackError::NotOurs(kind))
    }

    /// Redis.
    ///
    /// # Errors
    /// When this stack does not run it.
    pub fn redis(&self) -> Result<&Service, StackError> {
        self.service(ServiceKind::Redis)
    }

    /// PostgreSQL.
    ///
    /// # Errors
    /// When this stack does not run it.
    pub fn postgres(&self) -> Result<&Service, StackError> {
        self.service(ServiceKind::Postgres)
    }

    /// ClickHouse.
    ///
    /// # Errors
    /// When this stack does not run it.
    pub fn clickhouse(&self) -> Result<&Service, StackError> {
        self.service(ServiceKind::ClickHouse)
    }

    /// URL of Redis.
    ///
    /// # Errors
    /// When the stack neither runs nor was given one.
    pub fn redis_url(&self) -> Result<String, StackError> {
        self.url(ServiceKind::Redis)
    }

    /// URL of the PostgreSQL database, with user and password.
    ///
    /// # Errors
    /// When the stack neither runs nor was given one.
    pub fn database_url(&self) -> Result<String, StackError> {
        self.url(ServiceKind::Postgres)
    }

    /// URL of ClickHouse's HTTP interface; user and password are [`USER`] and [`PASSWORD`].
    ///
    /// # Errors
    /// When the stack neither runs nor was given one.
    pub fn clickhouse_url(&self) -> Result<String, StackError> {
        self.url(ServiceKind::ClickHouse)
    }

    fn url(&self, kind: ServiceKind) -> Result<String, StackError> {
        if let (ServiceKind::Redis, Some(cluster)) = (kind, &self.cluster) {
            return Ok(cluster.url());
        }
        let external = self.external.url(kind).map(str::to_owned);
        external.map_or_else(|| self.service(kind).map(Service::url), Ok)
    }

    /// The environment variables that point a program at these services.
    pub fn env(&self) -> Vec<(String, String)> {
        environment(|kind| self.url(kind).ok(), &self.external)
    }

    /// Stops every service in good order.
    ///
    /// # Errors
    /// When a process is left that cannot be ended.
    pub async fn stop(&self) -> Result<(), StackError> {
        if let Some(cluster) = &self.cluster {
            cluster.stop().await?;
        }
        let stop = async |kind: ServiceKind| match self.service(kind) {
            Ok(service) => service.stop().await,
            Err(_) => Ok(()),
        };
        tokio::try_join!(
            stop(ServiceKind::Redis),
            stop(ServiceKind::Postgres),
            stop(ServiceKind::ClickHouse)
        )
        .map(drop)
    }

    /// What runs with its data in `data_dir`, as far as process files tell; nothing is started or asked.
    pub async fn standing(data_dir: &Path, external: &External) -> Vec<(ServiceKind, Standing)> {
        let site = Site::existing(data_dir);
        let external = site
            .as_ref()
            .map_or_else(|| external.clone(), |site| external_only(external.clone(), site));
        let mut standings = Vec::new();
        for kind in ServiceKind::ALL {
            let found = site.as_ref().and_then(|site| Service::find(kind, site, DETACHED));
            let standing = match (external.url(kind), found) {
                (Some(url), _) => Standing::External(url.to_owned()),
                (None, Some(service)) => running(&service, service.url()).await,
                (None, None) => match site.as_ref().map(|site| cluster_nodes::find(site, DETACHED)) {
                    Some(nodes) if kind == ServiceKind::Redis && !nodes.is_empty() => {
                        running(&nodes[0], cluster_nodes::url(&nodes)).await
                    }
                    _ => Standing::Stopped,
                },
            };
            standings.push((kind, standing));
        }
        standings
    }

    /// Stops what runs detached with its data in `data_dir`, in good order; says which were running.
    ///
    /// # Errors
    /// When the folder is in use, or a process is left that cannot be ended.
    pub async fn stop_detached(data_dir: &Path) -> Result<Vec<ServiceKind>, StackError> {
        if Site::existing(data_dir).is_none() {
            return Ok(Vec::new());
        }
        let (site, lock) = claim(data_dir.to_path_buf()).await?;
        let stop = async |kind: ServiceKind| match Service::find(kind, &site, DETACHED) {
            Some(service) => service.stop().await.map(|()| Some(kind)),
            None => Ok(None),
        };
        let stopped = tokio::try_join!(
            stop(ServiceKind::Redis),
            stop(ServiceKind::Postgres),
            stop(ServiceKind::ClickHouse)
        )?;
        let nodes = cluster_nodes::find(&site, DETACHED);
        for node in &nodes {
            node.stop().await?;
        }
        drop(lock);
        let cluster = (!nodes.is_empty() && stopped.0.is_none()).then_some(ServiceKind::Redis);
        let stopped = (stopped.0.or(cluster), stopped.1, stopped.2);
        Ok([stopped.0, stopped.1, stopped.2].into_iter().flatten().collect())
    }

    /// Stops what runs detached and removes all data.
    ///
    /// # Errors
    /// When a process is left that cannot be ended, or a folder cannot be removed.
    pub async fn remove(data_dir: &Path) -> Result<(), StackError> {
        Self::stop_detached(data_dir).await?;
        let Some(site) = Site::existing(data_dir) else {
            return Ok(());
        };
        let root = site.root();
        postgres::remove(root)?;
        std::fs::remove_dir_all(root).map_err(StackError::path("remove", root))
    }
}

/// For services that are only found: nothing of it is used but that they are not ended on drop.
const DETACHED: Plan = Plan {
    durable: true,
    lifetime: Lifetime::Detached,
    ports: PortChoice::Standard,
    bus: None,
};

async fn running(service: &Service, url: String) -> Standing {
    match service.state().await {
        ServiceState::Running(pid) => Standing::Running {
            pid,
            port: service.port(),
            url,
        },
        ServiceState::Stopped => Standing::Stopped,
    }
}

async fn claim(data_dir: std::path::PathBuf) -> Result<(Site, File), StackError> {
    let claimed = tokio::task::spawn_blocking(move || {
        let site = Site::open(&data_dir)?;
        let lock = site.lock(LOCK_PATIENCE)?;
        Ok((site, lock))
    });
    claimed
        .await
        .map_err(|error| StackError::run("the folder's lock", &error))?
}

/// Without the URLs that this very folder's services printed earlier: a shell that took them over must not make the
/// next command believe that somebody else provides the service.
fn external_only(external: External, site: &Site) -> External {
    external.without(|kind, url| {
        let port = ports::read(&site.port_file(kind));
        if kind == ServiceKind::Redis && cluster_nodes::remembered_url(site).is_some_and(|ours| ours == url) {
            return true;
        }
        let runs = Service::find(kind, site, DETACHED).is_some();
        port.is_some_and(|port| kind.url(port) == url && (runs || ports::is_free(port)))
    })
}

/// The variables for the services whose URL is known. An external ClickHouse keeps the names it was given with.
pub fn environment(
    url: impl Fn(ServiceKind) -> Option<String>,
    external: &External,
) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = ServiceKind::ALL
        .into_iter()
        .filter_map(|kind| Some((kind.variable().to_owned(), url(kind)?)))
        .collect();
    let given = |name: &str| {
        external
            .url(ServiceKind::ClickHouse)
            .and_then(|_| std::env::var(name).ok())
    };
    if url(ServiceKind::ClickHouse).is_some() {
        let names = [
            ("CLICKHOUSE_DB", DATABASE),
            ("CLICKHOUSE_USER", USER),
            ("CLICKHOUSE_PASSWORD", PASSWORD),
        ];
        variables.extend(
            names.map(|(name, ours)| (name.to_owned(), given(name).unwrap_or_else(|| ours.to_owned()))),
        );
    }
    variables
}
