//! The stores' codes by their names. PostgreSQL's are in [`SqlState`]; here are their classes, and ClickHouse's.
//!
//! [`SqlState`]: tokio_postgres::error::SqlState

/// The class of one of PostgreSQL's codes, its first two characters: what an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of PostgreSQL's documentation")]
pub enum SqlClass {
    ConnectionException,
    CardinalityViolation,
    DataException,
    IntegrityConstraintViolation,
    InvalidTransactionState,
    InvalidAuthorization,
    InvalidCatalogName,
    TransactionRollback,
    SyntaxErrorOrAccessRuleViolation,
    WithCheckOptionViolation,
    InsufficientResources,
    /// Such as the size of a document, or of an index entry.
    ProgramLimitExceeded,
    ObjectNotInPrerequisiteState,
    OperatorIntervention,
    SystemError,
    /// Whatever a trigger says, and everything that nothing here asks for.
    Other,
}

impl SqlClass {
    /// Nothing when there is no code.
    pub(super) fn of(code: &str) -> Option<Self> {
        Some(match code.get(..2)? {
            "08" => Self::ConnectionException,
            "21" => Self::CardinalityViolation,
            "22" => Self::DataException,
            "23" => Self::IntegrityConstraintViolation,
            "25" => Self::InvalidTransactionState,
            "28" => Self::InvalidAuthorization,
            "3D" => Self::InvalidCatalogName,
            "40" => Self::TransactionRollback,
            "42" => Self::SyntaxErrorOrAccessRuleViolation,
            "44" => Self::WithCheckOptionViolation,
            "53" => Self::InsufficientResources,
            "54" => Self::ProgramLimitExceeded,
            "55" => Self::ObjectNotInPrerequisiteState,
            "57" => Self::OperatorIntervention,
            "58" => Self::SystemError,
            _ => Self::Other,
        })
    }
}

/// Declares the engine's codes by its own names, and the list of them.
macro_rules! engine_codes {
    ($($code:literal $name:ident;)*) => {
        /// ClickHouse's codes that are asked for, by the names that it has for them.
        #[allow(missing_docs, reason = "the names are the engine's")]
        pub mod engine {
            $(pub const $name: u32 = $code;)*
            /// Each with its name.
            pub const ALL: &[(u32, &str)] = &[$(($code, stringify!($name))),*];
        }
    };
}

engine_codes! {
    6 CANNOT_PARSE_TEXT;
    16 NO_SUCH_COLUMN_IN_TABLE;
    25 CANNOT_PARSE_ESCAPE_SEQUENCE;
    26 CANNOT_PARSE_QUOTED_STRING;
    27 CANNOT_PARSE_INPUT_ASSERTION_FAILED;
    38 CANNOT_PARSE_DATE;
    41 CANNOT_PARSE_DATETIME;
    47 UNKNOWN_IDENTIFIER;
    60 UNKNOWN_TABLE;
    69 ARGUMENT_OUT_OF_BOUND;
    70 CANNOT_CONVERT_TYPE;
    72 CANNOT_PARSE_NUMBER;
    75 CANNOT_WRITE_TO_FILE_DESCRIPTOR;
    81 UNKNOWN_DATABASE;
    117 INCORRECT_DATA;
    131 TOO_LARGE_STRING_SIZE;
    164 READONLY;
    173 CANNOT_ALLOCATE_MEMORY;
    190 SIZES_OF_ARRAYS_DONT_MATCH;
    192 UNKNOWN_USER;
    193 WRONG_PASSWORD;
    194 REQUIRED_PASSWORD;
    201 QUOTA_EXCEEDED;
    202 TOO_MANY_SIMULTANEOUS_QUERIES;
    209 SOCKET_TIMEOUT;
    210 NETWORK_ERROR;
    225 NO_ZOOKEEPER;
    236 ABORTED;
    241 MEMORY_LIMIT_EXCEEDED;
    242 TABLE_IS_READ_ONLY;
    243 NOT_ENOUGH_SPACE;
    244 UNEXPECTED_ZOOKEEPER_ERROR;
    252 TOO_MANY_PARTS;
    279 ALL_CONNECTION_TRIES_FAILED;
    285 TOO_FEW_LIVE_REPLICAS;
    286 UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE;
    319 UNKNOWN_STATUS_OF_INSERT;
    321 VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE;
    349 CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN;
    376 CANNOT_PARSE_UUID;
    394 QUERY_WAS_CANCELLED;
    407 DECIMAL_OVERFLOW;
    439 CANNOT_SCHEDULE_TASK;
    441 CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING;
    467 CANNOT_PARSE_BOOL;
    469 VIOLATED_CONSTRAINT;
    497 ACCESS_DENIED;
    499 S3_ERROR;
    516 AUTHENTICATION_FAILED;
    735 QUERY_WAS_CANCELLED_BY_CLIENT;
    745 SERVER_OVERLOADED;
    774 TABLE_IS_PERMANENTLY_READ_ONLY;
    999 KEEPER_EXCEPTION;
}

/// Engine codes that name the data: the row can never be stored. Every other code, those that name the statement or
/// the schema included, is held rather than blamed on the events: an operator can mend it, and nothing is lost.
pub(super) fn is_data_exception(code: u32) -> bool {
    matches!(
        code,
        engine::CANNOT_PARSE_TEXT
            | engine::CANNOT_PARSE_ESCAPE_SEQUENCE
            | engine::CANNOT_PARSE_QUOTED_STRING
            | engine::CANNOT_PARSE_INPUT_ASSERTION_FAILED
            | engine::CANNOT_PARSE_DATE
            | engine::CANNOT_PARSE_DATETIME
            | engine::ARGUMENT_OUT_OF_BOUND
            | engine::CANNOT_CONVERT_TYPE
            | engine::CANNOT_PARSE_NUMBER
            | engine::INCORRECT_DATA
            | engine::TOO_LARGE_STRING_SIZE
            | engine::SIZES_OF_ARRAYS_DONT_MATCH
            | engine::VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
            | engine::CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
            | engine::CANNOT_PARSE_UUID
            | engine::DECIMAL_OVERFLOW
            | engine::CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING
            | engine::CANNOT_PARSE_BOOL
            | engine::VIOLATED_CONSTRAINT
    )
}

/// What stands behind a refusal of tables with replicas, which the engine's words do not say. It may pass by itself: Keeper
/// comes back, and so do replicas.
pub(super) const fn why_replicas_refuse(code: u32) -> &'static str {
    match code {
        engine::TABLE_IS_READ_ONLY => {
            " (this replica has no session with Keeper, or was not able to begin: system.replicas says why)"
        }
        engine::TOO_FEW_LIVE_REPLICAS => {
            " (insert_quorum of CLICKHOUSE_USER asks for more replicas than are in touch with Keeper: start the others, or lower it)"
        }
        engine::NO_ZOOKEEPER | engine::KEEPER_EXCEPTION => {
            " (ClickHouse has trouble with Keeper: system.replicas says more)"
        }
        _ => "",
    }
}
