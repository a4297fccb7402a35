//! What is made of each of libpq's parameters.

/// What is made of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Done as libpq does it. Its value may be shown.
    Done,
    /// The same, and its value is a secret.
    Secret,
    /// Left alone, because nothing that it says would change what happens.
    Ignored,
    /// Not done, and it would be noticed: what to do without it.
    Refused(&'static str),
}

use Use::{Done, Ignored, Refused, Secret};

const NO_GSS: &str = "no such parameter, or disable or prefer: this client does not speak GSSAPI";
const NO_REVOCATION: &str = "no such parameter: this client reads no lists of revoked certificates";
const NO_SERVICE: &str = "no such parameter: write what the service file says into the URL";
const NO_OAUTH: &str = "no such parameter: this client does not log in by OAuth";

/// Every parameter of libpq (PostgreSQL 18), by its name.
const PARAMETERS: &[(&str, Use)] = &[
    ("host", Done),
    ("hostaddr", Done),
    ("port", Done),
    ("dbname", Done),
    ("user", Done),
    ("password", Secret),
    ("application_name", Done),
    ("fallback_application_name", Done),
    ("options", Done),
    ("connect_timeout", Done),
    ("tcp_user_timeout", Done),
    ("keepalives", Done),
    ("keepalives_idle", Done),
    ("keepalives_interval", Done),
    ("keepalives_count", Done),
    ("target_session_attrs", Done),
    ("load_balance_hosts", Done),
    ("channel_binding", Done),
    ("sslmode", Done),
    ("sslnegotiation", Done),
    ("sslrootcert", Done),
    ("sslcert", Done),
    ("sslkey", Done),
    ("sslsni", Done),
    ("sslcertmode", Done),
    ("ssl_min_protocol_version", Done),
    ("ssl_max_protocol_version", Done),
    // Its only value that is used turns on what TLS 1.3 no longer has.
    ("sslcompression", Ignored),
    // The texts are UTF-8 in all cases.
    ("client_encoding", Ignored),
    // They are about GSSAPI, which a server that lets us in did not ask for.
    ("krbsrvname", Ignored),
    ("gsslib", Ignored),
    ("gssdelegation", Ignored),
    // The server is spoken to in version 3.0, which all understand.
    ("max_protocol_version", Ignored),
    // For those who debug: it would write secrets to a file.
    ("sslkeylogfile", Ignored),
    // Older libpqs had them, and did nothing with them.
    ("tty", Ignored),
    ("authtype", Ignored),
    ("requiressl", Refused("no such parameter: write sslmode=require")),
    (
        "sslpassword",
        Refused(
            "no such parameter: decrypt the file of sslkey with `openssl pkey`, and let only this account read it",
        ),
    ),
    ("sslcrl", Refused(NO_REVOCATION)),
    ("sslcrldir", Refused(NO_REVOCATION)),
    ("gssencmode", Refused(NO_GSS)),
    (
        "min_protocol_version",
        Refused("no such parameter, or 3.0: this client speaks no other version"),
    ),
    (
        "require_auth",
        Refused(
            "no such parameter: choose how to log in at the server, in pg_hba.conf, and set sslmode=verify-full",
        ),
    ),
    (
        "requirepeer",
        Refused("no such parameter: this client does not ask for the owner of a socket"),
    ),
    (
        "passfile",
        Refused("no such parameter: write the password into the URL"),
    ),
    ("service", Refused(NO_SERVICE)),
    ("servicefile", Refused(NO_SERVICE)),
    (
        "replication",
        Refused("no such parameter: this client replicates nothing"),
    ),
    (
        "scram_client_key",
        Refused("no such parameter: write the password into the URL"),
    ),
    (
        "scram_server_key",
        Refused("no such parameter: write the password into the URL"),
    ),
    ("oauth_issuer", Refused(NO_OAUTH)),
    ("oauth_client_id", Refused(NO_OAUTH)),
    ("oauth_client_secret", Refused(NO_OAUTH)),
    ("oauth_scope", Refused(NO_OAUTH)),
];

/// Values with which a parameter that is refused says nothing else than what is done anyway.
const HARMLESS: &[(&str, &[&str])] = &[
    ("gssencmode", &["disable", "prefer"]),
    ("min_protocol_version", &["3.0"]),
    ("replication", &["false", "off", "no", "0"]),
];

/// What is made of a parameter; nothing when libpq has none of this name.
pub(super) fn of(name: &str, value: &str) -> Option<Use> {
    let (_, made) = PARAMETERS.iter().find(|(known, _)| *known == name)?;
    let is_harmless = HARMLESS
        .iter()
        .any(|(known, values)| *known == name && values.contains(&value));
    Some(if is_harmless { Ignored } else { *made })
}
