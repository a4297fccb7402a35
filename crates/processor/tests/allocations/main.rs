//! How often the worker allocates memory for an event. It is the same on every machine, but for the loops that run by the
//! clock, so it has an upper bound here.
//!
//! This test is its own worker: started with [`COUNT`] set, it is the program itself, with a heap that counts, and leaves
//! the count in that file when it ends.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: a panic is how it fails, and it speaks to Redis by a connection of its own"
)]

use std::alloc::System;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use embedded_stack::{Stack, StackOptions};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamInfoGroupsReply;
use sample_events::{Load, LoadOptions};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Names the file for the count.
const COUNT: &str = "ALLOCATIONS_COUNTED_IN";
const PROJECT: &str = "11111111-1111-1111-1111-111111111111";
const STREAM: &str = "events:incoming";
/// Known persons: all are remembered after the first events.
const PERSONS: u64 = 200;
/// Events of the two drains that are compared: each holds full batches.
const FEW: usize = 10_000;
const MANY: usize = 40_000;
const PATIENCE: Duration = Duration::from_mins(2);

/// The clock only adds: the question whether entries are still this instance's, asked once an answer is a second old,
/// costs 4,000 allocations for 40,000 of them. So the least of several drains counts, and no more are made than it takes.
const DRAINS: usize = 3;

/// Most allocations of an event of a known person: 0.13, and 0.1 for each time that the question has to be asked…
const KNOWN: f64 = 0.4;
/// …and of one that writes properties.
const WRITES: f64 = 5.5;

fn main() -> ExitCode {
    if let Some(file) = std::env::var_os(COUNT) {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let code = qurvo_processor::cli::main();
        let count = HEAP.stats();
        let allocations = count.allocations + count.reallocations;
        std::fs::write(file, allocations.to_string()).unwrap();
        return code;
    }
    let trial = Trial::test("an_event_costs_few_allocations", || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(events_cost_few_allocations())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

async fn events_cost_few_allocations() -> Result<(), Failed> {
    let world = World::start().await;
    let mut found = Vec::new();
    for (name, writes, most) in [("known persons", false, KNOWN), ("property writes", true, WRITES)] {
        // What is allocated once, at the start and for each person, is in both.
        world.allocations(FEW, writes).await;
        let few = world.allocations(FEW, writes).await;
        let mut each = f64::MAX;
        for _drain in 0..DRAINS {
            let many = world.allocations(MANY, writes).await;
            each = each.min(many.saturating_sub(few) as f64 / (MANY - FEW) as f64);
            if each <= most {
                break;
            }
        }
        if each > most {
            found.push(format!(
                "{name}: {each:.3} allocations per event, at most {most} before"
            ));
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(found.join("; ").into())
    }
}

struct World {
    stack: Stack,
    redis: MultiplexedConnection,
    folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let stack = Stack::start(StackOptions::temporary().unwrap()).await.unwrap();
        let client = redis::Client::open(stack.redis_url().unwrap()).unwrap();
        // On a busy machine an answer may take long.
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let redis = client.get_multiplexed_async_connection_with_config(&patient);
        let redis = redis.await.unwrap();
        let world = Self {
            redis,
            stack,
            folder: tempfile::tempdir().unwrap(),
        };
        for arguments in [&["migrate"][..], &["projects", "add", "test", "--id", PROJECT]] {
            let mut command = world.program(&world.folder.path().join("ignored"), arguments);
            assert!(command.status().unwrap().success(), "{arguments:?}");
        }
        world
    }

    fn program(&self, count: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(arguments)
            .env_clear()
            .envs(self.stack.env())
            .env(COUNT, count)
            .env("HEARTBEAT_PATH", self.folder.path().join("heartbeat"))
            .env("PROCESSOR_CONSUMER_NAME", "counted")
            .env("LOG_LEVEL", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Has a worker drain so many events; how often it allocated from its start to its end.
    async fn allocations(&self, events: usize, writes: bool) -> u64 {
        self.fill(events, writes).await;
        let count = self.folder.path().join("count");
        let mut worker = Worker(self.program(&count, &["run"]).spawn().unwrap());
        let began = Instant::now();
        while !self.is_drained().await {
            assert!(began.elapsed() < PATIENCE, "not drained within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        kill(Pid::from_raw(worker.0.id() as i32), Signal::SIGTERM).unwrap();
        assert!(worker.0.wait().unwrap().success());
        std::fs::read_to_string(count).unwrap().parse().unwrap()
    }

    async fn fill(&self, events: usize, writes: bool) {
        let options = LoadOptions {
            projects: vec![PROJECT.parse().unwrap()],
            persons: PERSONS,
            known_share: 1.0,
            identify_share: 0.0,
            events: Some(events as u64),
            end_ms: jiff::Timestamp::now().as_millisecond(),
            ..LoadOptions::default()
        };
        let entries: Vec<_> = Load::new(options).collect();
        for (n, entries) in entries.chunks(1000).enumerate() {
            let mut pipeline = redis::pipe();
            for entry in entries {
                let command = pipeline.cmd("XADD").arg(STREAM).arg("*");
                for (name, value) in entry {
                    match *name {
                        "user_properties" if writes => command.arg(*name).arg(format!(r#"{{"last":{n}}}"#)),
                        "user_properties" => command.arg(*name).arg("{}"),
                        _ => command.arg(*name).arg(value.as_ref()),
                    };
                }
                command.ignore();
            }
            pipeline.query_async::<()>(&mut self.redis.clone()).await.unwrap();
        }
    }

    async fn is_drained(&self) -> bool {
        let mut groups = redis::cmd("XINFO");
        groups.arg("GROUPS").arg(STREAM);
        let groups = groups.query_async(&mut self.redis.clone()).await;
        let groups: StreamInfoGroupsReply = groups.unwrap_or_default();
        let group = groups.groups.first();
        group.is_some_and(|group| group.pending == 0 && group.lag == Some(0))
    }
}

/// Killed when the test ends before it.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _already_waited_for = self.0.wait();
    }
}
