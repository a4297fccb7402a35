//! What the benchmarks have in common: commands on a private stack, CPU time of its processes, questions to ClickHouse.

#![allow(dead_code, reason = "each benchmark uses a part")]
#![allow(
    clippy::disallowed_methods,
    reason = "benchmarks speak to Redis beside the worker"
)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use embedded_stack::Stack;

pub(crate) const STREAM: &str = "events:incoming";

pub(crate) fn command(stack: &Stack) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qurvo-processor"));
    command
        .env_clear()
        .envs(stack.env())
        .env("PROCESSOR_CONSUMER_NAME", "bench");
    command.env(
        "HEARTBEAT_PATH",
        std::env::temp_dir().join(format!("drain-{}.heartbeat", std::process::id())),
    );
    if let Ok(geoip) = std::env::var("GEOIP_DATABASE") {
        command.env("GEOIP_DATABASE", geoip);
    }
    command
}

/// A connection that waits for as long as a busy machine takes.
pub(crate) async fn connect_redis(stack: &Stack) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(stack.redis_url().unwrap()).unwrap();
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_mins(1)));
    client
        .get_multiplexed_async_connection_with_config(&patient)
        .await
        .unwrap()
}

/// CPU seconds used so far by each service.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) redis: f64,
    pub(crate) postgres: f64,
    pub(crate) clickhouse: f64,
}

pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) worker_cpu: f64,
    pub(crate) worker_peak_mb: u64,
    pub(crate) services: Cpu,
}

impl Measured {
    pub(crate) fn row(&self, name: &str, events: usize) -> Vec<String> {
        let per_event = |seconds: f64| format!("{:.2}", seconds * 1e6 / events as f64);
        vec![
            name.to_owned(),
            format!("{:.0}", events as f64 / self.seconds),
            per_event(self.worker_cpu),
            per_event(self.services.redis),
            per_event(self.services.postgres),
            per_event(self.services.clickhouse),
            self.worker_peak_mb.to_string(),
        ]
    }
}

/// User and system seconds of a process and its waited-for children.
pub(crate) fn cpu_of(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .map(|f| f.parse().unwrap_or(0.0))
        .collect();
    // The kernel counts in hundredths of a second on every platform this runs on.
    fields
        .get(11..15)
        .map_or(0.0, |times| times.iter().sum::<f64>() / 100.0)
}

/// Every process by name: the services are private, but found by who listens on their port.
pub(crate) fn services_cpu() -> Cpu {
    let mut cpu = Cpu::default();
    let own = std::process::id();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if pid == own || !is_descendant(pid, own) {
            continue;
        }
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        match name.trim() {
            name if name.starts_with("redis-server") => cpu.redis += cpu_of(pid),
            name if name.starts_with("postgres") => cpu.postgres += cpu_of(pid),
            name if name.starts_with("embedded-click") => cpu.clickhouse += cpu_of(pid),
            _ => {}
        }
    }
    cpu
}

pub(crate) fn is_descendant(mut pid: u32, ancestor: u32) -> bool {
    while pid > 1 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        match parent {
            Some(parent) if parent == ancestor => return true,
            Some(parent) => pid = parent,
            None => return false,
        }
    }
    false
}

pub(crate) async fn drain(
    stack: &Stack,
    redis: &mut redis::aio::MultiplexedConnection,
    events: usize,
) -> Measured {
    let before = services_cpu();
    let started = Instant::now();
    let mut worker: Child = command(stack).arg("run").stderr(Stdio::null()).spawn().unwrap();
    let deadline = started + Duration::from_mins(10);
    while !is_drained(redis).await {
        assert!(Instant::now() < deadline, "not drained within ten minutes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = services_cpu();
    let worker_cpu = cpu_of(worker.id());
    let worker_peak_mb = peak_mb(worker.id());
    worker.kill().unwrap();
    worker.wait().unwrap();
    println!("  {events} drained in {seconds:.2} s");
    Measured {
        seconds,
        worker_cpu,
        worker_peak_mb,
        services: difference(before, after),
    }
}

pub(crate) async fn is_drained(redis: &mut redis::aio::MultiplexedConnection) -> bool {
    let groups: redis::RedisResult<redis::streams::StreamInfoGroupsReply> = redis::cmd("XINFO")
        .arg("GROUPS")
        .arg(STREAM)
        .query_async(redis)
        .await;
    let last: redis::RedisResult<redis::streams::StreamInfoStreamReply> = redis::cmd("XINFO")
        .arg("STREAM")
        .arg(STREAM)
        .query_async(redis)
        .await;
    match (groups, last) {
        (Ok(groups), Ok(last)) => groups
            .groups
            .first()
            .is_some_and(|g| g.pending == 0 && g.last_delivered_id == last.last_generated_id),
        _ => false,
    }
}

pub(crate) fn difference(before: Cpu, after: Cpu) -> Cpu {
    Cpu {
        redis: after.redis - before.redis,
        postgres: after.postgres - before.postgres,
        clickhouse: after.clickhouse - before.clickhouse,
    }
}

/// Most memory that a process has had, in MB; nothing when it is gone.
pub(crate) fn peak_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1024
}

pub(crate) fn resident_bytes(pid: i32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or_default() * 1024.0
}

pub(crate) async fn ask(http: &reqwest::Client, env: &[(String, String)], sql: &str) -> String {
    let of = |name: &str| env.iter().find(|(key, _)| key == name).unwrap().1.clone();
    let answer = http
        .post(format!(
            "{}/?database={}",
            of("CLICKHOUSE_URL"),
            of("CLICKHOUSE_DB")
        ))
        .basic_auth(of("CLICKHOUSE_USER"), Some(of("CLICKHOUSE_PASSWORD")))
        .body(sql.to_owned())
        .send()
        .await
        .unwrap();
    let fine = answer.status().is_success();
    let text = answer.text().await.unwrap();
    assert!(fine, "{text}");
    text.trim().to_owned()
}
