//! Several servers in one URL: those that are gone, silent, or take no writes do not keep us from the one that is there.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use qurvo_processor::stores::Postgres;
use tokio::net::{TcpSocket, TcpStream};

use super::server::free_port;
use crate::support::certificates::Authority;
use crate::support::{SOON, World, eventually};

fn url(world: &World, ports: &[u16], parameters: &str) -> String {
    let own = world.stack.postgres().unwrap().port();
    let servers: Vec<String> = ports
        .iter()
        .chain([&own])
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let servers = servers.join(",");
    format!("postgresql://qurvo:qurvo_secret@{servers}/qurvo_analytics?{parameters}")
}

/// A port at which nobody answers the first packet: the queue of those who wait to be taken is full.
async fn black_hole() -> (u16, tokio::net::TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        waiting.push(connected.unwrap());
    }
    (address.port(), listener, waiting)
}

#[tokio::test]
async fn a_server_that_is_gone_or_silent_does_not_keep_us_from_the_next() {
    let world = World::start().await;
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().unwrap().port();
    let (hole, _listener, _waiting) = black_hole().await;
    for ports in [
        vec![free_port()],
        vec![mute],
        vec![hole],
        vec![free_port(), hole, free_port()],
    ] {
        let (is_well, told) = world.checked(&url(&world, &ports, "target_session_attrs=read-write"));
        assert!(is_well, "{ports:?}: {told}");
    }
    // More than it takes unless it is said.
    let postgres = Postgres::new(&url(&world, &[hole], "connect_timeout=6").parse().unwrap()).unwrap();
    let began = Instant::now();
    postgres.query("asking", "SELECT 1", &[]).await.unwrap();
    assert!(began.elapsed() > Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_server_that_was_reached_last_is_tried_first_and_a_try_that_is_given_up_is_gone_on_with() {
    let world = World::start().await;
    let (hole, _listener, _waiting) = black_hole().await;
    let postgres = Postgres::new(
        &url(
            &world,
            &[hole],
            "target_session_attrs=read-write&connect_timeout=12",
        )
        .parse()
        .unwrap(),
    )
    .unwrap();
    let asked = async |patience: Duration| {
        let asking = postgres.query("asking", "SELECT 1", &[]);
        matches!(tokio::time::timeout(patience, asking).await, Ok(Ok(_)))
    };
    // The first server takes twelve seconds.
    let patience = Duration::from_secs(8);
    assert!(!asked(Duration::from_millis(500)).await);
    assert!(asked(patience).await);
    let end = "SELECT pg_terminate_backend(pg_backend_pid())";
    assert!(postgres.execute_batch("ending", end).await.is_err());
    assert!(asked(patience).await);
}

#[tokio::test]
async fn servers_that_all_fail_are_each_told() {
    let world = World::start().await;
    let (one, other) = (free_port(), free_port());
    let away = format!("postgresql://u:hunter2@127.0.0.1:{one},127.0.0.1:{other}/db");
    let (is_well, told) = world.checked(&away);
    let texts = [
        format!("127.0.0.1:{one}: error connecting"),
        format!("127.0.0.1:{other}: error connecting"),
    ];
    assert!(!is_well && texts.iter().all(|text| told.contains(text)), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    // One that refuses us is what an operator can do something about.
    let own = world.stack.postgres().unwrap().port();
    let refused = format!("postgresql://qurvo:hunter2@127.0.0.1:{one},127.0.0.1:{own}/db");
    let (_, told) = world.checked(&refused);
    assert!(told.contains("set user and password in DATABASE_URL"), "{told}");
}

#[tokio::test]
async fn any_of_several_is_a_warning() {
    let world = World::start().await;
    let (is_well, told) = world.checked(&url(&world, &[free_port()], ""));
    assert!(
        is_well && told.contains("warning") && told.contains("add target_session_attrs=read-write"),
        "{told}"
    );
    let (is_well, told) = world.checked(&url(&world, &[free_port()], "target_session_attrs=primary"));
    assert!(is_well && !told.contains("target_session_attrs"), "{told}");
    let (one, own) = (
        told.matches(": not reached (").count(),
        told.matches(": primary").count(),
    );
    assert_eq!((one, own), (1, 1), "{told}");
}

#[tokio::test]
async fn a_database_is_made_where_the_url_says_and_by_tls_as_it_says() {
    let world = World::start().await;
    world.has_app().await;
    let authority = Authority::new(&world.path(""), "authority");
    world.shows(&authority.server(&["127.0.0.1"]), &authority).await;
    world.lets_in("hostssl all app 127.0.0.1/32 scram-sha-256").await;
    let parameters = format!("sslmode=verify-full&sslrootcert={}", authority.file.display());
    let url = world.app_url(&format!("127.0.0.1:{},127.0.0.1", free_port()), &parameters);
    let url = url.replace("/qurvo_analytics?", "/brand%20new?");
    let (done, told) = world.run(&["migrate"], &[("DATABASE_URL", &url)]);
    assert!(done, "{told}");
    let names = "SELECT datname FROM pg_database WHERE datname = 'brand new'";
    assert_eq!(world.pg(names).await, ["brand new"]);
}

#[tokio::test]
async fn a_statement_is_cancelled_by_tls_at_the_server_that_its_connection_leads_to() {
    let world = World::start().await;
    world.has_app().await;
    let authority = Authority::new(&world.path(""), "authority");
    world.shows(&authority.server(&["127.0.0.1"]), &authority).await;
    // The first server of the URL is another: the request has to go where the statement is.
    let parameters = format!("sslmode=verify-full&sslrootcert={}", authority.file.display());
    let url = world.app_url(&format!("127.0.0.1:{},127.0.0.1", free_port()), &parameters);
    let postgres = Postgres::new(&url.parse().unwrap()).unwrap();
    world.lets_in("hostssl all app 127.0.0.1/32 scram-sha-256").await;
    let limit = Duration::from_millis(500);
    let slept = postgres.execute_batch_within(limit, "sleeping", "SELECT pg_sleep(60)");
    slept.await.unwrap_err();
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'";
    eventually("nothing sleeps", SOON, async || world.pg(asleep).await == ["0"]).await;
}

#[tokio::test]
async fn two_names_of_one_server_are_not_two_primaries() {
    let world = World::start().await;
    let port = world.stack.postgres().unwrap().port();
    let named = |user: &str| {
        format!(
            "postgresql://{user}@127.0.0.1:{port},localhost:{port}/qurvo_analytics?target_session_attrs=read-write"
        )
    };
    let same = format!("127.0.0.1:{port}: primary; localhost:{port}: the same server as 127.0.0.1:{port}");
    let (is_well, told) = world.checked(&named("qurvo:qurvo_secret"));
    assert!(
        is_well && !told.contains("warning") && told.contains(&same),
        "{told}"
    );
    // Neither does it take rights.
    world
        .pg("CREATE USER least PASSWORD 'least'; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        .await;
    let (_, told) = world.checked(&named("least:least"));
    assert!(told.contains(&same), "{told}");
}
