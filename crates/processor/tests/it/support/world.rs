//! The stack of a test, and the processes that a test starts in it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use embedded_stack::{Stack, StackOptions};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tempfile::TempDir;
use uuid::Uuid;

use super::worker::peak_memory;
use super::{BIN, PROJECT, SOON, Worker};

/// Everything a test needs; gone with it.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) redis: ConnectionManager,
    folder: TempDir,
    pub(super) http: reqwest::Client,
}

impl World {
    /// Services, schema and one project.
    pub(crate) async fn start() -> Self {
        Self::start_with(|stack| stack).await
    }

    /// The same on another stack.
    pub(crate) async fn start_with(other: impl FnOnce(StackOptions) -> StackOptions) -> Self {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let options = other(StackOptions::temporary().unwrap());
        let stack = Stack::start(options).await.unwrap();
        let client = redis::Client::open(stack.redis_url().unwrap()).unwrap();
        // On a busy machine an answer may take long.
        let patient = ConnectionManagerConfig::new().set_response_timeout(Some(SOON));
        let redis = client.get_connection_manager_with_config(patient).await.unwrap();
        let http = reqwest::Client::new();
        let world = Self {
            stack,
            redis,
            folder: tempfile::tempdir().unwrap(),
            http,
        };
        let migrated = world.run(&["migrate"], &[]);
        assert!(migrated.0, "{}", migrated.1);
        world
            .pg(&format!(
                "INSERT INTO projects (id, name) VALUES ('{PROJECT}', 'test')"
            ))
            .await;
        world
    }

    pub(crate) fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        self.program(BIN, arguments, environment)
    }

    /// Another program, which is to start ours in surroundings of its own.
    pub(crate) fn program(&self, program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.stack.env())
            .env("HEARTBEAT_PATH", self.path("heartbeat"))
            .env("HEARTBEAT_INTERVAL_MS", "200")
            .env("PROCESSOR_FLUSH_INTERVAL_MS", "300")
            .env("PROCESSOR_CLAIM_INTERVAL_MS", "500")
            .env("PROCESSOR_CLAIM_IDLE_MS", "3000")
            .envs(environment.iter().copied());
        command
    }

    /// Runs a command to its end: whether it succeeded, and what it printed.
    pub(crate) fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
        let output = self.output(arguments, environment);
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.success(), text.concat())
    }

    /// Runs `check`: whether nothing is wrong, and a line for each finding, however long.
    pub(crate) fn check(&self, environment: &[(&str, &str)]) -> (bool, String) {
        let output = self.output(&["check", "--json"], environment);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Ok(findings) = serde_json::from_slice::<Vec<serde_json::Value>>(&output.stdout) else {
            return (
                output.status.success(),
                text(&output.stdout) + &text(&output.stderr),
            );
        };
        let of = |finding: &serde_json::Value, name: &str| finding[name].as_str().unwrap().to_owned();
        let lines = findings.iter().map(|finding| {
            let mark = of(finding, "state").replace("wrong", "WRONG");
            format!("{}  {mark}  {}\n", of(finding, "what"), of(finding, "detail"))
        });
        (
            output.status.success(),
            lines.collect::<String>() + &text(&output.stderr),
        )
    }

    /// Runs a command to its end: its exit code, and what it printed where.
    pub(crate) fn output(&self, arguments: &[&str], environment: &[(&str, &str)]) -> std::process::Output {
        self.command(arguments, environment).output().unwrap()
    }

    /// Like [`World::run`], with the peak of its memory in megabytes.
    pub(crate) fn measured(&self, arguments: &[&str]) -> (bool, u64, String) {
        let out = self.path(&format!("{}.out", Uuid::new_v4().simple()));
        let mut child = self
            .command(arguments, &[])
            .stdout(std::fs::File::create(&out).unwrap())
            .spawn()
            .unwrap();
        let mut peak = 0;
        loop {
            peak = peak.max(peak_memory(child.id()).unwrap_or(0));
            if let Some(status) = child.try_wait().unwrap() {
                return (
                    status.success(),
                    peak / 1024,
                    std::fs::read_to_string(&out).unwrap(),
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts a worker. Its log goes to a file that [`Worker::log`] reads.
    pub(crate) fn worker(&self, name: &str, environment: &[(&str, &str)]) -> Worker {
        self.worker_at(name, self.path(&format!("{name}.heartbeat")), environment)
    }

    /// Starts a worker by a command that says where its log goes.
    pub(crate) fn spawn(&self, name: &str, command: &mut Command) -> Worker {
        let heartbeat = self.path(&format!("{name}.heartbeat"));
        Self::spawn_at(name, heartbeat, command)
    }

    /// Starts a worker with the heartbeat file of another.
    pub(crate) fn worker_at(&self, name: &str, heartbeat: PathBuf, environment: &[(&str, &str)]) -> Worker {
        let log = self.path(&format!("{name}-{}.log", Uuid::new_v4().simple()));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = self.command(&["run"], environment);
        let mut worker = Self::spawn_at(name, heartbeat, command.stderr(file));
        worker.log = log;
        worker
    }

    fn spawn_at(name: &str, heartbeat: PathBuf, command: &mut Command) -> Worker {
        let child = command
            .env("PROCESSOR_CONSUMER_NAME", name)
            .env("HEARTBEAT_PATH", &heartbeat)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Worker {
            child,
            log: PathBuf::new(),
            heartbeat,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
