//! The private stack of one scenario, gone with it. Runs of a scenario share it: what they add to persons stays, events
//! do not.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use embedded_stack::{Service, ServiceState, Stack, StackOptions};
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamInfoGroupsReply, StreamInfoStreamReply};

use crate::common::{ask, worker};
use crate::load::project;
use crate::usage::peak_mb;

pub(crate) const STREAM: &str = "events:incoming";
/// Merges count as over when there has been none for so long…
const QUIET: Duration = Duration::from_secs(1);
/// …and are not waited for any longer than this: a large one may take minutes, and belongs to no run alone.
const SETTLING: Duration = Duration::from_mins(1);

/// Everything that a scenario needs.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) redis: MultiplexedConnection,
    pub(crate) postgres: tokio_postgres::Client,
    http: reqwest::Client,
}

impl World {
    /// Services, schema and projects.
    pub(crate) async fn start(projects: usize) -> Self {
        let stack = Stack::start(StackOptions::temporary().unwrap()).await.unwrap();
        let url = stack.database_url().unwrap();
        let (postgres, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let world = Self {
            redis: connect(&stack).await,
            stack,
            postgres,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        world.run(&["migrate"]);
        for n in 0..projects {
            let sql = format!(
                "INSERT INTO projects (id, name) VALUES ('{}', 'bench')",
                project(n)
            );
            world.postgres.batch_execute(&sql).await.unwrap();
        }
        // A rewrite of the file that held the whole load would fall into some runs and not into others.
        redis::cmd("CONFIG")
            .arg(&["SET", "auto-aof-rewrite-percentage", "0"])
            .exec_async(&mut world.redis.clone())
            .await
            .unwrap();
        world
    }

    /// The program as this scenario's environment has it.
    fn command(&self, arguments: &[&str]) -> Command {
        self.prepared(Command::new(worker()), arguments)
    }

    /// The same, ended with this process, however that ends.
    pub(crate) fn bound(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(worker());
        self.prepared(command, arguments)
    }

    fn prepared(&self, mut command: Command, arguments: &[&str]) -> Command {
        let heartbeat = format!("bench-{}.heartbeat", std::process::id());
        // Whoever measures may have the worker tell a collector.
        let telemetry =
            std::env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("DD_"));
        command
            .args(arguments)
            .env_clear()
            .envs(telemetry)
            .envs(self.stack.env())
            .env("PROCESSOR_CONSUMER_NAME", "bench")
            .env("HEARTBEAT_PATH", std::env::temp_dir().join(heartbeat))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Ok(geoip) = std::env::var("GEOIP_DATABASE") {
            command.env("GEOIP_DATABASE", geoip);
        }
        command
    }

    /// Runs a command of the program. Returns its seconds and its peak memory in MB.
    pub(crate) fn run(&self, arguments: &[&str]) -> (f64, f64) {
        let began = Instant::now();
        let mut child = self.command(arguments).stderr(Stdio::null()).spawn().unwrap();
        let mut peak = 0f64;
        let status = loop {
            peak = peak.max(peak_mb(child.id()));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{arguments:?}");
        (began.elapsed().as_secs_f64(), peak)
    }

    /// ClickHouse's answer.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        ask(&self.http, &self.stack.env(), sql).await
    }

    /// ClickHouse's answer, a number.
    pub(crate) async fn number(&self, sql: &str) -> f64 {
        self.ask(sql).await.parse().unwrap()
    }

    /// No event anywhere, nothing left to be merged or written back: as every run finds it.
    pub(crate) async fn fresh(&self) {
        self.ask("TRUNCATE TABLE events").await;
        redis::cmd("XTRIM")
            .arg(&[STREAM, "MAXLEN", "0"])
            .exec_async(&mut self.redis.clone())
            .await
            .unwrap();
        self.postgres.batch_execute("CHECKPOINT").await.unwrap();
        self.settle().await;
    }

    /// Waits until the engine merges nothing any more, within bounds.
    pub(crate) async fn settle(&self) {
        let began = Instant::now();
        let mut quiet_since = Instant::now();
        while quiet_since.elapsed() < QUIET && began.elapsed() < SETTLING {
            if self.number("SELECT count() FROM system.merges").await > 0.0 {
                quiet_since = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Entries that the group has to read and to acknowledge yet; `None` while there is no group.
    pub(crate) async fn unsettled(&self) -> Option<usize> {
        let group = self.group().await?;
        Some(group.pending + group.lag?)
    }

    /// Whether everything in the stream is read and acknowledged.
    pub(crate) async fn is_drained(&self) -> bool {
        let last: RedisResult<StreamInfoStreamReply> = redis::cmd("XINFO")
            .arg(&["STREAM", STREAM])
            .query_async(&mut self.redis.clone())
            .await;
        match (self.group().await, last) {
            (Some(group), Ok(last)) => {
                group.pending == 0 && group.last_delivered_id == last.last_generated_id
            }
            _ => false,
        }
    }

    /// The last entry that the group has read; empty while there is no group.
    pub(crate) async fn last_read(&self) -> String {
        let group = self.group().await;
        group.map_or_else(String::new, |group| group.last_delivered_id)
    }

    async fn group(&self) -> Option<redis::streams::StreamInfoGroup> {
        let groups: RedisResult<StreamInfoGroupsReply> = redis::cmd("XINFO")
            .arg(&["GROUPS", STREAM])
            .query_async(&mut self.redis.clone())
            .await;
        groups.ok()?.groups.into_iter().next()
    }
}

/// The process of a service.
pub(crate) async fn pid(service: &Service) -> u32 {
    match service.state().await {
        ServiceState::Running(pid) => pid as u32,
        ServiceState::Stopped => panic!("{} has ended", service.kind()),
    }
}

/// A connection that waits for as long as a busy machine takes.
async fn connect(stack: &Stack) -> MultiplexedConnection {
    let client = redis::Client::open(stack.redis_url().unwrap()).unwrap();
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_mins(1)));
    client
        .get_multiplexed_async_connection_with_config(&patient)
        .await
        .unwrap()
}
