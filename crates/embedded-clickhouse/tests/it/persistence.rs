//! What is acknowledged stays, however the process ends.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

use crate::support::Server;

async fn fill(server: &Server) {
    server
        .ask("CREATE TABLE kept (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    for start in [0, 1000, 2000] {
        server
            .ask(&format!(
                "INSERT INTO kept SELECT number + {start} FROM numbers(1000)"
            ))
            .await;
    }
}

async fn holds_all(server: &Server) {
    assert_eq!(
        server.ask("SELECT count(), uniqExact(a), max(a) FROM kept").await,
        "3000\t3000\t2999"
    );
}

#[tokio::test]
async fn everything_is_there_after_sigterm_and_it_exits_0() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    fill(&server).await;
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended(), ExitStatus::default());
    holds_all(&Server::start(data.path())).await;
}

#[tokio::test]
async fn everything_is_there_after_kill_9() {
    let data = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let mut server = Server::start(data.path());
        if round == 0 {
            fill(&server).await;
        } else {
            holds_all(&server).await;
        }
        server.signal(Signal::SIGKILL);
        assert_eq!(server.ended().signal(), Some(9));
    }
    holds_all(&Server::start(data.path())).await;
}

#[tokio::test]
async fn a_running_request_is_answered_before_sigterm_ends_the_process() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    let slow = server.post(&[]).body("SELECT sleep(2)").send();
    let slow = tokio::spawn(slow);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    server.signal(Signal::SIGTERM);
    let response = slow.await.unwrap().unwrap();
    assert_eq!(response.text().await.unwrap(), "0\n");
    assert_eq!(server.ended(), ExitStatus::default());
}

#[tokio::test]
async fn a_folder_in_use_is_refused_and_left_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    fill(&server).await;
    let (status, text) = Server::second(data.path());
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(
        text.contains("in use") || text.contains("another process"),
        "{text}"
    );
    holds_all(&server).await;
}
