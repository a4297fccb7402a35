//! ClickHouse behind TLS.

use std::path::Path;

use crate::support::certificates::Authority;
use crate::support::tls_proxy::TlsProxy;
use crate::support::{SOON, World, eventually};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_queries_and_inserts_through_tls_with_a_private_authority_and_a_client_certificate() {
    let world = World::start().await;
    let server = world.stack.clickhouse_url().unwrap().replace("http://", "");
    let authority = Authority::new(&world.path(""), "authority");
    let client = authority.client("worker");
    let proxy = TlsProxy::start(&server, &authority.server(&["localhost"]), Some(&authority)).await;
    let url = format!("https://localhost:{}", proxy.port);
    let environment = [
        ("CLICKHOUSE_URL", url.as_str()),
        ("CLICKHOUSE_CA_FILE", text(&authority.file)),
        ("CLICKHOUSE_CERT_FILE", text(&client.certificate)),
        ("CLICKHOUSE_KEY_FILE", text(&client.key)),
    ];
    let (fine, said) = world.check(&environment);
    assert!(fine, "{said}");
    let before = proxy.handshakes();
    let _worker = world.worker("a", &environment);
    let sent = world.load(1200, 60).await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert!(proxy.handshakes() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_certificate_is_told_with_what_to_set() {
    let world = World::start().await;
    let server = world.stack.clickhouse_url().unwrap().replace("http://", "");
    let authority = Authority::new(&world.path(""), "authority");
    let stranger = Authority::new(&world.path(""), "stranger");
    let of_stranger = stranger.client("worker");
    let right = TlsProxy::start(&server, &authority.server(&["localhost"]), Some(&authority)).await;
    let expired = TlsProxy::start(&server, &authority.expired(&["localhost"]), None).await;
    let told = |what: &str, environment: &[(&str, &str)], words: &[&str]| {
        let (fine, said) = world.check(environment);
        assert!(
            !fine && words.iter().all(|word| said.contains(word)),
            "{what}: {said}"
        );
    };
    let url = |host: &str, proxy: &TlsProxy| format!("https://{host}:{}", proxy.port);
    let (localhost, address, late) = (
        url("localhost", &right),
        url("127.0.0.1", &right),
        url("localhost", &expired),
    );
    let ca = ("CLICKHOUSE_CA_FILE", text(&authority.file));
    told(
        "no authority",
        &[("CLICKHOUSE_URL", &localhost)],
        &["UnknownIssuer", "CLICKHOUSE_CA_FILE"],
    );
    told(
        "another name",
        &[("CLICKHOUSE_URL", &address), ca],
        &["not valid for name", "CLICKHOUSE_URL"],
    );
    told("expired", &[("CLICKHOUSE_URL", &late), ca], &["expired", "renew"]);
    told(
        "no client certificate",
        &[("CLICKHOUSE_URL", &localhost), ca],
        &["CLICKHOUSE_CERT_FILE and CLICKHOUSE_KEY_FILE"],
    );
    told(
        "a client certificate of another authority",
        &[
            ("CLICKHOUSE_URL", &localhost),
            ca,
            ("CLICKHOUSE_CERT_FILE", text(&of_stranger.certificate)),
            ("CLICKHOUSE_KEY_FILE", text(&of_stranger.key)),
        ],
        &["does not accept the client certificate", "CLICKHOUSE_CERT_FILE"],
    );
    let plain = world
        .stack
        .clickhouse_url()
        .unwrap()
        .replace("http://", "https://");
    told(
        "a plain port",
        &[("CLICKHOUSE_URL", &plain), ca],
        &["http:// in CLICKHOUSE_URL"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_run_say_what_to_write_where_a_plain_request_meets_tls() {
    let world = World::start().await;
    let server = world.stack.clickhouse_url().unwrap().replace("http://", "");
    let authority = Authority::new(&world.path(""), "authority");
    let proxy = TlsProxy::start(&server, &authority.server(&["localhost"]), None).await;
    let url = format!("http://localhost:{}", proxy.port);
    let (environment, words) = (
        [("CLICKHOUSE_URL", url.as_str())],
        "write https:// in CLICKHOUSE_URL",
    );
    let (fine, said) = world.check(&environment);
    assert!(!fine && said.contains(words), "{said}");
    let worker = world.worker("a", &environment);
    eventually(words, SOON, async || worker.log().contains(words)).await;
}
