//! Redis by TLS.

use std::path::Path;
use std::time::Duration;

use crate::support::certificates::{Authority, Certified};
use crate::support::redis_servers::free_port;
use crate::support::{SOON, World, eventually, stop_for};

/// A test's Redis, which serves TLS beside what it serves already, and asks for client certificates.
struct Tls {
    world: World,
    port: u16,
    authority: Authority,
    client: Certified,
}

impl Tls {
    async fn start() -> Self {
        let world = World::start().await;
        let authority = Authority::new(&world.path(""), "authority");
        let served = authority.server(&["localhost", "127.0.0.1"]);
        let client = authority.client("worker");
        let port = free_port();
        let tls = Self {
            world,
            port,
            authority,
            client,
        };
        tls.set("tls-ca-cert-file", &tls.authority.file).await;
        tls.serve(&served).await;
        tls.set("tls-port", Path::new(&port.to_string())).await;
        tls
    }

    async fn serve(&self, served: &Certified) {
        let both = [
            ("tls-cert-file", &served.certificate),
            ("tls-key-file", &served.key),
        ];
        let mut command = redis::cmd("CONFIG");
        command.arg("SET");
        for (name, path) in both {
            command.arg(name).arg(path.to_str().unwrap());
        }
        let mut redis = self.world.redis.clone();
        command.query_async::<()>(&mut redis).await.unwrap();
    }

    async fn set(&self, name: &str, value: &Path) {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg(name).arg(value.to_str().unwrap());
        let mut redis = self.world.redis.clone();
        command.query_async::<()>(&mut redis).await.unwrap();
    }

    /// That `check` fails and says these words.
    fn told(&self, what: &str, environment: &[(&str, &str)], words: &[&str]) {
        let (fine, said) = self.world.check(environment);
        assert!(
            !fine && words.iter().all(|word| said.contains(word)),
            "{what}: {said}"
        );
    }

    fn url(&self, host: &str) -> String {
        format!("rediss://{host}:{}", self.port)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_worker_lands_events_through_tls_with_a_private_authority_and_a_client_certificate() {
    let tls = Tls::start().await;
    let url = tls.url("localhost");
    let environment = [
        ("REDIS_URL", url.as_str()),
        ("REDIS_CA_FILE", text(&tls.authority.file)),
        ("REDIS_CERT_FILE", text(&tls.client.certificate)),
        ("REDIS_KEY_FILE", text(&tls.client.key)),
    ];
    let (fine, said) = tls.world.check(&environment);
    assert!(fine, "{said}");
    let worker = tls.world.worker("a", &environment);
    let sent = tls.world.load(1200, 60).await;
    tls.world.settled(SOON).await;
    tls.world.holds_exactly(&sent).await;

    // Nothing of it went by the plain port.
    let clients: String = redis::cmd("CLIENT")
        .arg("LIST")
        .query_async(&mut tls.world.redis.clone())
        .await
        .unwrap();
    let by_tls = clients
        .lines()
        .filter(|line| line.contains(&format!("laddr=127.0.0.1:{}", tls.port)));
    assert!(
        by_tls.count() >= 3,
        "the shared connection, the reader's and the name's: {clients}"
    );
    drop(worker);
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_with_what_to_set() {
    let tls = Tls::start().await;
    let stranger = Authority::new(&tls.world.path(""), "stranger");
    let strangers_client = stranger.client("worker");
    let expired_client = tls.authority.expired(&["worker"]);
    let localhost = tls.url("localhost");
    let plain_at_tls = format!("redis://localhost:{}", tls.port);
    let tls_at_plain = tls
        .world
        .stack
        .redis_url()
        .unwrap()
        .replace("redis://", "rediss://");
    let ca = ("REDIS_CA_FILE", text(&tls.authority.file));
    let ours = [
        ("REDIS_CERT_FILE", text(&tls.client.certificate)),
        ("REDIS_KEY_FILE", text(&tls.client.key)),
    ];
    let told = |what: &str, environment: &[(&str, &str)], words: &[&str]| tls.told(what, environment, words);
    told(
        "no authority",
        &[("REDIS_URL", &localhost), ours[0], ours[1]],
        &["UnknownIssuer", "REDIS_CA_FILE"],
    );
    let others = ("REDIS_CA_FILE", text(&stranger.file));
    told(
        "another authority",
        &[("REDIS_URL", &localhost), others, ours[0], ours[1]],
        &["UnknownIssuer", "REDIS_CA_FILE"],
    );
    told(
        "no client certificate",
        &[("REDIS_URL", &localhost), ca],
        &["REDIS_CERT_FILE and REDIS_KEY_FILE"],
    );
    for refused in [&strangers_client, &expired_client] {
        let theirs = [
            ("REDIS_CERT_FILE", text(&refused.certificate)),
            ("REDIS_KEY_FILE", text(&refused.key)),
        ];
        told(
            "a client certificate that is not accepted",
            &[("REDIS_URL", &localhost), ca, theirs[0], theirs[1]],
            &["does not accept the client certificate", "REDIS_CERT_FILE"],
        );
    }
    told(
        "a plain port",
        &[("REDIS_URL", &tls_at_plain), ca, ours[0], ours[1]],
        &["REDIS_URL", "redis://"],
    );
    told(
        "a plain connection to a port for TLS",
        &[("REDIS_URL", &plain_at_tls)],
        &["REDIS_URL", "rediss://"],
    );
}

#[tokio::test]
async fn a_server_whose_certificate_is_expired_or_for_another_name_is_told_with_what_to_do() {
    let tls = Tls::start().await;
    let (localhost, address) = (tls.url("localhost"), tls.url("127.0.0.1"));
    let ca = ("REDIS_CA_FILE", text(&tls.authority.file));
    let ours = [
        ("REDIS_CERT_FILE", text(&tls.client.certificate)),
        ("REDIS_KEY_FILE", text(&tls.client.key)),
    ];
    let told = |what: &str, environment: &[(&str, &str)], words: &[&str]| tls.told(what, environment, words);
    tls.serve(&tls.authority.server(&["localhost"])).await;
    told(
        "another name",
        &[("REDIS_URL", &address), ca, ours[0], ours[1]],
        &["not valid for name", "localhost", "REDIS_URL"],
    );
    tls.serve(&tls.authority.expired(&["localhost"])).await;
    told(
        "expired",
        &[("REDIS_URL", &localhost), ca, ours[0], ours[1]],
        &["expired", "renew"],
    );
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_before_anything_is_asked() {
    let world = World::start().await;
    let authority = Authority::new(&world.path(""), "authority");
    let client = authority.client("worker");
    let nothing = world.path("nothing.pem");
    std::fs::write(&nothing, "no certificate").unwrap();
    let missing = world.path("missing.pem");
    let url = ("REDIS_URL", "rediss://localhost");
    let refused = |environment: &[(&str, &str)], words: &[&str]| {
        let output = world.output(&["check"], environment);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    };
    refused(
        &[url, ("REDIS_CA_FILE", text(&missing))],
        &["REDIS_CA_FILE", "missing.pem", "No such file"],
    );
    refused(
        &[url, ("REDIS_CA_FILE", text(&nothing))],
        &["REDIS_CA_FILE", "no certificate in PEM"],
    );
    refused(
        &[url, ("REDIS_CERT_FILE", text(&client.certificate))],
        &["REDIS_CERT_FILE", "REDIS_KEY_FILE"],
    );
    let both = [
        ("REDIS_CERT_FILE", text(&client.certificate)),
        ("REDIS_KEY_FILE", text(&nothing)),
    ];
    refused(&[url, both[0], both[1]], &["REDIS_KEY_FILE", "private key"]);
    let of_another = authority.client("another");
    let mixed = [
        ("REDIS_CERT_FILE", text(&client.certificate)),
        ("REDIS_KEY_FILE", text(&of_another.key)),
    ];
    refused(&[url, mixed[0], mixed[1]], &["REDIS_KEY_FILE", "REDIS_CERT_FILE"]);
    refused(
        &[
            ("REDIS_URL", "redis://localhost"),
            ("REDIS_CA_FILE", text(&authority.file)),
        ],
        &["REDIS_CA_FILE", "asks for no TLS"],
    );
    let clickhouse = [
        ("CLICKHOUSE_URL", "http://localhost"),
        ("CLICKHOUSE_CA_FILE", text(&authority.file)),
    ];
    refused(&clickhouse, &["CLICKHOUSE_CA_FILE", "asks for no TLS"]);
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_used_by_new_connections_without_a_restart() {
    let tls = Tls::start().await;
    let url = tls.url("localhost");
    let (trusted, own, key) = (
        tls.world.path("ca.pem"),
        tls.world.path("own.crt"),
        tls.world.path("own.key"),
    );
    let copy = |from: &Path, to: &Path| std::fs::copy(from, to).unwrap();
    copy(&tls.authority.file, &trusted);
    copy(&tls.client.certificate, &own);
    copy(&tls.client.key, &key);
    let environment = [
        ("REDIS_URL", url.as_str()),
        ("REDIS_CA_FILE", text(&trusted)),
        ("REDIS_CERT_FILE", text(&own)),
        ("REDIS_KEY_FILE", text(&key)),
    ];
    let mut worker = tls.world.worker("a", &environment);
    let mut sent = tls.world.load(50, 5).await;
    tls.world.settled(SOON).await;

    // Another authority signs for both sides from now on, and every connection is cut.
    let next = Authority::new(&tls.world.path(""), "next");
    tls.set("tls-ca-cert-file", &next.file).await;
    tls.serve(&next.server(&["localhost"])).await;
    let renewed = next.client("worker");
    for (from, to) in [
        (&next.file, &trusted),
        (&renewed.certificate, &own),
        (&renewed.key, &key),
    ] {
        copy(from, to);
    }
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("normal");
    kill.query_async::<()>(&mut tls.world.redis.clone())
        .await
        .unwrap();

    sent.extend(tls.world.load(50, 5).await);
    eventually("all have landed", SOON, async || {
        tls.world.unsettled().await == Some(0)
    })
    .await;
    tls.world.holds_exactly(&sent).await;
    assert!(worker.is_running());
}

#[tokio::test]
async fn run_says_what_to_write_where_tls_and_a_plain_port_meet() {
    let tls = Tls::start().await;
    let plain_at_tls = format!("redis://localhost:{}", tls.port);
    let tls_at_plain = tls
        .world
        .stack
        .redis_url()
        .unwrap()
        .replace("redis://", "rediss://");
    let ca = ("REDIS_CA_FILE", text(&tls.authority.file));
    for (environment, words) in [
        (
            vec![("REDIS_URL", plain_at_tls.as_str())],
            "write rediss:// in REDIS_URL",
        ),
        (vec![("REDIS_URL", tls_at_plain.as_str()), ca], "write redis://"),
    ] {
        let worker = tls.world.worker("a", &environment);
        eventually(words, SOON, async || worker.log().contains(words)).await;
    }
    // Where it has answered, a connection that is cut is an ordinary loss.
    let url = tls.world.stack.redis_url().unwrap();
    let worker = tls.world.worker("b", &[("REDIS_URL", &url)]);
    eventually("it has begun", SOON, async || worker.is_beating()).await;
    stop_for(tls.world.stack.redis().unwrap(), Duration::from_secs(3)).await;
    eventually("Redis answers", SOON, async || {
        let mut redis = tls.world.redis.clone();
        redis::cmd("PING").query_async::<()>(&mut redis).await.is_ok()
    })
    .await;
    let sent = tls.world.load(50, 5).await;
    tls.world.settled(SOON).await;
    tls.world.holds_exactly(&sent).await;
    assert!(!worker.log().contains("rediss://"), "{}", worker.log());
}
