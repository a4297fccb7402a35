//! Several full streams on a Redis Cluster are emptied by as many instances, which share them out among themselves.

use std::time::{Duration, Instant};

use embedded_stack::RedisCluster;
use futures::stream::{self, StreamExt};
use qurvo_processor::event::{Spread, partition};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::streams::{StreamInfoGroupsReply, StreamInfoStreamReply};
use sample_events::LoadEntry;

use crate::arguments::Arguments;
use crate::drain::costs;
use crate::figures::Run;
use crate::load::{Events, project};
use crate::scenarios::Scenario;
use crate::usage::{Usage, peak_mb};
use crate::worker::Worker;
use crate::world::{World, pid};

const MASTERS: usize = 3;
/// Entries in one write.
const PIPELINE: usize = 500;
/// Commands under way at the same time.
const AT_ONCE: usize = 200;

/// The cluster of one scenario, and what runs on it.
struct Shared<'a> {
    world: &'a World,
    cluster: RedisCluster,
    client: ClusterConnection,
    streams: Vec<String>,
}

/// So many streams and instances, and one run before that is not counted.
pub(crate) async fn measure(
    world: &World,
    scenario: &Scenario,
    streams: usize,
    arguments: &Arguments,
) -> Vec<Run> {
    let cluster = RedisCluster::start(MASTERS, 0).await.unwrap();
    let nodes: Vec<String> = cluster.nodes().iter().map(embedded_stack::Service::url).collect();
    let client = ClusterClient::builder(nodes)
        .response_timeout(Duration::from_mins(1))
        .build()
        .unwrap();
    let mut shared = Shared {
        world,
        cluster,
        client: client.get_async_connection().await.unwrap(),
        streams: (0..streams).map(|n| format!("events:incoming:{{{n}}}")).collect(),
    };
    shared.persons(scenario.persons).await;
    let mut runs = Vec::new();
    for n in 0..=arguments.runs {
        let run = shared.drained(scenario, n + 1).await;
        if n > 0 {
            println!("  run {n}: {:.0} events/s", run[0].1);
            runs.push(run);
        }
    }
    runs
}

impl Shared<'_> {
    /// The keys of known persons, which the single server has.
    async fn persons(&mut self, persons: u64) {
        let ids = self
            .world
            .postgres
            .query(
                "SELECT distinct_id, person_id::text FROM person_distinct_ids WHERE distinct_id LIKE 'visitor-%'",
                &[],
            )
            .await
            .unwrap();
        assert_eq!(ids.len() as u64, persons);
        let project = project(0);
        stream::iter(ids)
            .map(|row| {
                let mut client = self.client.clone();
                async move {
                    let (distinct_id, person): (String, String) = (row.get(0), row.get(1));
                    let mut set = redis::cmd("SET");
                    set.arg(format!("person:{project}:{distinct_id}")).arg(person);
                    set.arg("EX").arg(7_776_000);
                    set.exec_async(&mut client).await.unwrap();
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }

    async fn fill(&mut self, scenario: &Scenario, run: u64) {
        let mut waiting: Vec<Vec<LoadEntry>> = vec![Vec::new(); self.streams.len()];
        let mut events = Events::new(scenario.mix, scenario.persons, run);
        for _ in 0..scenario.events {
            let entry = events.next().unwrap();
            let field = |name: &str| {
                let field = entry.iter().find(|(known, _)| *known == name);
                field.map_or("", |(_, value)| value.as_ref())
            };
            let place = partition(
                Spread::DistinctId,
                field("project_id"),
                field("distinct_id"),
                self.streams.len(),
            );
            waiting[place].push(entry);
            if waiting[place].len() == PIPELINE {
                let full = std::mem::take(&mut waiting[place]);
                self.append(place, &full).await;
            }
        }
        for (place, rest) in waiting.into_iter().enumerate() {
            self.append(place, &rest).await;
        }
    }

    async fn append(&mut self, place: usize, entries: &[LoadEntry]) {
        if entries.is_empty() {
            return;
        }
        let mut pipeline = redis::pipe();
        for entry in entries {
            let command = pipeline.cmd("XADD").arg(&self.streams[place]).arg("*");
            for (name, value) in entry {
                command.arg(*name).arg(value.as_ref());
            }
            command.ignore();
        }
        pipeline.query_async::<()>(&mut self.client).await.unwrap();
    }

    /// No event anywhere, as every run finds it.
    async fn fresh(&mut self) {
        for stream in &self.streams {
            let mut trim = redis::cmd("XTRIM");
            trim.arg(&[stream.as_str(), "MAXLEN", "0"]);
            trim.exec_async(&mut self.client).await.unwrap();
        }
        self.world.fresh().await;
    }

    fn instance(&self, n: usize) -> Worker {
        let mut command = self.world.bound(&["run"]);
        let heartbeat = std::env::temp_dir().join(format!("bench-{}-{n}.heartbeat", std::process::id()));
        command
            .env("REDIS_URL", self.cluster.url())
            .env("PROCESSOR_STREAM", self.streams.join(","))
            .env("PROCESSOR_STREAM_SHARE", "auto")
            .env("PROCESSOR_CONSUMER_NAME", format!("bench-{n}"))
            .env("HEARTBEAT_PATH", heartbeat);
        Worker::of(&mut command)
    }

    async fn usage(&self, workers: &[Worker]) -> Usage {
        let workers: Vec<u32> = workers.iter().map(Worker::pid).collect();
        let mut nodes = Vec::new();
        for node in self.cluster.nodes() {
            nodes.push(pid(node).await);
        }
        Usage::of(self.world, &workers, &nodes).await
    }

    /// From the first read of any instance until everything is acknowledged: sharing the streams out is in it.
    async fn drained(&mut self, scenario: &Scenario, run: u64) -> Run {
        self.fresh().await;
        self.fill(scenario, run).await;
        let mut workers: Vec<Worker> = (0..self.streams.len()).map(|n| self.instance(n)).collect();
        let last = self.standing().await;
        while self.standing().await.read == last.read {
            workers[0].pause(5).await;
        }
        let (began, before) = (Instant::now(), self.usage(&workers).await);
        while !self.standing().await.is_drained {
            workers[0].pause(20).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        self.world.settle().await;
        self.world.postgres.batch_execute("CHECKPOINT").await.unwrap();
        let used = self.usage(&workers).await.since(&before);
        let peak = workers.iter().map(|worker| peak_mb(worker.pid()));
        let mut measured = vec![
            ("shared_rate", scenario.events as f64 / seconds),
            ("instances", workers.len() as f64),
            ("worker_mb", peak.fold(0.0, f64::max)),
        ];
        measured.extend(costs(&used, scenario.events as f64));
        workers.into_iter().for_each(Worker::stop);
        let landed = self.world.number("SELECT uniqExact(event_id) FROM events").await;
        assert!(
            (landed - scenario.events as f64).abs() < 0.5,
            "{landed} of {} events have landed",
            scenario.events
        );
        measured
    }

    async fn standing(&mut self) -> Standing {
        let mut standing = Standing {
            read: Vec::new(),
            is_drained: true,
        };
        for stream in &self.streams {
            let mut groups = redis::cmd("XINFO");
            groups.arg("GROUPS").arg(stream);
            let groups = groups.query_async(&mut self.client).await;
            let groups: StreamInfoGroupsReply = groups.unwrap_or_default();
            let mut info = redis::cmd("XINFO");
            info.arg("STREAM").arg(stream);
            let info: StreamInfoStreamReply = info.query_async(&mut self.client).await.unwrap();
            let group = groups.groups.into_iter().next();
            standing.is_drained &= group
                .as_ref()
                .is_some_and(|group| group.pending == 0 && group.last_delivered_id == info.last_generated_id);
            standing.read.push(group.map(|group| group.last_delivered_id));
        }
        standing
    }
}

/// How far the instances are.
struct Standing {
    /// The last entry read, by stream.
    read: Vec<Option<String>>,
    is_drained: bool,
}
