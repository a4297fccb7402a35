//! Certificates that a server or a client is refused for, and those that are renewed while a worker runs.

use crate::support::certificates::{Authority, Certified};
use crate::support::{SOON, World, eventually};

const TLS: &str = "hostssl all app 127.0.0.1/32 scram-sha-256";
const CERTIFIED: &str = "hostssl all app 127.0.0.1/32 cert";

fn trusting(authority: &Authority) -> String {
    format!("sslmode=verify-full&sslrootcert={}", authority.file.display())
}

fn with(parameters: &str, client: &Certified) -> String {
    format!(
        "{parameters}&sslcert={}&sslkey={}",
        client.certificate.display(),
        client.key.display()
    )
}

async fn served(names: &[&str]) -> (World, Authority, Authority) {
    let world = World::start().await;
    world.has_app().await;
    let (ours, theirs) = (
        Authority::new(&world.path(""), "ours"),
        Authority::new(&world.path(""), "theirs"),
    );
    world.shows(&ours.server(names), &ours).await;
    (world, ours, theirs)
}

#[tokio::test]
async fn a_servers_certificate_that_is_refused_is_told_with_what_to_do() {
    let (world, ours, theirs) = served(&["db.example"]).await;
    world.lets_in(TLS).await;
    let says = |parameters: &str, texts: &[&str]| {
        let (is_well, told) = world.checked(&world.app_url("127.0.0.1", parameters));
        assert!(!is_well, "{told}");
        for text in texts {
            assert!(told.contains(text), "{parameters}: {text}: {told}");
        }
    };
    says(
        &trusting(&ours),
        &["DATABASE_URL", "not valid for name", "127.0.0.1"],
    );
    says(&trusting(&theirs), &["sslrootcert", "DATABASE_URL"]);
    // A name that leads here, but is not the certificate's.
    let (is_well, told) = world.checked(&world.app_url("localhost", &trusting(&ours)));
    assert!(!is_well && told.contains("db.example"), "{told}");
    // The name that it is for, at an address that is given beside it.
    let addressed = format!("{}&hostaddr=127.0.0.1", trusting(&ours));
    let (is_well, told) = world.checked(&world.app_url("db.example", &addressed));
    assert!(is_well && told.contains("name are verified"), "{told}");

    world.shows(&ours.expired(&["127.0.0.1"]), &ours).await;
    says(&trusting(&ours), &["certificate expired", "renew"]);
}

#[tokio::test]
async fn a_client_without_the_right_certificate_is_told_which_parameters_to_set() {
    let (world, ours, theirs) = served(&["127.0.0.1"]).await;
    world.lets_in(CERTIFIED).await;
    let parameters = trusting(&ours);
    for (given, told_is) in [
        (
            parameters.clone(),
            "set sslcert and sslkey in DATABASE_URL to a certificate for this user",
        ),
        (
            with(&parameters, &theirs.client("app")),
            "does not accept the client",
        ),
        (
            with(&parameters, &ours.client("other")),
            "common name is the user's",
        ),
    ] {
        let (is_well, told) = world.checked(&world.app_url("127.0.0.1", &given));
        assert!(!is_well && told.contains(told_is), "{told_is}: {told}");
    }
    let right = with(&parameters, &ours.client("app"));
    let (is_well, told) = world.checked(&world.app_url("127.0.0.1", &right));
    assert!(is_well && told.contains("name are verified"), "{told}");
}

#[tokio::test]
async fn a_worker_says_what_to_set_and_begins_once_the_server_can_be_trusted() {
    let (world, ours, theirs) = served(&["127.0.0.1"]).await;
    world.lets_in(TLS).await;
    let url = world.app_url("127.0.0.1", &trusting(&ours));
    world.shows(&theirs.server(&["127.0.0.1"]), &theirs).await;
    let mut worker = world.worker("w1", &[("DATABASE_URL", &url)]);
    eventually("it says what to do", SOON, async || {
        worker
            .log()
            .lines()
            .any(|line| line.contains("an operator has to act") && line.contains("sslrootcert"))
    })
    .await;
    assert!(worker.is_running() && !worker.is_beating(), "{}", worker.log());
    world.shows(&ours.server(&["127.0.0.1"]), &ours).await;
    eventually("it serves", SOON, async || worker.is_beating()).await;
    assert!(!worker.log().contains("p@ss"), "{}", worker.log());
}

#[tokio::test]
async fn certificates_are_renewed_while_a_worker_runs() {
    let (world, ours, theirs) = served(&["127.0.0.1"]).await;
    world.lets_in(CERTIFIED).await;
    let client = ours.client("app");
    let url = world.app_url("127.0.0.1", &with(&trusting(&ours), &client));
    let worker = world.worker("w1", &[("DATABASE_URL", &url)]);
    let mut sent = world.load(500, 10).await;
    world.settled(SOON).await;

    // Another authority signs both sides now, and the worker has to connect anew.
    world.shows(&theirs.server(&["127.0.0.1"]), &theirs).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
    world.pg(end).await;
    sent.extend(world.load(500, 200).await);
    eventually("the server is refused", SOON, async || {
        worker.log().contains("UnknownIssuer")
    })
    .await;
    let renewed = theirs.client("app");
    for (from, to) in [
        (&theirs.file, &ours.file),
        (&renewed.certificate, &client.certificate),
        (&renewed.key, &client.key),
    ] {
        // As it is done where files are mounted: the name leads to another file at once.
        let beside = to.with_extension("new");
        std::fs::copy(from, &beside).unwrap();
        std::fs::rename(&beside, to).unwrap();
    }
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}
