//! The nodes of a Redis Cluster in one folder: started, or found again. Each has a folder of its own below it.

use std::path::{Path, PathBuf};

use crate::service::Plan;
use crate::site::Site;
use crate::{Service, ServiceKind, StackError, ports};

/// The folder of all nodes in a data folder.
const FOLDER: &str = "redis-cluster";
/// Another program may take a port between our look and the node's.
const ATTEMPTS: usize = 3;

fn folder(site: &Site, node: usize) -> PathBuf {
    site.root().join(FOLDER).join(format!("node-{node}"))
}

/// Starts nodes side by side, those that run already excepted.
pub(crate) async fn start(site: &Site, count: usize, plan: Plan) -> Result<Vec<Service>, StackError> {
    let mut starting = tokio::task::JoinSet::new();
    for node in 0..count {
        let folder = folder(site, node);
        starting.spawn(async move { (node, start_one(&folder, plan).await) });
    }
    // All are waited for, also when one fails: a start that is given up half way leaves a process behind.
    let mut started = starting.join_all().await;
    started.sort_by_key(|(node, _)| *node);
    started.into_iter().map(|(_, node)| node).collect()
}

/// Starts one node on the ports that it had, or on free ones.
async fn start_one(folder: &Path, plan: Plan) -> Result<Service, StackError> {
    let site = Site::open(folder)?;
    let (port_file, bus_file) = (site.port_file(ServiceKind::Redis), site.bus_file());
    let mut remembered = ports::read(&port_file).zip(ports::read(&bus_file));
    let mut attempt = 1;
    loop {
        let (port, bus) = match remembered.take() {
            Some(both) => both,
            None => ports::two_free()?,
        };
        ports::write(&port_file, port)?;
        ports::write(&bus_file, bus)?;
        let plan = Plan {
            bus: Some(bus),
            ..plan
        };
        match Service::open(ServiceKind::Redis, &site, plan).await {
            Err(StackError::Ended { .. }) if attempt < ATTEMPTS && !ports::is_free(bus) => attempt += 1,
            other => return other,
        }
    }
}

/// The nodes that an earlier command left running; not asked whether they are well.
pub(crate) fn find(site: &Site, plan: Plan) -> Vec<Service> {
    let nodes = (0..)
        .map(|node| folder(site, node))
        .take_while(|folder| folder.is_dir());
    let sites = nodes.filter_map(|folder| Site::existing(&folder));
    sites
        .filter_map(|site| Service::find(ServiceKind::Redis, &site, plan))
        .collect()
}

/// The URL that leads to nodes.
pub(crate) fn url(nodes: &[Service]) -> String {
    let nodes: Vec<String> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port()))
        .collect();
    format!("redis-cluster://{}", nodes.join(","))
}

/// The URL that earlier nodes had, whether they run or not.
pub(crate) fn remembered_url(site: &Site) -> Option<String> {
    let nodes = (0..).map_while(|node| {
        let site = Site::existing(&folder(site, node))?;
        let port = ports::read(&site.port_file(ServiceKind::Redis))?;
        Some(format!("127.0.0.1:{port}"))
    });
    let nodes: Vec<String> = nodes.collect();
    (!nodes.is_empty()).then(|| format!("redis-cluster://{}", nodes.join(",")))
}
