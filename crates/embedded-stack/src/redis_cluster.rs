//! A Redis Cluster on loopback: masters that share the slots, and replicas of each. Never calls it ready before every node
//! says so and every replica follows its master.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::node::{Seen, ask, tell, view};
use crate::service::Plan;
use crate::site::Site;
use crate::temporary::TemporaryFolder;
use crate::{Lifetime, PortChoice, Service, ServiceKind, StackError, cluster_nodes};

/// Slots of a cluster.
pub(crate) const SLOTS: usize = 16384;
/// How long the nodes may take to agree on something.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);

/// A running cluster; dropping it ends the nodes and removes their folder. A node is named by its place in
/// [`RedisCluster::nodes`]: the masters that were made as such come first.
#[derive(Debug)]
pub struct RedisCluster {
    // Dropped in this order: nodes first, then what they stand on.
    nodes: Vec<Service>,
    _lock: Option<File>,
    _temporary: Option<TemporaryFolder>,
}

impl RedisCluster {
    /// Starts `masters` nodes that share all slots, and `replicas` of each, in a fresh folder, and waits until all is well.
    ///
    /// # Errors
    /// When `redis-server` is missing or a node does not come up; none is left running then.
    pub async fn start(masters: usize, replicas: usize) -> Result<Self, StackError> {
        let temporary = TemporaryFolder::create()?;
        let site = Site::open(temporary.path())?;
        let lock = site.lock(Duration::ZERO)?;
        let plan = Plan {
            durable: false,
            lifetime: Lifetime::Owner,
            ports: PortChoice::Free,
            bus: None,
        };
        let nodes = cluster_nodes::start(&site, masters * (1 + replicas), plan).await?;
        let cluster = Self {
            nodes,
            _lock: Some(lock),
            _temporary: Some(temporary),
        };
        cluster.form(masters).await?;
        Ok(cluster)
    }

    /// Starts a cluster in a data folder that somebody else has locked, or takes over the one that is there.
    pub(crate) async fn open(
        site: &Site,
        masters: usize,
        replicas: usize,
        plan: Plan,
    ) -> Result<Self, StackError> {
        let cluster = Self {
            nodes: cluster_nodes::start(site, masters * (1 + replicas), plan).await?,
            _lock: None,
            _temporary: None,
        };
        let info = ask(cluster.port(0), &["CLUSTER", "INFO"]).await?;
        if info.contains("cluster_known_nodes:1\r\n") {
            cluster.form(masters).await?;
        } else {
            cluster.wait_until_well().await?;
        }
        Ok(cluster)
    }

    /// Asks every node to end, and waits until all have.
    ///
    /// # Errors
    /// When a process is left that cannot be ended.
    pub async fn stop(&self) -> Result<(), StackError> {
        for node in &self.nodes {
            node.stop().await?;
        }
        Ok(())
    }

    /// Every node's handle: to stop, kill, pause and start it again on its port and data.
    pub fn nodes(&self) -> &[Service] {
        &self.nodes
    }

    /// The URL of the cluster, with all nodes.
    pub fn url(&self) -> String {
        cluster_nodes::url(&self.nodes)
    }

    fn port(&self, node: usize) -> u16 {
        self.nodes[node].port()
    }

    async fn form(&self, masters: usize) -> Result<(), StackError> {
        let first = self.port(0).to_string();
        let bus = bus_of(self.port(0)).await?;
        for (place, node) in self.nodes.iter().enumerate() {
            if place < masters {
                let epoch = (place + 1).to_string();
                tell(node.port(), &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await?;
                let (from, to) = (SLOTS * place / masters, SLOTS * (place + 1) / masters - 1);
                let range = [from.to_string(), to.to_string()];
                tell(node.port(), &["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).await?;
            }
            if place > 0 {
                tell(node.port(), &["CLUSTER", "MEET", "127.0.0.1", &first, &bus]).await?;
            }
        }
        let all = self.nodes.len();
        let have_met = |view: &[Seen]| view.len() == all && !view.iter().any(Seen::is_stranger);
        self.wait_for_views("meeting the others", have_met).await?;
        for place in masters..all {
            let id = ask(self.port(place % masters), &["CLUSTER", "MYID"]).await?;
            tell(self.port(place), &["CLUSTER", "REPLICATE", &id]).await?;
        }
        let follow =
            |view: &[Seen]| view.iter().filter(|seen| seen.master.is_some()).count() == all - masters;
        self.wait_for_views("learning who follows whom", follow).await?;
        self.wait_until_well().await
    }

    /// Waits until every node that runs says that all slots are served, and every replica follows its master.
    ///
    /// # Errors
    /// When that does not come within a minute.
    pub async fn wait_until_well(&self) -> Result<(), StackError> {
        for port in self.running().await {
            wait(port, "becoming well", async || {
                let info = ask(port, &["CLUSTER", "INFO"]).await?;
                let replication = ask(port, &["INFO", "replication"]).await?;
                let is_well =
                    info.contains("cluster_state:ok") && !replication.contains("master_link_status:down");
                Ok(is_well.then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// The node that has the slot of a key, as the nodes that run agree.
    ///
    /// # Errors
    /// When they do not agree within a minute.
    pub async fn owner_of(&self, key: &str) -> Result<usize, StackError> {
        self.owner_of_slot(self.slot_of(key).await?).await
    }

    /// The slot of a key.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn slot_of(&self, key: &str) -> Result<u16, StackError> {
        let port = self.any_running().await?;
        let slot = ask(port, &["CLUSTER", "KEYSLOT", key]).await?;
        slot.parse().map_err(|_| said(port, "asking for a slot", &slot))
    }

    /// The node that has a slot, as the nodes that run agree.
    ///
    /// # Errors
    /// When they do not agree within a minute.
    pub async fn owner_of_slot(&self, slot: u16) -> Result<usize, StackError> {
        let running = self.running().await;
        let any = self.any_running().await?;
        wait(any, "agreeing on an owner", async || {
            let mut owners = Vec::new();
            for port in &running {
                let view = view(*port).await?;
                owners.push(
                    view.into_iter()
                        .find(|seen| seen.is_master() && seen.owns(slot))
                        .map(|seen| seen.port),
                );
            }
            owners.dedup();
            let agreed = match owners.as_slice() {
                [Some(port)] => self.place_of(*port),
                _ => None,
            };
            Ok(agreed)
        })
        .await
    }

    /// The nodes that have slots, by a node that runs.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn masters(&self) -> Result<Vec<usize>, StackError> {
        let view = view(self.any_running().await?).await?;
        let masters = view.iter().filter(|seen| seen.is_master() && seen.has_slots());
        Ok(masters.filter_map(|seen| self.place_of(seen.port)).collect())
    }

    /// The nodes that follow a node.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn replicas_of(&self, node: usize) -> Result<Vec<usize>, StackError> {
        let view = view(self.any_running().await?).await?;
        let port = self.port(node);
        let id = view
            .iter()
            .find(|seen| seen.port == port)
            .map(|seen| seen.id.clone());
        let replicas = view
            .iter()
            .filter(|seen| seen.master.is_some() && seen.master == id);
        Ok(replicas.filter_map(|seen| self.place_of(seen.port)).collect())
    }

    /// Has a replica take its master's place, in agreement with it, and waits until every node that runs knows.
    ///
    /// # Errors
    /// When it is none, or the nodes do not agree within a minute.
    pub async fn fail_over(&self, replica: usize) -> Result<(), StackError> {
        tell(self.port(replica), &["CLUSTER", "FAILOVER"]).await?;
        self.wait_for_promotion(replica).await
    }

    /// Breaks a replica's link to its master for good: it keeps what it has, and gets nothing new.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn cut_off(&self, replica: usize) -> Result<(), StackError> {
        // A master that wants no password refuses a replica that has one.
        tell(self.port(replica), &["CONFIG", "SET", "masterauth", "none"]).await?;
        tell(self.port(replica), &["CLIENT", "KILL", "TYPE", "master"]).await?;
        Ok(())
    }

    /// Takes back what [`RedisCluster::cut_off`] did.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn let_back(&self, replica: usize) -> Result<(), StackError> {
        tell(self.port(replica), &["CONFIG", "SET", "masterauth", ""]).await?;
        Ok(())
    }

    /// Waits until a node is a master for every node that runs, and all is well: for instance after its master was killed.
    ///
    /// # Errors
    /// When that does not come within a minute.
    pub async fn wait_for_promotion(&self, node: usize) -> Result<(), StackError> {
        let port = self.port(node);
        let is_promoted = |view: &[Seen]| view.iter().any(|seen| seen.port == port && seen.is_master());
        self.wait_for_views("seeing a replica promoted", is_promoted)
            .await?;
        self.wait_until_well().await
    }

    /// Waits until a node follows another one, and is connected to it.
    ///
    /// # Errors
    /// When that does not come within a minute.
    pub async fn wait_until_follows(&self, replica: usize, master: usize) -> Result<(), StackError> {
        let id = ask(self.port(master), &["CLUSTER", "MYID"]).await?;
        let port = self.port(replica);
        let follows = |view: &[Seen]| {
            view.iter()
                .any(|seen| seen.port == port && seen.master.as_ref() == Some(&id))
        };
        self.wait_for_views("following another master", follows).await?;
        self.wait_until_well().await
    }

    /// Waits until a replica has everything that its master has written so far.
    ///
    /// # Errors
    /// When it is none, or that does not come within a minute.
    pub async fn wait_until_copied(&self, replica: usize) -> Result<(), StackError> {
        let port = self.port(replica);
        let info = ask(port, &["INFO", "replication"]).await?;
        let master = field(&info, "master_port:").and_then(|port| port.parse().ok());
        let master: u16 = master.ok_or_else(|| said(port, "copying its master", &info))?;
        let written = ask(master, &["INFO", "replication"]).await?;
        let written = number(&written, "master_repl_offset:");
        wait(port, "copying its master", async || {
            let info = ask(port, &["INFO", "replication"]).await?;
            let is_up = field(&info, "master_link_status:") == Some("up");
            Ok((is_up && number(&info, "slave_repl_offset:") >= written).then_some(()))
        })
        .await
    }

    /// Sends one command to a node and returns its reply as text.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn ask(&self, node: usize, command: &[&str]) -> Result<String, StackError> {
        ask(self.port(node), command).await
    }

    async fn wait_for_views(
        &self,
        during: &str,
        condition: impl Fn(&[Seen]) -> bool,
    ) -> Result<(), StackError> {
        for port in self.running().await {
            wait(port, during, async || {
                Ok(condition(&view(port).await?).then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    fn place_of(&self, port: u16) -> Option<usize> {
        self.nodes.iter().position(|node| node.port() == port)
    }

    /// Ports of the nodes that run, and are not paused.
    pub(crate) async fn running(&self) -> Vec<u16> {
        let mut running = Vec::new();
        for node in &self.nodes {
            if node.is_moving().await {
                running.push(node.port());
            }
        }
        running
    }

    async fn any_running(&self) -> Result<u16, StackError> {
        let running = self.running().await;
        running
            .first()
            .copied()
            .ok_or(StackError::NotRunning(ServiceKind::Redis))
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

fn number(info: &str, name: &str) -> Option<u64> {
    field(info, name)?.parse().ok()
}

/// The port on which a node talks to the others.
async fn bus_of(port: u16) -> Result<String, StackError> {
    let text = ask(port, &["CLUSTER", "NODES"]).await?;
    // 07c3… 127.0.0.1:30001@31001 myself,master …
    let bus = text.split_once('@').map(|(_, rest)| rest);
    let bus = bus.and_then(|rest| rest.split([' ', ',']).next());
    bus.map(str::to_owned)
        .ok_or_else(|| said(port, "looking for its bus", &text))
}

/// Waits until `attempt` finds something; that a node does not answer, or not well, is one more reason to wait.
async fn wait<T>(
    port: u16,
    during: &str,
    attempt: impl AsyncFn() -> Result<Option<T>, StackError>,
) -> Result<T, StackError> {
    let began = Instant::now();
    loop {
        let reason = match attempt().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => format!("not within {PATIENCE:?}"),
            Err(error) => error.to_string(),
        };
        if began.elapsed() > PATIENCE {
            let view = ask(port, &["CLUSTER", "NODES"]).await.unwrap_or_default();
            return Err(said(port, during, &format!("{reason}\n{view}")));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn said(port: u16, during: &str, reason: &str) -> StackError {
    StackError::Node {
        port,
        during: during.to_owned(),
        reason: reason.to_owned(),
    }
}
