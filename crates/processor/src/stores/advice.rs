//! What an operator has to do about an error that no waiting mends: a password, a right, a name, a port that speaks another
//! protocol.

use tokio_postgres::error::SqlState;

use super::codes::engine;
use super::error::APART;
use super::redis::NO_SENTINEL;
use super::{Store, StoreError, tls_advice};
use crate::config::names_a_file;

/// What to do about user and password, by the variable that names the file with the password; of a store the first one that
/// does. The last one is for where none does. A file with a URL is read once.
type ByFile = [(&'static str, &'static str)];
const REDIS_USER: &ByFile = &[
    (
        "REDIS_PASSWORD_FILE",
        "write the server's password into the file that REDIS_PASSWORD_FILE names, which is read again by itself; the user stands \
         in REDIS_URL (user:@)",
    ),
    (
        "REDIS_URL_FILE",
        "set user and password in the file that REDIS_URL_FILE names to those of the server, and start again",
    ),
    ("", "set user and password in REDIS_URL to those of the server"),
];
const REDIS_SENTINEL_USER: &ByFile = &[
    (
        "REDIS_SENTINEL_PASSWORD_FILE",
        "write the Sentinels' password into the file that REDIS_SENTINEL_PASSWORD_FILE names, which is read again by itself, and set \
         REDIS_SENTINEL_USER where there is one",
    ),
    (
        "",
        "set REDIS_SENTINEL_PASSWORD, and REDIS_SENTINEL_USER where there is one, to those of the Sentinels",
    ),
];
const REDIS_RIGHT: &str = "give the user of REDIS_URL the rights in docs/operations.md (ACL SETUSER); `qurvo-processor check` says which it \
                           has not";
/// What Redis says, without a code, of a command within a script.
const NO_RIGHT_IN_A_SCRIPT: &str = "The user executing the script can't";
const REDIS_SLOT: &str = "end the move of the slot: `redis-cli --cluster fix HOST:PORT`; `qurvo-processor status` names slot and nodes";
const REDIS_DATABASE: &str = "the server has fewer databases: correct the number at the end of REDIS_URL";
const REDIS_NO_CLUSTER: &str = "the server is none of a cluster: write redis:// in REDIS_URL";
const REDIS_KEY: &str = "rename or remove the key";
const REDIS_TLS: &str = "the port does not speak TLS: write redis:// in REDIS_URL, or give the port for TLS";
const POSTGRES_USER: &ByFile = &[
    (
        "DATABASE_URL_FILE",
        "set user and password in the file that DATABASE_URL_FILE names to those of the server, and start again; and let \
         pg_hba.conf allow this client",
    ),
    (
        "",
        "set user and password in DATABASE_URL to those of the server, and let pg_hba.conf allow this client",
    ),
];
const POSTGRES_DATABASE: &str =
    "correct the database's name in DATABASE_URL, or run `qurvo-processor migrate`";
const POSTGRES_RIGHT: &str = "give the user of DATABASE_URL the rights in docs/operations.md (GRANT)";
const POSTGRES_TLS: &str =
    "the server speaks no TLS, and sslmode in DATABASE_URL asks for it: turn TLS on at the server (ssl = on)";
const POSTGRES_PLAIN: &str = "the server takes nobody from here without TLS: set sslmode=verify-full (or require) in DATABASE_URL, or let \
                              pg_hba.conf allow this client";
const POSTGRES_NOT_PLAIN: &str = "the server takes nobody from here by TLS: let pg_hba.conf allow this client (hostssl), or set \
                                  sslmode=disable in DATABASE_URL";
/// What PostgreSQL's client says of a server that does not speak TLS.
pub(super) const POSTGRES_SPEAKS_NO_TLS: &str = "server does not support TLS";
/// What a server says of the client's certificate, and what to do then.
const POSTGRES_CLIENT: [(&str, &str); 2] = [
    (
        "requires a valid client certificate",
        "set sslcert and sslkey in DATABASE_URL to a certificate for this user and its key",
    ),
    (
        "certificate authentication failed",
        "set sslcert and sslkey in DATABASE_URL to a certificate whose common name is the user's",
    ),
];
const CLICKHOUSE_USER: &ByFile = &[
    (
        "CLICKHOUSE_PASSWORD_FILE",
        "write the server's password into the file that CLICKHOUSE_PASSWORD_FILE names, which is read again by itself, and set \
         CLICKHOUSE_USER to its user",
    ),
    (
        "",
        "set CLICKHOUSE_USER and CLICKHOUSE_PASSWORD to those of the server",
    ),
];
const CLICKHOUSE_DATABASE: &str = "correct CLICKHOUSE_DB, or run `qurvo-processor migrate`";
const CLICKHOUSE_RIGHT: &str = "give CLICKHOUSE_USER the rights in docs/operations.md (GRANT)";
const CLICKHOUSE_TLS: &str =
    "the port does not speak TLS: write http:// in CLICKHOUSE_URL, or give the port for TLS";
const SCHEMA: &str = "run `qurvo-processor migrate`; `qurvo-processor check` says what is missing";

impl StoreError {
    /// What an operator has to do. Nothing where it may pass by itself: a store that is down, busy or starting.
    pub fn advice(&self) -> Option<&'static str> {
        if let Some(advice) = tls_advice::of_store(self.store, &self.message) {
            return Some(advice);
        }
        match self.store {
            Store::Redis => self.advice_on_redis(),
            Store::Postgres => self.advice_on_postgres(),
            Store::ClickHouse => self.advice_on_clickhouse(),
        }
    }

    /// Whether ClickHouse refuses user or password.
    pub(super) fn refuses_user(&self) -> bool {
        matches!(
            self.engine_code(),
            Some(
                engine::AUTHENTICATION_FAILED
                    | engine::UNKNOWN_USER
                    | engine::WRONG_PASSWORD
                    | engine::REQUIRED_PASSWORD
            )
        )
    }

    fn advice_on_redis(&self) -> Option<&'static str> {
        let says = |text: &str| self.message.contains(text);
        let is_refused = [
            "authentication failed",
            "AuthenticationFailed",
            "WRONGPASS",
            "NOAUTH",
            // A password is given, and the server asks for none.
            "called without any password configured",
        ]
        .map(says);
        if says(NO_SENTINEL) && is_refused.contains(&true) {
            return by_file(REDIS_SENTINEL_USER);
        }
        match self.code.as_str() {
            "WRONGPASS" | "NOAUTH" => return by_file(REDIS_USER),
            "NOPERM" => return Some(REDIS_RIGHT),
            _ if says(NO_RIGHT_IN_A_SCRIPT) => return Some(REDIS_RIGHT),
            _ if self.is_wrong_type() => return Some(REDIS_KEY),
            APART => return Some(REDIS_SLOT),
            _ => {}
        }
        // The client has no code for what it meets while it connects.
        if is_refused.contains(&true) {
            by_file(REDIS_USER)
        } else if says("NOPERM") {
            Some(REDIS_RIGHT)
        } else if says("DB index is out of range") {
            Some(REDIS_DATABASE)
        } else if says("cluster support disabled") {
            Some(REDIS_NO_CLUSTER)
        } else if speaks_no_tls(&self.message) {
            Some(REDIS_TLS)
        } else {
            None
        }
    }

    fn advice_on_postgres(&self) -> Option<&'static str> {
        let says = |text: &str| self.message.contains(text);
        if let Some((_, advice)) = POSTGRES_CLIENT.iter().find(|(text, _)| says(text)) {
            return Some(advice);
        }
        match self.sql_state() {
            Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
                if says("no encryption") && !says("SSL encryption") =>
            {
                Some(POSTGRES_PLAIN)
            }
            Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
                if says("SSL encryption") && !says("no encryption") =>
            {
                Some(POSTGRES_NOT_PLAIN)
            }
            Some(SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                by_file(POSTGRES_USER)
            }
            Some(SqlState::INVALID_CATALOG_NAME) => Some(POSTGRES_DATABASE),
            Some(SqlState::INSUFFICIENT_PRIVILEGE) => Some(POSTGRES_RIGHT),
            Some(SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN | SqlState::INVALID_SCHEMA_NAME) => {
                Some(SCHEMA)
            }
            _ if says(POSTGRES_SPEAKS_NO_TLS) => Some(POSTGRES_TLS),
            _ => None,
        }
    }

    fn advice_on_clickhouse(&self) -> Option<&'static str> {
        match self.engine_code() {
            _ if self.refuses_user() => by_file(CLICKHOUSE_USER),
            Some(engine::UNKNOWN_DATABASE) => Some(CLICKHOUSE_DATABASE),
            Some(engine::ACCESS_DENIED) => Some(CLICKHOUSE_RIGHT),
            Some(engine::UNKNOWN_TABLE | engine::NO_SUCH_COLUMN_IN_TABLE | engine::UNKNOWN_IDENTIFIER) => {
                Some(SCHEMA)
            }
            _ if speaks_no_tls(&self.message) => Some(CLICKHOUSE_TLS),
            _ => None,
        }
    }
}

fn by_file(advice: &ByFile) -> Option<&'static str> {
    let applies = |file: &str| file.is_empty() || names_a_file(file);
    let found = advice.iter().find(|(file, _)| applies(file));
    found.map(|(_, advice)| *advice)
}

/// What the TLS library says when the first answer is no TLS.
fn speaks_no_tls(message: &str) -> bool {
    message.contains("InvalidContentType")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(store: Store, code: &str, message: &str) -> Option<&'static str> {
        let error = StoreError::transient(store, "test", message.to_owned());
        error.with_code(code).advice()
    }

    #[test]
    fn what_no_waiting_mends_has_an_advice_that_names_the_variable() {
        let no_tls = "received corrupt message of type InvalidContentType";
        for (store, code, message, said) in [
            (Store::Redis, "NOPERM", "no permissions", "REDIS_URL"),
            (
                Store::Redis,
                "ERR",
                "The user executing the script can't run this command or subcommand script: 36f2, on @user_script:48.",
                "ACL SETUSER",
            ),
            (Store::Redis, "APART", "`s` is not read", "--cluster fix"),
            (
                Store::Redis,
                "",
                "Password authentication failed- AuthenticationFailed",
                "REDIS_URL",
            ),
            (
                Store::Redis,
                "ERR",
                "ERR AUTH <password> called without any password configured for the default user",
                "REDIS_URL",
            ),
            (Store::Redis, "WRONGTYPE", "`k` is a list", "the key"),
            (Store::Redis, "", no_tls, "redis://"),
            (Store::Postgres, "28P01", "", "DATABASE_URL"),
            (
                Store::Postgres,
                "28000",
                "no pg_hba.conf entry for host, no encryption",
                "sslmode=verify-full",
            ),
            (
                Store::Postgres,
                "28000",
                "no pg_hba.conf entry for host, SSL encryption",
                "sslmode=disable",
            ),
            (
                Store::Postgres,
                "28000",
                "no entry, SSL encryption; without TLS: no entry, no encryption",
                "pg_hba.conf",
            ),
            (
                Store::Postgres,
                "28000",
                "connection requires a valid client certificate",
                "sslcert",
            ),
            (
                Store::Postgres,
                "",
                "error performing TLS handshake: server does not support TLS",
                "sslmode",
            ),
            (Store::Postgres, "42501", "", "GRANT"),
            (Store::Postgres, "3D000", "", "DATABASE_URL"),
            (Store::Postgres, "42P01", "", "migrate"),
            (Store::ClickHouse, "516", "", "CLICKHOUSE_PASSWORD"),
            (Store::ClickHouse, "497", "", "GRANT"),
            (Store::ClickHouse, "81", "", "CLICKHOUSE_DB"),
            (Store::ClickHouse, "", no_tls, "http://"),
        ] {
            let advice = advice(store, code, message);
            assert!(
                advice.is_some_and(|advice| advice.contains(said)),
                "{store} {code}"
            );
        }
    }

    #[test]
    fn a_password_that_sentinels_refuse_is_theirs() {
        let refused = "no Sentinel says which server is main: s:26379: Password authentication failed- AuthenticationFailed";
        let advice = advice(Store::Redis, "", refused);
        assert!(advice.is_some_and(|advice| advice.contains("REDIS_SENTINEL_PASSWORD")));
    }

    #[test]
    fn what_may_pass_has_none() {
        for (store, code, message) in [
            (Store::Redis, "LOADING", "loading"),
            (Store::Redis, "", "Connection refused (os error 111)"),
            (Store::Postgres, "57P03", "the database system is starting up"),
            (Store::Postgres, "53300", "too many clients"),
            (Store::ClickHouse, "252", "too many parts"),
            (Store::ClickHouse, "", "no answer within 30000 ms"),
        ] {
            assert_eq!(advice(store, code, message), None, "{store} {code} {message}");
        }
    }
}
