use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts, SslNegotiation};

use super::*;

fn of(text: &str) -> PostgresConfig {
    text.parse()
        .unwrap_or_else(|error: ConfigError| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    let error = text
        .parse::<PostgresConfig>()
        .map(|config| panic!("{text}: {config:?}"));
    error.unwrap_err().to_string()
}

fn servers(text: &str) -> Vec<String> {
    of(text).servers.iter().map(ToString::to_string).collect()
}

#[test]
fn servers_are_read_as_libpq_reads_them() {
    for (text, expected) in [
        ("postgresql://h/db", vec!["h:5432"]),
        ("postgres://u:p@h1:1,h2:2/db", vec!["h1:1", "h2:2"]),
        ("postgresql://u:p@h1,h2:6432/db", vec!["h1:5432", "h2:6432"]),
        ("postgresql:///db?host=h1,h2&port=1,2", vec!["h1:1", "h2:2"]),
        ("postgresql:///db?host=h1,h2&port=7", vec!["h1:7", "h2:7"]),
        // A parameter counts more than what stands before it.
        ("postgresql://h/db?host=other", vec!["other:5432"]),
        ("postgresql://[::1]:1/db", vec!["[::1]:1"]),
        (
            "postgresql://u@%2Frun%2Fpostgresql/db",
            vec!["/run/postgresql:5432"],
        ),
        (
            "postgresql:///db?host=/run/postgresql&port=5433",
            vec!["/run/postgresql:5433"],
        ),
        ("postgresql:///db?hostaddr=10.0.0.1", vec!["10.0.0.1:5432"]),
        ("host=h1,h2 port=1,2 dbname=db", vec!["h1:1", "h2:2"]),
    ] {
        assert_eq!(servers(text), expected, "{text}");
    }
    let both = of("postgresql://db.example/db?hostaddr=10.0.0.1");
    assert_eq!(both.servers[0].host, Host::Tcp("db.example".into()));
    assert_eq!(both.servers[0].address, "10.0.0.1".parse().ok());
}

#[test]
fn who_connects_to_what_is_read_in_both_forms() {
    for text in [
        "postgresql://u:p%40:%2F%20s@h/my%20db",
        "postgresql://u:p@:%2F%20s@h/my%20db",
        "postgresql://h/my%20db?user=u&password=p%40:/%20s",
        r"host=h user=u password='p@:/ s' dbname = 'my db'",
        r"host=h user=u password=p@:/\ s dbname='my db'",
    ] {
        let config = of(text);
        assert_eq!(config.session.get_user(), Some("u"), "{text}");
        let password = config.session.get_password().map(String::from_utf8_lossy);
        assert_eq!(password.as_deref(), Some("p@:/ s"), "{text}");
        assert_eq!(config.database(), "my db", "{text}");
        assert!(!format!("{config:?}").contains("p@:"), "{config:?}");
    }
    assert_eq!(of("postgresql://me@h").database(), "me");
    assert_eq!(of("postgresql://me@h/x").of_database("y").database(), "y");
}

#[test]
fn parameters_of_a_session_have_their_meaning() {
    let config = of(
        "postgresql://h/db?connect_timeout=7&keepalives=0&keepalives_idle=11&keepalives_count=3\
         &tcp_user_timeout=1500&options=-c%20geqo%3Doff&target_session_attrs=primary\
         &channel_binding=require&load_balance_hosts=random&sslmode=require&sslnegotiation=direct",
    )
    .session;
    assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
    assert!(!config.get_keepalives());
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(11));
    assert_eq!(config.get_keepalives_retries(), Some(3));
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(1500)));
    assert_eq!(config.get_options(), Some("-c geqo=off"));
    assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    assert_eq!(config.get_channel_binding(), ChannelBinding::Require);
    assert_eq!(config.get_load_balance_hosts(), LoadBalanceHosts::Random);
    assert_eq!(config.get_ssl_negotiation(), SslNegotiation::Direct);

    let unset = of("postgresql://h/db").session;
    assert_eq!(unset.get_keepalives_idle(), Duration::from_secs(30));
    assert_eq!(unset.get_application_name(), Some("qurvo-processor"));
    for (parameters, name) in [
        ("application_name=a@b", "a@b"),
        ("fallback_application_name=x", "x"),
        ("fallback_application_name=x&application_name=y", "y"),
    ] {
        let session = of(&format!("postgresql://u:p@h/db?{parameters}")).session;
        assert_eq!(session.get_application_name(), Some(name), "{parameters}");
    }
}

#[test]
fn any_of_several_servers_is_taken_unless_it_has_to_take_writes() {
    let takes_any = |text: &str| of(text).takes_any_of_several();
    assert!(takes_any("postgresql://a,b/db"));
    assert!(takes_any("postgresql://a,b/db?target_session_attrs=any"));
    assert!(!takes_any("postgresql://a,b/db?target_session_attrs=read-write"));
    assert!(!takes_any("postgresql://a/db"));
}

#[test]
fn sslmode_is_prefer_unless_it_is_said_and_the_systems_authorities_verify_in_full() {
    for (parameters, mode) in [
        ("", SslMode::Prefer),
        ("sslmode=disable", SslMode::Disable),
        ("sslmode=allow", SslMode::Allow),
        ("sslmode=prefer", SslMode::Prefer),
        ("sslmode=require", SslMode::Require),
        ("sslmode=verify-full", SslMode::VerifyFull),
        ("ssl=true", SslMode::Require),
        ("sslrootcert=system", SslMode::VerifyFull),
        ("sslrootcert=system&sslmode=verify-full", SslMode::VerifyFull),
    ] {
        let ssl = of(&format!("postgresql://h/db?{parameters}")).ssl;
        assert_eq!((ssl.mode, ssl.files.authorities), (mode, None), "{parameters}");
    }
    let versions = |parameters: &str| {
        let ssl = of(&format!("postgresql://h/db?{parameters}")).ssl;
        (ssl.without_1_2, ssl.without_1_3, ssl.names_server)
    };
    assert_eq!(versions("ssl_min_protocol_version=TLSv1"), (false, false, true));
    assert_eq!(
        versions("ssl_min_protocol_version=TLSv1.3&sslsni=0"),
        (true, false, false)
    );
    assert_eq!(versions("ssl_max_protocol_version=TLSv1.2"), (false, true, true));
}

#[test]
fn what_changes_nothing_is_taken() {
    for parameters in [
        "gssencmode=prefer&krbsrvname=postgres&client_encoding=UTF8&sslcompression=0",
        "max_protocol_version=latest&replication=false",
        // Where there is no TLS its files are not read.
        "sslmode=disable&sslrootcert=/nonexistent/ca.crt",
        "host=/run/postgresql&sslmode=verify-full&sslrootcert=/nonexistent/ca.crt",
        "sslcertmode=disable&sslcert=/nonexistent/client.crt",
        "",
        "sslrootcert=",
    ] {
        of(&format!("postgresql://h/db?{parameters}"));
    }
}

#[test]
fn what_is_not_taken_is_named_with_what_is_and_no_secret_is_shown() {
    for (parameters, told) in [
        ("sslmode=verify-fully", "…?sslmode=verify-fully"),
        ("sslmode=verify-fully", "verify-ca, verify-full"),
        ("sslmode=require&sslrootcert=system", "verify-full"),
        ("sslmode=verify-ca", "`sslrootcert` with sslmode=verify-ca"),
        ("password=s3&hunter2=9", "(hidden)"),
        ("pgbouncer=true", "`pgbouncer`"),
        ("pgbouncer=hunter2", "=(hidden)"),
        ("sslpassword=hunter2", "openssl pkey"),
        ("target_session_attrs=read-only", "the worker writes"),
        ("target_session_attrs=prefer-standby", "read-write or primary"),
        ("connect_timeout=soon", "connect_timeout=soon"),
        ("tcp_user_timeout=soon", "milliseconds"),
        ("channel_binding=maybe", "disable, prefer, require"),
        ("load_balance_hosts=round", "disable, random"),
        ("sslnegotiation=direct", "require"),
        (
            "ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2",
            "TLSv1.3",
        ),
        ("ssl_max_protocol_version=TLSv1.1", "TLSv1.2"),
        ("gssencmode=require", "GSSAPI"),
        ("sslcrl=/x", "revoked"),
        ("passfile=/x", "password"),
        ("service=x", "service"),
        ("requirepeer=postgres", "socket"),
        ("require_auth=scram-sha-256", "pg_hba.conf"),
        ("sslmode", "`name=value`"),
        ("host=a,b&port=1,2,3", "as many as there are hosts"),
        ("hostaddr=db.example", "IP addresses"),
        ("hostaddr=10.0.0.1,10.0.0.2", "as many addresses"),
        ("port=99999", "65535"),
        (
            "sslrootcert=/nonexistent/ca.crt",
            "sslrootcert=/nonexistent/ca.crt",
        ),
        ("sslcert=/nonexistent/client.crt", "`sslkey`"),
        (
            "sslcert=/nonexistent/client.crt&sslkey=/x",
            "sslcert=/nonexistent",
        ),
    ] {
        let error = refused(&format!("postgresql://u:hunter2@h/db?{parameters}"));
        assert!(
            error.contains(told) && error.starts_with("DATABASE_URL=") && !error.contains("hunter2"),
            "{parameters}: {error}"
        );
    }
    for (text, told) in [
        ("mysql://u:hunter2@h/db", "DATABASE_URL=mysql://(hidden)"),
        ("nonsense", "host=…"),
        ("postgresql:///db", "?host=/run/postgresql"),
        ("postgresql://u:hunter2@:5432/db", "each host"),
        ("postgresql://u:hunter2@h:port/db", "postgresql://user:password@"),
        ("host=h password='hunter2", "single quotes"),
        ("host=h hunter2", "`name=value`"),
        ("host=h sslmode=hunter", "… sslmode=hunter"),
    ] {
        let error = refused(text);
        assert!(
            error.contains(told) && !error.contains("hunter2"),
            "{text}: {error}"
        );
    }
}

#[test]
fn files_that_hold_something_else_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certified = |name: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let certificate = file(&format!("{name}.crt"), &made.cert.pem());
        (
            certificate,
            file(&format!("{name}.key"), &made.signing_key.serialize_pem()),
        )
    };
    let (one, other) = (certified("one"), certified("other"));
    let empty = file("empty", "");
    let url = |certificate: &str, key: &str| {
        format!("postgresql://h/db?sslrootcert={certificate}&sslcert={certificate}&sslkey={key}")
    };
    let files = of(&url(&one.0, &one.1)).ssl.files;
    assert_eq!(files.authorities.as_deref(), Some(one.0.as_ref()));
    assert_eq!(
        files.identity.map(|identity| identity.key),
        Some(one.1.clone().into())
    );
    for (certificate, key, told) in [
        (&one.0, &other.1, "the key of the certificate"),
        (&empty, &one.1, "no certificate"),
        (&one.0, &empty, "no private key"),
    ] {
        let error = refused(&url(certificate, key));
        assert!(error.contains(told), "{error}");
    }
}
