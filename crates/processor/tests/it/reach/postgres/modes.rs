//! All six modes of `sslmode`, against servers that speak TLS, do not, or accept one of both alone.

use crate::support::World;
use crate::support::certificates::{Authority, Certified};

/// What `check` says of a connection that works.
const PLAIN: &str = "not encrypted";
const UNVERIFIED: &str = "TLS 1.3, but the server's certificate is not verified";
const SIGNED: &str = "TLS 1.3, the server's certificate is verified, its name is not";
const NAMED: &str = "TLS 1.3, the server's certificate and name are verified";

const BOTH: &str = "host all app 127.0.0.1/32 scram-sha-256";
const TLS_ALONE: &str = "hostssl all app 127.0.0.1/32 scram-sha-256\nhostnossl all app 127.0.0.1/32 reject";
const PLAIN_ALONE: &str = "hostnossl all app 127.0.0.1/32 scram-sha-256";

/// Each way is tried with parameters, and told what has to be said of it.
fn are_as_told(world: &World, host: &str, ways: &[(&str, Result<&str, &str>)]) {
    for (parameters, expected) in ways {
        let (is_well, told) = world.checked(&world.app_url(host, parameters));
        let (Ok(text) | Err(text)) = expected;
        assert!(
            is_well == expected.is_ok() && told.contains(text),
            "{parameters}: {expected:?}: {told}"
        );
        assert!(!told.contains("p@ss") && !told.contains("p%40ss"), "{told}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_reached_by_the_modes_that_do_without() {
    let world = World::start().await;
    world.has_app().await;
    world.lets_in(BOTH).await;
    let no_tls = Err("the server speaks no TLS");
    let ways = [
        ("", Ok(PLAIN)),
        ("sslmode=disable", Ok(PLAIN)),
        ("sslmode=allow", Ok(PLAIN)),
        ("sslmode=prefer", Ok(PLAIN)),
        ("sslmode=require", no_tls),
        ("sslmode=verify-ca", Err("`sslrootcert` with sslmode=verify-ca")),
        ("sslmode=verify-full", no_tls),
    ];
    are_as_told(&world, "127.0.0.1", &ways);
    are_as_told(&world, "localhost", &ways[..1]);
}

#[tokio::test]
async fn each_mode_means_what_libpq_means_by_it() {
    let world = World::start().await;
    world.has_app().await;
    let authority = Authority::new(&world.path(""), "authority");
    world
        .shows(&authority.server(&["localhost", "127.0.0.1"]), &authority)
        .await;
    let trusted = format!("sslrootcert={}", authority.file.display());
    let with = |mode: &str| format!("sslmode={mode}&{trusted}");
    let [allow, prefer, require, verify_ca, verify_full] =
        ["allow", "prefer", "require", "verify-ca", "verify-full"].map(with);

    world.lets_in(BOTH).await;
    let unknown = Err("UnknownIssuer");
    let ways = [
        ("", Ok(UNVERIFIED)),
        ("sslmode=disable", Ok(PLAIN)),
        ("sslmode=allow", Ok(PLAIN)),
        ("sslmode=prefer", Ok(UNVERIFIED)),
        ("sslmode=require", Ok(UNVERIFIED)),
        ("channel_binding=require", Ok(UNVERIFIED)),
        ("sslmode=disable&channel_binding=require", Err("channel binding")),
        // Without names, the system's authorities are too many.
        ("sslmode=verify-ca", Err("`sslrootcert` with sslmode=verify-ca")),
        // They do not know ours.
        ("sslmode=verify-full", unknown),
        ("sslrootcert=system", unknown),
        // A named authority is asked for in every mode.
        (allow.as_str(), Ok(PLAIN)),
        (&prefer, Ok(SIGNED)),
        (&require, Ok(SIGNED)),
        (&verify_ca, Ok(SIGNED)),
        (&verify_full, Ok(NAMED)),
    ];
    are_as_told(&world, "127.0.0.1", &ways);
    are_as_told(&world, "localhost", &[(&verify_full, Ok(NAMED))]);
    let oldest = format!("{verify_full}&ssl_max_protocol_version=TLSv1.2");
    are_as_told(&world, "127.0.0.1", &[(&oldest, Ok("TLS 1.2, the server's"))]);

    world.lets_in(TLS_ALONE).await;
    let ways = [
        ("sslmode=disable", Err("set sslmode=verify-full")),
        ("sslmode=allow", Ok(UNVERIFIED)),
        ("sslmode=prefer", Ok(UNVERIFIED)),
        (&allow, Ok(SIGNED)),
        (&verify_full, Ok(NAMED)),
    ];
    are_as_told(&world, "127.0.0.1", &ways);

    world.lets_in(PLAIN_ALONE).await;
    let by_tls = Err("set sslmode=disable in DATABASE_URL");
    let ways = [
        ("sslmode=disable", Ok(PLAIN)),
        ("sslmode=allow", Ok(PLAIN)),
        ("sslmode=prefer", Ok(PLAIN)),
        ("sslmode=require", by_tls),
        (&verify_full, by_tls),
    ];
    are_as_told(&world, "127.0.0.1", &ways);
}

/// A certificate without extensions, as PostgreSQL's manual long had them made.
fn of_version_1(world: &World) -> Certified {
    let [key, request, certificate] =
        ["v1.key", "v1.csr", "v1.crt"].map(|name| world.path(name).display().to_string());
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl").args(arguments).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    };
    let curve = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ];
    let named = ["-subj", "/CN=127.0.0.1", "-keyout", &key, "-out", &request];
    openssl(&[&["req", "-new"][..], &curve, &named].concat());
    let signed = [
        "x509",
        "-req",
        "-in",
        &request,
        "-signkey",
        &key,
        "-out",
        &certificate,
    ];
    // Newer ones have to be asked for it.
    let asked = [
        "req",
        "-x509",
        "-x509v1",
        "-in",
        &request,
        "-key",
        &key,
        "-out",
        &certificate,
    ];
    let is_made = [&signed[..], &asked[..]].into_iter().any(|arguments| {
        openssl(arguments);
        openssl(&["x509", "-in", &certificate, "-noout", "-text"]).contains("Version: 1 (0x0)")
    });
    assert!(is_made, "openssl makes no certificate of version 1");
    Certified {
        certificate: certificate.into(),
        key: key.into(),
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_verified_is_taken_where_nothing_is_demanded() {
    let world = World::start().await;
    world.has_app().await;
    let authority = Authority::new(&world.path(""), "authority");
    let certified = of_version_1(&world);
    world.shows(&certified, &authority).await;
    world.lets_in(TLS_ALONE).await;
    let trusted = format!(
        "sslmode=verify-ca&sslrootcert={}",
        certified.certificate.display()
    );
    let ways = [
        ("", Ok(UNVERIFIED)),
        ("sslmode=require", Ok(UNVERIFIED)),
        ("sslmode=require&channel_binding=require", Ok(UNVERIFIED)),
        (trusted.as_str(), Err("UnsupportedCertVersion")),
    ];
    are_as_told(&world, "127.0.0.1", &ways);
}

#[tokio::test]
async fn prefer_does_without_tls_where_the_handshake_fails_and_stricter_modes_do_not() {
    let world = World::start().await;
    world.has_app().await;
    world.lets_in(BOTH).await;
    let (one, other) = (
        Authority::new(&world.path(""), "one"),
        Authority::new(&world.path(""), "other"),
    );
    world.shows(&one.server(&["127.0.0.1"]), &one).await;
    let other = format!("sslrootcert={}", other.file.display());
    let refused = Err("UnknownIssuer");
    let ways = [
        (format!("sslmode=prefer&{other}"), Ok(PLAIN)),
        (format!("sslmode=require&{other}"), refused),
        (format!("sslmode=verify-ca&{other}"), refused),
    ];
    let ways: Vec<_> = ways.iter().map(|(way, told)| (way.as_str(), *told)).collect();
    are_as_told(&world, "127.0.0.1", &ways);
}

#[tokio::test]
async fn a_connection_string_of_words_is_read_too() {
    let world = World::start().await;
    world.has_app().await;
    world.lets_in(BOTH).await;
    let port = world.stack.postgres().unwrap().port();
    let words = format!("host=127.0.0.1 port={port} user=app password='p@ss/word' dbname=qurvo_analytics");
    let (is_well, told) = world.checked(&words);
    assert!(is_well && told.contains(PLAIN), "{told}");
}
