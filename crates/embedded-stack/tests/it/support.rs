//! Talking to the services and looking at processes.

use std::path::Path;
use std::time::{Duration, Instant};

use embedded_stack::{DATABASE, PASSWORD, Service, ServiceKind, ServiceState, Stack, StackOptions, USER};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A stack with one service, gone with the test.
pub(crate) async fn only(kind: ServiceKind) -> Stack {
    Stack::start(StackOptions::temporary().unwrap().only(&[kind]))
        .await
        .unwrap()
}

pub(crate) async fn redis(url: &str) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url)
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap()
}

pub(crate) async fn append(url: &str, value: &str) {
    let mut connection = redis(url).await;
    let _id: String = redis::cmd("XADD")
        .arg("stream")
        .arg("*")
        .arg("field")
        .arg(value)
        .query_async(&mut connection)
        .await
        .unwrap();
}

pub(crate) async fn stream_length(url: &str) -> u64 {
    redis::cmd("XLEN")
        .arg("stream")
        .query_async(&mut redis(url).await)
        .await
        .unwrap()
}

pub(crate) async fn postgres(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs one statement in our database of the ClickHouse on `port`.
pub(crate) async fn clickhouse(port: u16, sql: &str) -> String {
    let request = format!(
        "POST /?database={DATABASE} HTTP/1.0\r\nX-ClickHouse-User: {USER}\r\nX-ClickHouse-Key: {PASSWORD}\r\n\
         Content-Length: {}\r\n\r\n{sql}",
        sql.len()
    );
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{answer}");
    body.trim().to_owned()
}

pub(crate) async fn pid(service: &Service) -> i32 {
    match service.state().await {
        ServiceState::Running(pid) => pid,
        ServiceState::Stopped => panic!("{} does not run", service.kind()),
    }
}

/// Whether a process runs; one that only waits to be reaped does not.
pub(crate) fn runs(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    // The first thread may have ended before the others.
    let has_others = of("Threads:").is_some_and(|threads| threads.trim().parse::<u32>().is_ok_and(|n| n > 1));
    of("State:").is_some_and(|state| !state.contains('Z') || has_others)
}

/// Every process that has `folder` as its working folder or among its arguments.
pub(crate) fn processes_of(folder: &Path) -> Vec<i32> {
    let folder = folder.to_str().unwrap();
    let concerns = |pid: &i32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let working = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        working.starts_with(folder) || String::from_utf8_lossy(&arguments).contains(folder)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id() as i32 && runs(*pid))
        .filter(concerns)
        .collect()
}

/// Waits for `condition`; fails loudly after ten seconds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not in ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
