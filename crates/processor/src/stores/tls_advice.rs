//! What an operator has to do about a handshake that failed, by what the TLS library says.

use super::Store;

/// For one store: the same faults, with its own variables.
struct Advice {
    authority: &'static str,
    name: &'static str,
    expired: &'static str,
    client_missing: &'static str,
    client_refused: &'static str,
}

macro_rules! advice {
    ($url:literal, $authority:literal, $client:literal) => {
        Advice {
            authority: concat!(
                "name a file with the certificate of the authority that signed the server's: ",
                $authority
            ),
            name: concat!("write a name into ", $url, " that the server's certificate is for, or get it one for this name"),
            expired: concat!(
                "renew the server's certificate, and look at this machine's clock (the error says what it compares)"
            ),
            client_missing: concat!("the server asks for a client certificate: ", $client),
            client_refused: concat!(
                "the server does not accept the client certificate (not yet or no longer valid, or of an authority that \
                 it does not trust): ",
                $client
            ),
        }
    };
}

const REDIS: Advice = advice!(
    "REDIS_URL",
    "set REDIS_CA_FILE",
    "set REDIS_CERT_FILE and REDIS_KEY_FILE"
);
const POSTGRES: Advice = Advice {
    authority: "set sslrootcert in DATABASE_URL to the certificate of the authority that has signed the server's",
    name: "name the server in DATABASE_URL as its certificate does, or set sslmode=verify-ca there, which asks for no name",
    expired: "the server's certificate has expired: renew it at the server",
    client_missing: "set sslcert and sslkey in DATABASE_URL to a certificate for this user and its key",
    client_refused: "the server does not accept the client's certificate: set sslcert and sslkey in DATABASE_URL to one of an \
                     authority that the server knows (its ssl_ca_file)",
};
const CLICKHOUSE: Advice = advice!(
    "CLICKHOUSE_URL",
    "set CLICKHOUSE_CA_FILE",
    "set CLICKHOUSE_CERT_FILE and CLICKHOUSE_KEY_FILE"
);

const COLLECTOR: Advice = advice!(
    "the endpoint",
    "set OTEL_EXPORTER_OTLP_CERTIFICATE",
    "set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY"
);

/// Of a store. Nothing where no handshake failed, or it says nothing about certificates.
pub(super) fn of_store(store: Store, message: &str) -> Option<&'static str> {
    match store {
        Store::Redis => of(&REDIS, message),
        Store::Postgres => of(&POSTGRES, message),
        Store::ClickHouse => of(&CLICKHOUSE, message),
    }
}

/// The same of a collector of telemetry.
pub(crate) fn of_collector(message: &str) -> Option<&'static str> {
    of(&COLLECTOR, message)
}

fn of(advice: &Advice, message: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["invalid peer certificate"]) {
        Some(if says(&["not valid for name", "NotValidForName"]) {
            advice.name
        } else if says(&["expired", "Expired", "not valid yet", "NotValidYet"]) {
            advice.expired
        } else {
            advice.authority
        })
    } else if says(&[
        "fatal alert: CertificateRequired",
        "fatal alert: certificate required",
    ]) {
        Some(advice.client_missing)
    } else if says(&["fatal alert: "])
        && says(&[
            "UnknownCA",
            "BadCertificate",
            "Certificate",
            "DecryptError",
            "AccessDenied",
            "HandshakeFailure",
        ])
    {
        Some(advice.client_refused)
    } else {
        None
    }
}
