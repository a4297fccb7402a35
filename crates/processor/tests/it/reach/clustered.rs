//! A Redis Cluster beside a world's other stores, and a load that goes on whatever happens to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use embedded_stack::RedisCluster;
use redis::FromRedisValue;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::streams::{StreamInfoGroup, StreamInfoGroupsReply, StreamInfoStreamReply, StreamRangeReply};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::{GROUP, PROJECT, QUEUE, Worker, World, eventually};

/// The partitions of the stream, which are on all three masters…
pub(crate) const STREAMS: [&str; 4] = [
    STREAM,
    "events:incoming:{1}",
    "events:incoming:{2}",
    "events:incoming:{3}",
];
/// …and the first of them.
pub(crate) const STREAM: &str = "events:incoming:{0}";
/// Nodes take seconds to replace one another, on a busy machine many.
pub(crate) const LONG: Duration = Duration::from_secs(90);

pub(crate) struct Clustered {
    pub(crate) world: World,
    pub(crate) cluster: RedisCluster,
}

impl Clustered {
    pub(crate) async fn start(replicas: usize) -> Self {
        let (world, cluster) = tokio::join!(World::start(), RedisCluster::start(3, replicas));
        Self {
            world,
            cluster: cluster.unwrap(),
        }
    }

    /// A worker that is told of all nodes.
    pub(crate) fn worker(&self, name: &str) -> Worker {
        self.worker_of(name, &self.cluster.url())
    }

    pub(crate) fn worker_of(&self, name: &str, url: &str) -> Worker {
        self.started(name, url, &[])
    }

    /// A worker with more of its environment.
    pub(crate) fn bounded(&self, name: &str, more: &[(&str, &str)]) -> Worker {
        self.started(name, &self.cluster.url(), more)
    }

    /// A worker that shares the streams with others.
    pub(crate) fn sharing(&self, name: &str) -> Worker {
        self.bounded(name, &[("PROCESSOR_STREAM_SHARE", "auto")])
    }

    fn started(&self, name: &str, url: &str, more: &[(&str, &str)]) -> Worker {
        let streams = STREAMS.join(",");
        let mut environment = vec![
            ("REDIS_URL", url),
            ("PROCESSOR_STREAM", streams.as_str()),
            ("LOG_LEVEL", "debug"),
        ];
        environment.extend_from_slice(more);
        self.world.worker(name, &environment)
    }

    /// Runs a command to its end: whether it succeeded, and what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> (bool, String) {
        let url = self.cluster.url();
        self.world.run(
            arguments,
            &[("REDIS_URL", &url), ("PROCESSOR_STREAM", &STREAMS.join(","))],
        )
    }

    /// Runs `check`: whether nothing is wrong, and a line for each finding.
    pub(crate) fn check(&self) -> (bool, String) {
        let url = self.cluster.url();
        self.world
            .check(&[("REDIS_URL", &url), ("PROCESSOR_STREAM", &STREAMS.join(","))])
    }

    /// The URL of each node.
    pub(crate) fn nodes(&self) -> Vec<String> {
        self.cluster
            .nodes()
            .iter()
            .map(embedded_stack::Service::url)
            .collect()
    }

    /// A client that knows clusters by another implementation than the worker's.
    pub(crate) async fn client(&self) -> ClusterConnection {
        connect(self.nodes()).await.unwrap()
    }

    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &str, arguments: &[&str]) -> T {
        let mut command = redis::cmd(command);
        command.arg(arguments);
        command.query_async(&mut self.client().await).await.unwrap()
    }

    /// Event ids of the entries that the streams have.
    pub(crate) async fn in_streams(&self) -> BTreeSet<Uuid> {
        let mut ids = BTreeSet::new();
        for stream in STREAMS {
            let mut from = "-".to_owned();
            loop {
                let range: StreamRangeReply =
                    self.ask("XRANGE", &[stream, &from, "+", "COUNT", "10000"]).await;
                let Some(last) = range.ids.last() else { break };
                from = format!("({}", last.id);
                let entries = range.ids.iter();
                ids.extend(
                    entries
                        .map(|entry| -> Uuid { entry.get::<String>("event_id").unwrap().parse().unwrap() }),
                );
            }
        }
        ids
    }

    /// Waits until every entry is acknowledged and no dead letter is left.
    pub(crate) async fn settled(&self) {
        self.settled_within(LONG).await;
    }

    pub(crate) async fn settled_within(&self, limit: Duration) {
        let mut client = self.client().await;
        eventually("every entry is settled", limit, async || {
            settled(&mut client).await.unwrap_or(false)
        })
        .await;
    }

    /// Rows in ClickHouse, and the event ids among them.
    pub(crate) async fn rows(&self) -> (usize, BTreeSet<Uuid>) {
        let ids = self.world.ch("SELECT event_id FROM events").await;
        (
            ids.lines().count(),
            ids.lines().map(|id| id.parse().unwrap()).collect(),
        )
    }

    /// Every entry of the stream has its one row, nobody else has one, and the stores name the same persons.
    pub(crate) async fn all_is_well(&self, sent: &BTreeSet<Uuid>) {
        self.rows_are_well(sent).await;
        let (ok, text) = self.run(&["person", "audit"]);
        assert!(ok, "{text}");
    }

    /// No instance that lives says that a store is away.
    pub(crate) async fn stores_are_back(&self) {
        eventually("all stores are back for every instance", LONG, async || {
            let (_, text) = self.run(&["status", "--limit", "60", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let instances = status["instances"].as_array().into_iter().flatten();
            let mut living = instances
                .filter(|instance| instance["life"] == "alive")
                .peekable();
            living.peek().is_some() && living.all(|instance| instance["stores_away"] == serde_json::json!([]))
        })
        .await;
    }

    /// Every entry of the stream has its one row, and nobody else has one.
    pub(crate) async fn rows_are_well(&self, sent: &BTreeSet<Uuid>) {
        let (rows, landed) = self.rows().await;
        assert_eq!(rows, landed.len(), "an event has landed twice");
        let in_streams = self.in_streams().await;
        let missing: Vec<&Uuid> = in_streams.difference(&landed).collect();
        assert!(
            missing.is_empty(),
            "{} of {} have no row",
            missing.len(),
            in_streams.len()
        );
        assert!(landed.is_subset(sent), "a row of an event that nobody sent");
    }
}

pub(crate) async fn connect(nodes: Vec<String>) -> redis::RedisResult<ClusterConnection> {
    let client = ClusterClient::builder(nodes)
        .response_timeout(Duration::from_secs(5))
        .build()?;
    client.get_async_connection().await
}

async fn settled(client: &mut ClusterConnection) -> redis::RedisResult<bool> {
    for stream in STREAMS {
        let xinfo = |what: &str| redis::cmd("XINFO").arg(what).arg(stream).clone();
        let groups: StreamInfoGroupsReply = xinfo("GROUPS").query_async(client).await?;
        let last: StreamInfoStreamReply = xinfo("STREAM").query_async(client).await?;
        let group = groups.groups.into_iter().find(|group| group.name == GROUP);
        let is_settled =
            |group: &StreamInfoGroup| group.pending == 0 && group.last_delivered_id == last.last_generated_id;
        if !group.as_ref().is_some_and(is_settled) {
            return Ok(false);
        }
    }
    let letters: u64 = redis::cmd("XLEN").arg(QUEUE).query_async(client).await?;
    Ok(letters == 0)
}

/// Sends events one after another until it is told to end.
pub(crate) struct Load {
    sent: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    sending: JoinHandle<BTreeSet<Uuid>>,
}

impl Load {
    pub(crate) fn start(clustered: &Clustered) -> Self {
        let (sent, ends) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let sending = tokio::spawn(send(clustered.nodes(), sent.clone(), ends.clone()));
        Self { sent, ends, sending }
    }

    /// Waits until so many more were taken by the stream.
    pub(crate) async fn goes_on(&self, more: usize) {
        let goal = self.sent.load(Ordering::Relaxed) + more;
        eventually("the load goes on", LONG, async || {
            self.sent.load(Ordering::Relaxed) >= goal
        })
        .await;
    }

    /// The ids of all events that were sent, also of those that were not taken.
    pub(crate) async fn end(self) -> BTreeSet<Uuid> {
        self.ends.store(true, Ordering::Relaxed);
        self.sending.await.unwrap()
    }
}

async fn send(nodes: Vec<String>, sent: Arc<AtomicUsize>, ends: Arc<AtomicBool>) -> BTreeSet<Uuid> {
    let mut client = connect(nodes.clone()).await.unwrap();
    let mut ids = BTreeSet::new();
    for n in 0.. {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        let (id, person) = (Uuid::new_v4(), n % 50);
        ids.insert(id);
        let mut add = redis::cmd("XADD");
        // Those of one person are in one partition.
        add.arg(STREAMS[person % STREAMS.len()]).arg("*");
        add.arg(&[("event_id", id.to_string().as_str()), ("project_id", PROJECT)]);
        // An event that is added again has the same time, as from ingest: another one would make another row.
        add.arg("timestamp").arg(format!("{:.3}", jiff::Timestamp::now()));
        let (user, anonymous) = (format!("user-{person}"), format!("anon-{person}-{}", n / 200));
        if n % 7 == 6 {
            add.arg(&[("event_name", "$identify"), ("event_type", "identify")]);
            add.arg(&[
                ("distinct_id", user.as_str()),
                ("anonymous_id", anonymous.as_str()),
            ]);
        } else {
            add.arg(&[("event_name", "test"), ("distinct_id", anonymous.as_str())]);
        }
        // An ingest service tries the same event again, and may add it twice.
        while add.query_async::<String>(&mut client).await.is_err() && !ends.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            // This client waits for a node that stands still; a new one passes it over.
            let others = nodes.iter().filter(|_| rand::random::<bool>());
            if let Ok(new) = connect(others.cloned().collect()).await {
                client = new;
            }
        }
        sent.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ids
}
