//! What an operator has to do about a handshake that failed, by what the TLS library says.

use super::Store;

/// A certificate that can only be encrypted with.
const VERSION: &str = "the server's certificate is of X.509 version 1, as `openssl x509 -req` of old makes them, and cannot be \
                       verified: make it anew with a subjectAltName";

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
            // The variable first: what is repeated of a collector's trouble is cut.
            authority: concat!(
                $authority,
                " to the certificate of the authority that has signed the server's: none that is trusted has"
            ),
            name: concat!("write a name into ", $url, " that the server's certificate is for, or get it one for this name"),
            expired: "renew the server's certificate, and look at this machine's clock (the error says what it compares)",
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
        } else if says(&["UnsupportedCertVersion"]) {
            VERSION
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_a_certificate_names_the_variable_of_its_store() {
        let peer = |why: &str| format!("error performing TLS handshake: invalid peer certificate: {why}");
        let alert = |which: &str| format!("received fatal alert: {which}");
        for (message, redis, postgres, clickhouse) in [
            (
                peer("UnknownIssuer"),
                "REDIS_CA_FILE",
                "sslrootcert",
                "CLICKHOUSE_CA_FILE",
            ),
            (
                peer("certificate not valid for name \"h\"; certificate is only valid for DnsName(\"x\")"),
                "REDIS_URL",
                "verify-ca",
                "CLICKHOUSE_URL",
            ),
            (
                peer("certificate expired: verification time 1"),
                "renew",
                "renew",
                "renew",
            ),
            (
                peer("certificate not valid yet: verification time 1"),
                "clock",
                "expired",
                "clock",
            ),
            (
                peer("Other(OtherError(UnsupportedCertVersion))"),
                "version 1",
                "version 1",
                "version 1",
            ),
            (
                alert("CertificateRequired"),
                "REDIS_CERT_FILE and REDIS_KEY_FILE",
                "sslcert and sslkey",
                "CLICKHOUSE_CERT_FILE and CLICKHOUSE_KEY_FILE",
            ),
            (
                alert("UnknownCA"),
                "does not accept",
                "does not accept",
                "does not accept",
            ),
            (
                alert("BadCertificate"),
                "REDIS_CERT_FILE",
                "sslcert",
                "CLICKHOUSE_CERT_FILE",
            ),
        ] {
            for (store, said) in [
                (Store::Redis, redis),
                (Store::Postgres, postgres),
                (Store::ClickHouse, clickhouse),
            ] {
                let advice = of_store(store, &message).unwrap_or_default();
                assert!(advice.contains(said), "{store} {message}: {advice}");
            }
        }
    }

    #[test]
    fn a_collector_has_its_own_variables_and_other_errors_have_no_advice() {
        assert_eq!(of_store(Store::Redis, "Connection refused (os error 111)"), None);
        assert_eq!(
            of_store(
                Store::ClickHouse,
                "received corrupt message of type InvalidContentType"
            ),
            None
        );
        let collector = of_collector("invalid peer certificate: UnknownIssuer").unwrap_or_default();
        assert!(
            collector.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"),
            "{collector}"
        );
    }
}
