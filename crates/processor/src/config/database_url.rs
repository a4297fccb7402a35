//! What PostgreSQL's client does not take of `DATABASE_URL`, by the name of the parameter.

use std::str::FromStr;

use url::Url;

/// Values of `sslmode` that the client knows.
const SSL_MODES: &str = "`sslmode` to be disable, prefer or require (the others are not supported)";

/// What stands there, without a secret, and what is expected instead. Nothing when the client takes the URL.
pub(super) fn fault(url: &Url) -> Option<(String, String)> {
    let refused = tokio_postgres::Config::from_str(url.as_str()).err()?;
    let parameters = url.query().unwrap_or_default().split('&');
    let alone =
        |parameter: &str| tokio_postgres::Config::from_str(&format!("postgresql://host/?{parameter}"));
    let parameter = parameters
        .filter(|parameter| !parameter.is_empty())
        .find(|parameter| alone(parameter).is_err());
    let Some(parameter) = parameter else {
        return Some((
            "(hidden)".into(),
            format!("what PostgreSQL's client takes ({refused})"),
        ));
    };
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    Some(match name {
        "sslmode" => (format!("…?sslmode={value}"), SSL_MODES.into()),
        "target_session_attrs" => {
            let accepted = "`target_session_attrs` to be any, read-write or read-only";
            (format!("…?target_session_attrs={value}"), accepted.into())
        }
        name => {
            let accepted =
                format!("no parameter `{name}`, or another value of it: the client does not take it");
            (format!("…?{name}=(hidden)"), accepted)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str) -> String {
        let (value, accepted) = fault(&url.parse().unwrap()).unwrap();
        format!("{value}: {accepted}")
    }

    #[test]
    fn the_parameter_that_is_not_taken_is_named_and_no_secret_is() {
        for (query, name) in [
            ("sslmode=verify-full", "sslmode=verify-full"),
            ("connect_timeout=3&sslmode=nonsense", "sslmode=nonsense"),
            ("pgbouncer=true", "`pgbouncer`"),
            ("sslrootcert=/x&sslmode=require", "`sslrootcert`"),
        ] {
            let told = told(&format!("postgresql://u:hunter2@h/db?{query}"));
            assert!(told.contains(name) && !told.contains("hunter2"), "{told}");
        }
        let fine = "postgresql://u:hunter2@h:5432/db?sslmode=require&application_name=x";
        assert_eq!(fault(&fine.parse().unwrap()), None);
    }
}
