//! A private stack with our schema, workers as processes, and waiting for what must come true.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use embedded_stack::{Service, Stack, StackOptions};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use uuid::Uuid;

pub(crate) const BIN: &str = env!("CARGO_BIN_EXE_qurvo-processor");
pub(crate) const PROJECT: &str = "11111111-1111-1111-1111-111111111111";
pub(crate) const GROUP: &str = "processor-group";
pub(crate) const STREAM: &str = "events:incoming";

/// Everything a test needs; gone with it.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) redis: ConnectionManager,
    folder: TempDir,
    http: reqwest::Client,
}

impl World {
    /// Services, schema and one project.
    pub(crate) async fn start() -> Self {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let stack = Stack::start(StackOptions::temporary().unwrap()).await.unwrap();
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

    /// Removes what Redis remembers of persons.
    pub(crate) async fn forget_person_keys(&self) {
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("person:*")
            .query_async(&mut self.redis.clone())
            .await
            .unwrap();
        for keys in keys.chunks(1000) {
            let _: () = redis::cmd("DEL")
                .arg(keys)
                .query_async(&mut self.redis.clone())
                .await
                .unwrap();
        }
    }

    /// Starts a worker. Its log goes to a file that [`Worker::log`] reads.
    pub(crate) fn worker(&self, name: &str, environment: &[(&str, &str)]) -> Worker {
        let log = self.path(&format!("{name}-{}.log", Uuid::new_v4().simple()));
        let file = std::fs::File::create(&log).unwrap();
        let mut worker = self.spawn(name, self.command(&["run"], environment).stderr(file));
        worker.log = log;
        worker
    }

    /// Starts a worker by a command that says where its log goes.
    pub(crate) fn spawn(&self, name: &str, command: &mut Command) -> Worker {
        let heartbeat = self.path(&format!("{name}.heartbeat"));
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

    /// Appends one entry; an event id is added unless given.
    pub(crate) async fn add(&self, fields: &[(&str, &str)]) -> String {
        let mut command = redis::cmd("XADD");
        command.arg(STREAM).arg("*");
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        command.query_async(&mut self.redis.clone()).await.unwrap()
    }

    /// Appends a plain event of a distinct id and returns its event id.
    pub(crate) async fn event(&self, distinct_id: &str, more: &[(&str, &str)]) -> Uuid {
        let event_id = Uuid::new_v4();
        let text = event_id.to_string();
        let mut fields = vec![
            ("event_id", text.as_str()),
            ("project_id", PROJECT),
            ("distinct_id", distinct_id),
        ];
        if !more.iter().any(|(name, _)| *name == "event_name") {
            fields.push(("event_name", "test"));
        }
        fields.extend_from_slice(more);
        self.add(&fields).await;
        event_id
    }

    pub(crate) async fn identify(&self, user: &str, anonymous: &str) -> Uuid {
        let fields = [
            ("event_name", "$identify"),
            ("event_type", "identify"),
            ("anonymous_id", anonymous),
            ("user_id", user),
        ];
        self.event(user, &fields).await
    }

    /// Appends many plain events, pipelined; some of them identify. Returns their event ids.
    pub(crate) async fn load(&self, count: usize, persons: usize) -> BTreeSet<Uuid> {
        let mut ids = BTreeSet::new();
        let mut pipeline = redis::pipe();
        for n in 0..count {
            let event_id = Uuid::new_v4();
            ids.insert(event_id);
            let person = n % persons;
            let command = pipeline.cmd("XADD").arg(STREAM).arg("*");
            command
                .arg("event_id")
                .arg(event_id.to_string())
                .arg("project_id")
                .arg(PROJECT);
            if n % 37 == 36 {
                command
                    .arg("event_name")
                    .arg("$identify")
                    .arg("distinct_id")
                    .arg(format!("user-{person}"));
                command.arg("anonymous_id").arg(format!("anon-{person}"));
            } else {
                command
                    .arg("event_name")
                    .arg(format!("name {}", n % 7))
                    .arg("distinct_id");
                command
                    .arg(format!("anon-{person}"))
                    .arg("properties")
                    .arg(format!(r#"{{"n":{n}}}"#));
                if n % 11 == 0 {
                    command.arg("user_properties").arg(format!(r#"{{"last":{n}}}"#));
                }
            }
            command.ignore();
            if n % 1000 == 999 {
                pipeline.query_async::<()>(&mut self.redis.clone()).await.unwrap();
                pipeline.clear();
            }
        }
        if !count.is_multiple_of(1000) {
            pipeline.query_async::<()>(&mut self.redis.clone()).await.unwrap();
        }
        ids
    }

    /// Entries that the group has not read yet, or not acknowledged yet.
    pub(crate) async fn unsettled(&self) -> Option<u64> {
        let groups: redis::streams::StreamInfoGroupsReply = redis::cmd("XINFO")
            .arg("GROUPS")
            .arg(STREAM)
            .query_async(&mut self.redis.clone())
            .await
            .ok()?;
        let group = groups.groups.into_iter().find(|group| group.name == GROUP)?;
        let last: redis::streams::StreamInfoStreamReply = redis::cmd("XINFO")
            .arg("STREAM")
            .arg(STREAM)
            .query_async(&mut self.redis.clone())
            .await
            .ok()?;
        let unread = u64::from(group.last_delivered_id != last.last_generated_id);
        Some(unread + group.pending as u64)
    }

    /// Waits until every entry is settled and every dead letter replayed.
    pub(crate) async fn settled(&self, limit: Duration) {
        eventually(
            "every entry is acknowledged and no dead letter left",
            limit,
            async || self.unsettled().await == Some(0) && self.length("events:dlq").await == Some(0),
        )
        .await;
    }

    /// Makes what a consumer is given by a test a dead process's: without a note it would count as living.
    pub(crate) async fn is_dead(&self, consumer: &str) {
        let (key, note) = (format!("processor:consumer:{consumer}"), "dead -");
        let mut set = redis::cmd("SET");
        let set = set.arg(key).arg(note);
        set.query_async::<()>(&mut self.redis.clone()).await.unwrap();
    }

    /// Entries of a stream.
    pub(crate) async fn length(&self, stream: &str) -> Option<u64> {
        let mut redis = self.redis.clone();
        redis::cmd("XLEN").arg(stream).query_async(&mut redis).await.ok()
    }

    /// ClickHouse's answer, tab-separated.
    pub(crate) async fn ch(&self, sql: &str) -> String {
        let request = self
            .http
            .post(format!(
                "{}/?database=qurvo_analytics",
                self.stack.clickhouse_url().unwrap()
            ))
            .header("X-ClickHouse-User", "qurvo")
            .header("X-ClickHouse-Key", "qurvo_secret")
            .body(sql.to_owned());
        let response = request.send().await.unwrap();
        let ok = response.status().is_success();
        let text = response.text().await.unwrap();
        assert!(ok, "{sql}: {text}");
        text.trim_end().to_owned()
    }

    /// A connection to PostgreSQL, for as long as the client is kept.
    pub(crate) async fn pg_client(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.stack.database_url().unwrap(), NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    /// PostgreSQL's answer: first column of each row as text.
    pub(crate) async fn pg(&self, sql: &str) -> Vec<String> {
        let client = self.pg_client().await;
        let messages = client
            .simple_query(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
            _ => None,
        });
        rows.collect()
    }

    /// The person of a distinct id as PostgreSQL, Redis and ClickHouse's rows with overrides name it; `None` where the
    /// store knows nothing.
    pub(crate) async fn persons_of(&self, distinct_id: &str) -> [Option<Uuid>; 3] {
        let quoted = distinct_id.replace('\'', "''");
        let in_pg = self
            .pg(&format!(
                "SELECT person_id FROM person_distinct_ids WHERE distinct_id = '{quoted}'"
            ))
            .await
            .first()
            .and_then(|text| text.parse().ok());
        let in_redis: Option<String> = redis::cmd("GET")
            .arg(format!("person:{PROJECT}:{distinct_id}"))
            .query_async(&mut self.redis.clone())
            .await
            .unwrap();
        let escaped = distinct_id.replace('\\', "\\\\").replace('\'', "\\'");
        let in_ch = self
            .ch(&format!(
                "SELECT DISTINCT if(o.person_id = toUUID('00000000-0000-0000-0000-000000000000'), e.person_id, o.person_id)
                 FROM events e LEFT JOIN (
                     SELECT distinct_id, argMax(person_id, version) AS person_id
                     FROM person_distinct_id_overrides GROUP BY distinct_id) o USING (distinct_id)
                 WHERE distinct_id = '{escaped}'"
            ))
            .await;
        assert!(
            in_ch.lines().count() <= 1,
            "{distinct_id} is several persons in ClickHouse: {in_ch}"
        );
        [
            in_pg,
            in_redis.and_then(|text| text.parse().ok()),
            in_ch.parse().ok(),
        ]
    }

    /// Checks that exactly these events are there, each once, without `FINAL`.
    pub(crate) async fn holds_exactly(&self, sent: &BTreeSet<Uuid>) {
        let counts = self.ch("SELECT count(), uniqExact(event_id) FROM events").await;
        let stored: BTreeSet<Uuid> = self
            .ch("SELECT event_id FROM events")
            .await
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        let missing = sent.difference(&stored).count();
        assert_eq!(missing, 0, "{missing} of {} events are missing", sent.len());
        assert_eq!(
            counts,
            format!("{0}\t{0}", sent.len()),
            "rows and distinct event ids"
        );
    }
}

/// A worker process; killed when dropped.
pub(crate) struct Worker {
    child: Child,
    log: PathBuf,
    heartbeat: PathBuf,
}

impl Worker {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether the heartbeat was written: the process lives.
    pub(crate) fn lives(&self) -> bool {
        self.heartbeat.exists()
    }

    /// Whether everything has begun.
    pub(crate) fn is_beating(&self) -> bool {
        self.lives() && self.log().contains("every store has answered")
    }

    pub(crate) fn terminate(&self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the worker still runs:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Processor time used so far, its own and the system's for it.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        let ticks = |field: usize| -> u64 {
            after_name
                .split_whitespace()
                .nth(field - 3)
                .unwrap()
                .parse()
                .unwrap()
        };
        Duration::from_millis((ticks(14) + ticks(15)) * 10)
    }

    /// Resident memory, peak, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        peak_memory(self.pid()).unwrap() * 1024
    }
}

impl Drop for Worker {
    #[allow(clippy::print_stderr, reason = "what a failed test is explained by")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "the worker's last lines:\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
        let _already_ended = self.child.kill();
        let _already_waited_for = self.child.wait();
    }
}

/// Peak of a process's resident memory in KiB; nothing when it has ended.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Waits for a condition; fails loudly at the limit.
pub(crate) async fn eventually(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited {limit:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Stops a service for a while and starts it again.
pub(crate) async fn stop_for(service: &Service, time: Duration) {
    service.stop().await.unwrap();
    tokio::time::sleep(time).await;
    service.start().await.unwrap();
}

pub(crate) const SOON: Duration = Duration::from_secs(30);
