//! Redis by a socket in the file system.

use crate::support::redis_servers::RedisServer;
use crate::support::{PROJECT, SOON, World, eventually};

#[tokio::test]
async fn a_worker_reads_by_a_socket_as_a_user_and_from_another_database() {
    let world = World::start().await;
    let arguments = ["--unixsocket", "redis.sock", "--requirepass", "se cret"];
    let server = RedisServer::start(&world.path(""), &arguments).await;
    let socket = server.path("redis.sock");
    let url = format!("unix://{}?db=3&pass=se+cret", socket.display());
    let environment = [("REDIS_URL", url.as_str())];
    let (fine, said) = world.check(&environment);
    assert!(fine && said.contains("redis.sock, database 3"), "{said}");
    let file = world.path("events.ndjson");
    let line = |n: u32| format!(r#"{{"project_id":"{PROJECT}","distinct_id":"d{n}","event_name":"test"}}"#);
    std::fs::write(&file, (0..40).map(|n| line(n) + "\n").collect::<String>()).unwrap();
    let (fine, said) = world.run(&["send", file.to_str().unwrap()], &environment);
    assert!(fine, "{said}");
    let _worker = world.worker("a", &environment);
    eventually("all have landed", SOON, async || {
        world.ch("SELECT count() FROM events").await == "40"
    })
    .await;

    let gone = format!("unix://{}.gone", socket.display());
    let (fine, said) = world.check(&[("REDIS_URL", &gone)]);
    assert!(
        !fine && said.contains("REDIS_URL") && said.contains("No such file"),
        "{said}"
    );
}
