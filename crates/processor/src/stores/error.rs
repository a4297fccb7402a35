//! One error type for the store boundaries: which store, doing what, and whether another attempt can help.

use std::fmt;

use deadpool::managed::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

use super::codes::{SqlClass, is_data_exception, why_replicas_refuse};
use super::texts::{self, chain, cut, one_line};

/// A store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    /// Redis.
    Redis,
    /// PostgreSQL.
    Postgres,
    /// ClickHouse.
    ClickHouse,
}

impl Store {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Redis, Self::Postgres, Self::ClickHouse];

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Postgres => "PostgreSQL",
            Self::ClickHouse => "ClickHouse",
        }
    }

    /// What it is called in metrics and traces.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Postgres => "postgresql",
            Self::ClickHouse => "clickhouse",
        }
    }

    /// The store that people call so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|store| store.name() == name)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether another attempt can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The data or the statement is at fault: it fails every time.
    Poison,
    /// The service is at fault: it may succeed later.
    Transient,
}

/// An error that knows whether another attempt can help.
pub trait Classify: fmt::Display {
    /// The kind of failure.
    fn kind(&self) -> FailureKind;

    /// What an operator has to do, where no waiting helps.
    fn advice(&self) -> Option<&'static str> {
        None
    }
}

/// Redis's code for a command that does not fit what a key holds.
const WRONG_TYPE: &str = "WRONGTYPE";

/// A cluster's codes for keys whose slot is on its way to another node.
const OF_A_MOVE: [&str; 3] = ["ASK", "MOVED", "TRYAGAIN"];

/// Ours where that has lasted.
pub(super) const APART: &str = "APART";

/// Redis's code for a consumer group, or its stream, that is not there.
const NO_GROUP: &str = "NOGROUP";

/// A failed operation on a store.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{store}: {during}: {message}")]
pub struct StoreError {
    /// The store.
    pub store: Store,
    /// What was being done, e.g. `inserting events`.
    pub during: &'static str,
    /// Whether another attempt can help.
    pub kind: FailureKind,
    /// The store's own code (`252`, `40P01`, `NOGROUP`), empty when there is none.
    pub code: String,
    /// The cause, with its chain; no statement text, no values.
    pub message: String,
}

impl Classify for StoreError {
    fn kind(&self) -> FailureKind {
        self.kind
    }

    fn advice(&self) -> Option<&'static str> {
        Self::advice(self)
    }
}

impl StoreError {
    /// A Redis error. All may pass: what a key holds in place of what it should hold, an operator can mend.
    pub fn redis(during: &'static str, error: &::redis::RedisError) -> Self {
        let code = match error.kind() {
            ::redis::ErrorKind::AuthenticationFailed => "WRONGPASS".to_owned(),
            _ => error.code().map_or_else(|| code_of_first(error), str::to_owned),
        };
        Self::transient(Store::Redis, during, said_first(error)).with_code(code)
    }

    /// A key of Redis holds something else than what it is used for.
    pub fn wrong_type(during: &'static str, key: &str, found: &str, wanted: &str) -> Self {
        let message = format!("`{key}` is a {found}, not a {wanted}: rename or remove the key");
        Self::transient(Store::Redis, during, message).with_code(WRONG_TYPE)
    }

    /// Whether it is about a key that holds something else than what it is used for.
    pub fn is_wrong_type(&self) -> bool {
        self.store == Store::Redis && self.code == WRONG_TYPE
    }

    /// The keys of a stream have been at two nodes of a cluster for so long that nobody moves them any more, it seems.
    pub fn apart(during: &'static str, stream: &str, said: &str) -> Self {
        let message = format!("`{stream}` is not read: the keys of its slot are at two nodes ({said})");
        Self::transient(Store::Redis, during, message).with_code(APART)
    }

    /// Whether a cluster does nothing because the slot of the keys is on its way to another node.
    pub fn is_of_a_move(&self) -> bool {
        self.store == Store::Redis && OF_A_MOVE.contains(&self.code.as_str())
    }

    /// Whether a stream of Redis has no such consumer group, or there is no such stream.
    pub fn is_no_group(&self) -> bool {
        self.store == Store::Redis && self.code == NO_GROUP
    }

    /// Whether PostgreSQL only had others to serve first: a lock that was not to be had in time, a deadlock, a conflict of
    /// transactions, a transaction that stood still. No event is at fault, however often it happens.
    pub fn is_contention(&self) -> bool {
        matches!(
            self.sql_state(),
            Some(
                SqlState::LOCK_NOT_AVAILABLE
                    | SqlState::T_R_DEADLOCK_DETECTED
                    | SqlState::T_R_SERIALIZATION_FAILURE
                    | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            )
        )
    }

    /// Whether a row of PostgreSQL's would refer to one that is not there.
    pub fn is_foreign_key_violation(&self) -> bool {
        self.sql_state() == Some(SqlState::FOREIGN_KEY_VIOLATION)
    }

    /// PostgreSQL's code; nothing when it is another store's error, or has none.
    pub fn sql_state(&self) -> Option<SqlState> {
        let is_known = self.store == Store::Postgres && !self.code.is_empty();
        is_known.then(|| SqlState::from_code(&self.code))
    }

    /// The class of PostgreSQL's code; nothing when it is another store's error, or has none.
    pub fn sql_class(&self) -> Option<SqlClass> {
        SqlClass::of(&self.code).filter(|_| self.store == Store::Postgres)
    }

    /// The engine's code; nothing when it is another store's error, or has none.
    pub fn engine_code(&self) -> Option<u32> {
        let code = self.code.parse().ok();
        code.filter(|_| self.store == Store::ClickHouse)
    }

    /// A PostgreSQL error: the classes that name data or the statement are poison, all others may pass.
    pub fn postgres(during: &'static str, error: &tokio_postgres::Error) -> Self {
        let code = error.code().map(SqlState::code).unwrap_or_default();
        let kind = match SqlClass::of(code) {
            Some(
                SqlClass::DataException
                | SqlClass::IntegrityConstraintViolation
                | SqlClass::SyntaxErrorOrAccessRuleViolation
                | SqlClass::ProgramLimitExceeded,
            ) => FailureKind::Poison,
            _ => FailureKind::Transient,
        };
        let message = error
            .as_db_error()
            .map_or_else(|| chain(error), |db| db.message().to_owned());
        Self::of(kind, Store::Postgres, during, message).with_code(code)
    }

    /// No connection could be had from the pool.
    pub fn pool(during: &'static str, error: PoolError<Self>) -> Self {
        match error {
            PoolError::Backend(error) => Self { during, ..error },
            PoolError::Timeout(TimeoutType::Wait) => {
                let message = "all connections of this process are in use, and none became free in time";
                Self::transient(Store::Postgres, during, message.to_owned())
            }
            other => Self::transient(Store::Postgres, during, other.to_string()),
        }
    }

    /// A ClickHouse error, by the engine's code: data errors are sometimes reported with status 500.
    pub fn clickhouse(during: &'static str, error: &::clickhouse::error::Error) -> Self {
        use ::clickhouse::error::Error;
        let message = chain(error);
        match (error, exception_code(&message)) {
            (_, Some(code)) => Self::clickhouse_code(during, code, message),
            (Error::BadResponse(_) | Error::InvalidColumnsHeader(_), None) => {
                let what = format!("no answer of the engine: \"{}\"", texts::shown(&message));
                Self::clickhouse_strange(during, &what)
            }
            (Error::InvalidParams(_) | Error::Unsupported(_), None) => {
                Self::poison(Store::ClickHouse, during, message)
            }
            _ => Self::clickhouse_away(during, message),
        }
    }

    /// The engine's own refusal.
    pub(super) fn clickhouse_code(during: &'static str, code: u32, message: String) -> Self {
        let kind = if is_data_exception(code) {
            FailureKind::Poison
        } else {
            FailureKind::Transient
        };
        let mut error = Self::of(kind, Store::ClickHouse, during, message).with_code(code.to_string());
        error.message.push_str(why_replicas_refuse(code));
        error
    }

    /// No answer, or none that could be read.
    pub(super) fn clickhouse_away(during: &'static str, message: String) -> Self {
        Self::transient(Store::ClickHouse, during, message)
    }

    /// An answer that is not the engine's, whatever it says: nothing was done, and it may pass.
    pub(super) fn clickhouse_strange(during: &'static str, what: &str) -> Self {
        Self::clickhouse_away(during, format!("{what}: {}", texts::ELSEWHERE))
    }

    /// PostgreSQL's table `projects` has no row: no event could be right, so the database is to blame and not the events.
    pub fn no_project(during: &'static str) -> Self {
        let message =
            "no project exists: is DATABASE_URL the right database? Events wait until a project exists";
        Self::transient(Store::Postgres, during, message.into())
    }

    /// The data or the statement is at fault.
    pub fn poison(store: Store, during: &'static str, message: String) -> Self {
        Self::of(FailureKind::Poison, store, during, message)
    }

    /// Another attempt may succeed.
    pub fn transient(store: Store, during: &'static str, message: String) -> Self {
        Self::of(FailureKind::Transient, store, during, message)
    }

    /// The same with a code, the store's own or one of ours.
    #[must_use]
    pub fn with_code(self, code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            ..self
        }
    }

    fn of(kind: FailureKind, store: Store, during: &'static str, message: String) -> Self {
        Self {
            store,
            during,
            kind,
            code: String::new(),
            message: cut(one_line(message)),
        }
    }
}

/// The number in `Code: 60. DB::Exception`.
fn exception_code(message: &str) -> Option<u32> {
    let rest = &message[message.find("Code: ")? + "Code: ".len()..];
    rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

/// What is said of an error. Commands that were sent together may all be refused for one reason: the first one says it.
fn said_first(error: &::redis::RedisError) -> String {
    let errors = error.clone().into_server_errors();
    match errors.as_deref() {
        Some([(_, first), _, ..] | [(_, first)]) => {
            let (code, details) = (first.code(), first.details().unwrap_or_default());
            let said = format!("{code}: {details}");
            match errors.map_or(0, |errors| errors.len()) {
                1 => said,
                count => format!("{said} (the first of {count} such errors)"),
            }
        }
        _ => error.to_string(),
    }
}

/// The code of the first error of several commands that were sent together; empty when there is none.
fn code_of_first(error: &::redis::RedisError) -> String {
    let errors = error.clone().into_server_errors();
    let first = errors.as_ref().and_then(|errors| errors.first());
    first.map_or_else(String::new, |(_, error)| error.code().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::texts::LONGEST_MESSAGE;

    fn bad(text: &str) -> StoreError {
        StoreError::clickhouse("test", &::clickhouse::error::Error::BadResponse(text.into()))
    }

    #[test]
    fn engine_codes_decide_not_the_status() {
        assert_eq!(
            bad("Code: 252. DB::Exception: Too many parts").kind,
            FailureKind::Transient
        );
        assert_eq!(
            bad("Code: 27. DB::Exception: Cannot parse input").kind,
            FailureKind::Poison
        );
        assert_eq!(
            bad("Code: 469. DB::Exception: Constraint violated").kind,
            FailureKind::Poison
        );
        assert_eq!(
            bad("Code: 16. DB::Exception: No such column").kind,
            FailureKind::Transient
        );
        assert_eq!(bad("502 Bad Gateway").kind, FailureKind::Transient);
        assert_eq!(bad("Code: 252. x").code, "252");
    }

    #[test]
    fn a_code_is_read_as_that_of_its_own_store_only() {
        let refused = |store, code| StoreError::transient(store, "test", String::new()).with_code(code);
        let postgres = refused(Store::Postgres, "23503");
        assert!(postgres.is_foreign_key_violation());
        assert_eq!(postgres.sql_class(), Some(SqlClass::IntegrityConstraintViolation));
        assert_eq!(postgres.engine_code(), None);
        let clickhouse = refused(Store::ClickHouse, "23503");
        assert_eq!((clickhouse.sql_state(), clickhouse.sql_class()), (None, None));
        assert_eq!(clickhouse.engine_code(), Some(23503));
        let away = refused(Store::Postgres, "");
        assert_eq!((away.sql_state(), away.sql_class()), (None, None));
        let trigger = refused(Store::Postgres, "P0001");
        assert_eq!(trigger.sql_class(), Some(SqlClass::Other));
    }

    #[test]
    fn a_wait_for_others_is_contention() {
        for (code, waits) in [
            ("55P03", true),
            ("40P01", true),
            ("40001", true),
            ("25P03", true),
            ("57014", false),
            ("23505", false),
            ("", false),
        ] {
            let error = StoreError::transient(Store::Postgres, "test", String::new()).with_code(code);
            assert_eq!(error.is_contention(), waits, "{code}");
        }
    }

    #[test]
    fn a_key_of_another_type_can_be_mended() {
        let error = StoreError::wrong_type("test", "a:key", "list", "stream");
        assert_eq!(error.kind, FailureKind::Transient);
        assert!(error.is_wrong_type());
        assert!(!StoreError::no_project("test").is_wrong_type());
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let error = StoreError::transient(Store::Redis, "test", "Ж".repeat(600));
        assert!(error.message.len() <= LONGEST_MESSAGE);
    }
}
