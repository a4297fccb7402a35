//! A primary and a streaming standby in one URL: the worker follows the primary's part to the other server.

use std::process::Stdio;
use std::time::Duration;

use qurvo_processor::stores::Postgres;

use super::server::{Beside, folder_of, free_port};
use crate::support::{SOON, World, eventually};

/// A standby of the test's server, as close to it as can be: what the primary has committed is there.
struct Standby {
    port: u16,
    _server: Beside,
    folder: tempfile::TempDir,
}

impl Standby {
    async fn of(world: &World) -> Self {
        let cluster = world.cluster().await;
        let lines = "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n\
                     local all all scram-sha-256\n";
        std::fs::write(cluster.join("pg_hba.conf"), lines).unwrap();
        world.reload("SELECT 1").await;
        let folder = folder_of(&std::fs::metadata(&cluster).unwrap());
        let data = folder.path().join("data");
        let primary = world.stack.postgres().unwrap().url();
        let copied = world
            .as_server("pg_basebackup")
            .await
            .args([
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--wal-method=stream",
            ])
            .arg("--dbname")
            .arg(&primary)
            .arg("--pgdata")
            .arg(&data)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&copied.stderr).into_owned();
        assert!(copied.status.success(), "{said}");
        let port = free_port();
        let log = std::fs::File::create(world.path("standby.log")).unwrap();
        let mut command = world.as_server("postgres").await;
        command.arg("-D").arg(&data).stderr(log);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("unix_socket_directories={}", folder.path().display()),
            "max_connections=60",
            "shared_buffers=32MB",
            "fsync=off",
            &format!("port={port}"),
        ] {
            command.arg("-c").arg(setting);
        }
        let standby = Self {
            port,
            _server: Beside(command.spawn().unwrap()),
            folder,
        };
        eventually("the standby answers", SOON, async || {
            standby.asked("SELECT pg_is_in_recovery()").await.as_deref() == Some("t")
        })
        .await;
        // From now on nothing is committed that is not there too.
        world
            .reload("ALTER SYSTEM SET synchronous_standby_names = '*'")
            .await;
        eventually("it is waited for", SOON, async || {
            world.pg("SELECT sync_state FROM pg_stat_replication").await == ["sync"]
        })
        .await;
        standby
    }

    fn url(&self) -> String {
        format!(
            "postgresql://qurvo:qurvo_secret@127.0.0.1:{}/qurvo_analytics",
            self.port
        )
    }

    /// First column of the first row.
    async fn asked(&self, sql: &str) -> Option<String> {
        let connected = tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await;
        let (client, connection) = connected.ok()?;
        let driven = tokio::spawn(connection);
        let answer = client.simple_query(sql).await.ok();
        driven.abort();
        answer?.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }

    /// By the socket in its folder.
    fn socket_url(&self) -> String {
        format!(
            "postgresql:///qurvo_analytics?host={}&port={}&user=qurvo&password=qurvo_secret&sslmode=verify-full",
            self.folder.path().display(),
            self.port
        )
    }

    async fn promoted(&self) {
        assert_eq!(self.asked("SELECT pg_promote()").await.as_deref(), Some("t"));
    }

    /// Both servers; the one that takes writes is wanted.
    fn both(&self, world: &World) -> String {
        let primary = world.stack.postgres().unwrap().port();
        // The standby first: it is there, and it is not what we want.
        format!(
            "postgresql://qurvo:qurvo_secret@127.0.0.1:{},127.0.0.1:{primary}/qurvo_analytics\
             ?target_session_attrs=read-write",
            self.port
        )
    }
}

/// As many connections as the pool takes, all of them idle.
async fn fills_its_pool(postgres: &Postgres) {
    let mut held = Vec::new();
    for _ in 0..4 {
        let transaction = postgres.begin("holding").await.unwrap();
        transaction.start().await.unwrap();
        held.push(transaction);
    }
    for transaction in held {
        transaction.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_worker_follows_a_failover_and_every_event_lands_once() {
    const PERSONS: usize = 50;
    let world = World::start().await;
    let standby = Standby::of(&world).await;
    let url = standby.both(&world);
    let database = ("DATABASE_URL", url.as_str());
    let (is_well, told) = world.checked(&url);
    assert!(is_well && !told.contains("warning"), "{told}");
    let hosts = [": primary", &format!("127.0.0.1:{}: standby", standby.port)];
    assert!(hosts.iter().all(|host| told.contains(host)), "{told}");
    let (is_well, told) = world.checked(&standby.url());
    assert!(!is_well && told.contains("that of a standby"), "{told}");

    let mut worker = world.worker("w1", &[database, ("PROCESSOR_BATCH_SIZE", "200")]);
    let mut sent = world.load(2000, PERSONS).await;
    eventually("some have landed", SOON, async || {
        world.ch("SELECT count() FROM events").await != "0"
    })
    .await;
    // Under load: persons that nobody has seen, which PostgreSQL has to be asked for.
    let load = async {
        for _ in 0..10 {
            sent.extend(world.load(300, 300).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        sent
    };
    let failover = async {
        world.stack.postgres().unwrap().kill().await.unwrap();
        standby.promoted().await;
    };
    let (mut sent, ()) = tokio::join!(load, failover);
    sent.extend(world.load(1000, PERSONS).await);
    world.settled(Duration::from_mins(1)).await;
    assert!(worker.is_running(), "{}", worker.log());
    world.holds_exactly(&sent).await;
    let (agree, told) = world.run(&["person", "audit"], &[database]);
    assert!(agree, "{told}");
    let mapped = "SELECT count(*) FROM person_distinct_ids WHERE distinct_id LIKE 'anon-%'";
    assert_eq!(standby.asked(mapped).await.as_deref(), Some("300"));
}

#[tokio::test]
async fn connections_to_a_server_that_takes_no_writes_any_more_are_not_used_again() {
    let world = World::start().await;
    let standby = Standby::of(&world).await;
    let postgres = Postgres::new(&standby.both(&world).parse().unwrap()).unwrap();
    fills_its_pool(&postgres).await;
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'qurvo-processor'";
    assert_eq!(world.pg(ours).await, ["4"]);
    standby.promoted().await;
    world
        .reload("ALTER SYSTEM SET default_transaction_read_only = on")
        .await;

    let write = || postgres.execute_batch("writing", "UPDATE persons SET id = id WHERE false");
    eventually("the old primary takes no writes", SOON, async || {
        let refused = write().await;
        refused.is_err_and(|error| error.code == "25006")
    })
    .await;
    write().await.unwrap();
    let begun = postgres.begin("writing").await.unwrap();
    begun.start().await.unwrap();
    let port = begun.query("SELECT inet_server_port()", &[]).await.unwrap();
    assert_eq!(port[0].get::<_, i32>(0), i32::from(standby.port));
    begun.commit().await.unwrap();
}

#[tokio::test]
async fn a_primary_that_stands_still_costs_one_statement_and_not_one_for_each_connection() {
    let world = World::start().await;
    let standby = Standby::of(&world).await;
    let primary = world.stack.postgres().unwrap();
    let both = format!(
        "postgresql://qurvo:qurvo_secret@127.0.0.1:{},127.0.0.1:{}/qurvo_analytics?target_session_attrs=read-write",
        primary.port(),
        standby.port
    );
    let postgres = Postgres::new(&both.parse().unwrap()).unwrap();
    fills_its_pool(&postgres).await;
    primary.pause().await.unwrap();
    standby.promoted().await;
    let patience = Duration::from_secs(2);
    let write =
        || postgres.execute_batch_within(patience, "writing", "UPDATE persons SET id = id WHERE false");
    assert!(write().await.unwrap_err().message.contains("no answer"));
    write().await.unwrap();
    primary.resume().await.unwrap();
}

#[tokio::test]
async fn a_socket_is_reached_without_tls_whatever_the_mode() {
    let world = World::start().await;
    let standby = Standby::of(&world).await;
    let (is_well, told) = world.checked(&standby.socket_url());
    assert!(!is_well && told.contains("that of a standby"), "{told}");
    standby.promoted().await;
    let (is_well, told) = world.checked(&standby.socket_url());
    assert!(
        is_well && told.contains("not encrypted") && !told.contains("warning"),
        "{told}"
    );
}

#[tokio::test]
async fn two_servers_that_both_take_writes_are_a_warning_though_one_was_copied_from_the_other() {
    let world = World::start().await;
    let standby = Standby::of(&world).await;
    standby.promoted().await;
    eventually("both take writes", SOON, async || {
        standby.asked("SELECT pg_is_in_recovery()").await.as_deref() == Some("f")
    })
    .await;
    let (is_well, told) = world.checked(&standby.both(&world));
    assert!(
        is_well && told.contains("warning") && told.contains("more than one takes writes"),
        "{told}"
    );
}
