//! Starting, restarting on the same data, ports, and what is left afterwards.

use std::collections::HashSet;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use embedded_stack::{ServiceKind, Stack, StackError, StackOptions};

use crate::support::{append, clickhouse, only, pid, postgres, processes_of, runs, stream_length};

#[tokio::test]
async fn all_three_services_answer_and_are_gone_after_drop() {
    let stack = Stack::start(StackOptions::temporary().unwrap()).await.unwrap();
    append(&stack.redis_url().unwrap(), "one").await;
    postgres(&stack.database_url().unwrap())
        .await
        .simple_query("SELECT 1")
        .await
        .unwrap();
    assert_eq!(
        clickhouse(stack.clickhouse().unwrap().port(), "SELECT 1 + 1").await,
        "2"
    );

    let names: Vec<String> = stack.env().into_iter().map(|(name, _)| name).collect();
    let expected = [
        "REDIS_URL",
        "DATABASE_URL",
        "CLICKHOUSE_URL",
        "CLICKHOUSE_DB",
        "CLICKHOUSE_USER",
        "CLICKHOUSE_PASSWORD",
    ];
    assert_eq!(names, expected);

    let mut pids = HashSet::new();
    for kind in ServiceKind::ALL {
        pids.insert(pid(stack.service(kind).unwrap()).await);
    }
    assert_eq!(pids.len(), 3);
    drop(stack);
    assert!(!pids.into_iter().any(runs));
}

#[tokio::test]
async fn stream_entries_survive_a_restart_and_a_kill() {
    let stack = only(ServiceKind::Redis).await;
    let service = stack.redis().unwrap();
    append(&service.url(), "before the stop").await;
    service.stop().await.unwrap();
    service.start().await.unwrap();
    append(&service.url(), "before the kill").await;
    service.kill().await.unwrap();
    service.start().await.unwrap();
    assert_eq!(stream_length(&service.url()).await, 2);
}

#[tokio::test]
async fn committed_rows_survive_a_restart_and_a_kill() {
    let stack = only(ServiceKind::Postgres).await;
    let service = stack.postgres().unwrap();
    let insert = "CREATE TABLE IF NOT EXISTS kept (id int); INSERT INTO kept VALUES (1)";
    postgres(&service.url())
        .await
        .batch_execute(insert)
        .await
        .unwrap();
    service.stop().await.unwrap();
    service.start().await.unwrap();
    postgres(&service.url())
        .await
        .batch_execute(insert)
        .await
        .unwrap();
    service.kill().await.unwrap();
    service.start().await.unwrap();
    let row = postgres(&service.url())
        .await
        .query_one("SELECT count(*) FROM kept", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
}

#[tokio::test]
async fn inserted_events_survive_a_restart_and_a_kill() {
    let stack = only(ServiceKind::ClickHouse).await;
    let service = stack.clickhouse().unwrap();
    clickhouse(
        service.port(),
        "CREATE TABLE kept (id UInt8) ENGINE = MergeTree ORDER BY id",
    )
    .await;
    clickhouse(service.port(), "INSERT INTO kept VALUES (1)").await;
    service.stop().await.unwrap();
    service.start().await.unwrap();
    clickhouse(service.port(), "INSERT INTO kept VALUES (2)").await;
    service.kill().await.unwrap();
    service.start().await.unwrap();
    assert_eq!(clickhouse(service.port(), "SELECT count() FROM kept").await, "2");
}

#[tokio::test]
async fn a_port_is_kept_until_somebody_else_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = || {
        StackOptions::new(folder.path())
            .durable(false)
            .only(&[ServiceKind::Redis])
    };
    let port = async |stack: &Stack| stack.redis().unwrap().port();

    let first = Stack::start(options()).await.unwrap();
    let before = port(&first).await;
    append(&first.redis_url().unwrap(), "kept").await;
    drop(first);
    let second = Stack::start(options()).await.unwrap();
    assert_eq!(port(&second).await, before);
    drop(second);

    let _taken = TcpListener::bind(("127.0.0.1", before)).unwrap();
    let third = Stack::start(options()).await.unwrap();
    assert_ne!(port(&third).await, before);
    assert_eq!(stream_length(&third.redis_url().unwrap()).await, 1);
}

#[tokio::test]
async fn postgres_does_not_run_as_root() {
    let stack = only(ServiceKind::Postgres).await;
    let pid = pid(stack.postgres().unwrap()).await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let users = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert!(users.split_whitespace().skip(1).all(|uid| uid != "0"), "{users}");
}

/// Root's home is such a folder: PostgreSQL's account cannot come to a checkout in it.
#[tokio::test]
async fn a_cluster_below_a_folder_that_lets_nobody_pass_works_and_is_removed() {
    let private = tempfile::tempdir().unwrap();
    std::fs::set_permissions(private.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let data = private.path().join("data");
    let options = StackOptions::new(&data)
        .durable(false)
        .only(&[ServiceKind::Postgres]);
    let stack = Stack::start(options).await.unwrap();
    let client = postgres(&stack.database_url().unwrap()).await;
    let row = client
        .query_one("SELECT current_setting('data_directory')", &[])
        .await
        .unwrap();
    let cluster = PathBuf::from(row.get::<_, String>(0));
    assert!(cluster.is_dir());
    drop((client, stack));
    Stack::remove(&data).await.unwrap();
    assert!(!cluster.exists() && !data.exists());
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let stack = only(ServiceKind::Postgres).await;
    let url = stack
        .database_url()
        .unwrap()
        .replace(embedded_stack::PASSWORD, "guess");
    let refused = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .err()
        .unwrap();
    assert_eq!(
        refused.code(),
        Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD)
    );
}

#[tokio::test]
async fn a_service_that_is_not_asked_for_is_not_started() {
    let stack = only(ServiceKind::Redis).await;
    assert!(matches!(
        stack.postgres(),
        Err(StackError::NotOurs(ServiceKind::Postgres))
    ));
    assert!(matches!(
        stack.clickhouse_url(),
        Err(StackError::NotOurs(ServiceKind::ClickHouse))
    ));
}

#[tokio::test]
async fn a_service_that_cannot_start_is_reported_with_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let redis = folder.path().join("redis/appendonlydir");
    std::fs::create_dir_all(&redis).unwrap();
    std::fs::write(redis.join("appendonly.aof.manifest"), "nonsense\n").unwrap();
    let options = StackOptions::new(folder.path()).only(&[ServiceKind::Redis]);
    let error = Stack::start(options).await.unwrap_err();
    assert!(matches!(
        error,
        StackError::Ended {
            service: ServiceKind::Redis,
            ..
        }
    ));
    assert!(error.to_string().contains("AOF manifest"), "{error}");
    assert_eq!(processes_of(folder.path()), [0; 0]);
}
