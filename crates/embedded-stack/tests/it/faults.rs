//! Standing still, dying, and owners that die.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use embedded_stack::{ServiceKind, ServiceState, StackError};

use crate::support::{append, eventually, only, pid, postgres, runs, stream_length};

#[tokio::test]
async fn a_paused_service_says_nothing_until_it_is_resumed() {
    let stack = only(ServiceKind::Redis).await;
    let service = stack.redis().unwrap();
    let url = service.url();
    append(&url, "before").await;
    service.pause().await.unwrap();
    let unanswered = tokio::time::timeout(Duration::from_millis(200), stream_length(&url)).await;
    assert!(unanswered.is_err());
    assert!(matches!(service.state().await, ServiceState::Running(_)));
    service.resume().await.unwrap();
    assert_eq!(stream_length(&url).await, 1);
}

#[tokio::test]
async fn pausing_postgres_pauses_open_connections_too() {
    let stack = only(ServiceKind::Postgres).await;
    let service = stack.postgres().unwrap();
    let client = postgres(&service.url()).await;
    service.pause().await.unwrap();
    let query = client.simple_query("SELECT 1");
    tokio::pin!(query);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), &mut query)
            .await
            .is_err()
    );
    service.resume().await.unwrap();
    query.await.unwrap();
}

#[tokio::test]
async fn a_paused_service_can_be_stopped() {
    for kind in [ServiceKind::Redis, ServiceKind::Postgres] {
        let stack = only(kind).await;
        let service = stack.service(kind).unwrap();
        let process = pid(service).await;
        service.pause().await.unwrap();
        // Far below the patience after which it would be killed.
        tokio::time::timeout(Duration::from_secs(10), service.stop())
            .await
            .unwrap()
            .unwrap();
        assert!(!runs(process));
        assert_eq!(service.state().await, ServiceState::Stopped);
    }
}

#[tokio::test]
async fn a_paused_service_is_gone_after_drop() {
    for kind in [ServiceKind::Redis, ServiceKind::Postgres] {
        let stack = only(kind).await;
        let process = pid(stack.service(kind).unwrap()).await;
        stack.service(kind).unwrap().pause().await.unwrap();
        drop(stack);
        assert!(!runs(process));
    }
}

#[tokio::test]
async fn stopping_twice_is_harmless_and_starting_twice_is_refused() {
    let stack = only(ServiceKind::Redis).await;
    let service = stack.redis().unwrap();
    assert!(matches!(
        service.start().await,
        Err(StackError::AlreadyRunning { .. })
    ));
    service.kill().await.unwrap();
    service.stop().await.unwrap();
    assert!(matches!(
        service.pause().await,
        Err(StackError::NotRunning(ServiceKind::Redis))
    ));
    service.start().await.unwrap();
}

#[tokio::test]
async fn a_service_that_died_by_itself_is_noticed_and_can_be_started_again() {
    let stack = only(ServiceKind::Redis).await;
    let service = stack.redis().unwrap();
    append(&service.url(), "kept").await;
    let process = nix::unistd::Pid::from_raw(pid(service).await);
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("the process is gone", || !runs(process.as_raw())).await;
    assert_eq!(service.state().await, ServiceState::Stopped);
    service.start().await.unwrap();
    assert_eq!(stream_length(&service.url()).await, 1);
}

#[tokio::test]
async fn services_end_when_their_owner_is_killed() {
    // `cat` neither ends nor prints while nothing is written to it.
    let mut owner = Command::new(env!("CARGO_BIN_EXE_embedded-stack"))
        .args([
            "with",
            "--only",
            "redis,postgres",
            "--",
            "sh",
            "-c",
            "echo ready; exec cat",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    let services = children(owner.id());
    assert!(services.len() >= 3, "two services and the command: {services:?}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    drop(owner.stdin.take());
    eventually("the services are gone", || !services.iter().copied().any(runs)).await;
}

/// Processes whose parent is `parent`.
fn children(parent: u32) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}"))
    };
    pids.filter(is_child).collect()
}
