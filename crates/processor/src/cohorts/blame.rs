//! What an error of a cohort's query is about, and what may be repeated of it.

use crate::stores::{FailureKind, StoreError, engine};

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The store: every query would fail.
    Store,
    /// This query.
    Query,
    /// The error itself does not say: the store has to be asked.
    Unknown,
}

/// Reads an error of ClickHouse.
pub(super) fn about(error: &StoreError) -> About {
    if error.kind == FailureKind::Poison {
        return About::Query;
    }
    match error.engine_code() {
        None => About::Unknown,
        Some(code) if is_of_the_store(code) => About::Store,
        // The whole server's memory, not what this query may use.
        Some(engine::MEMORY_LIMIT_EXCEEDED) if error.message.contains("(total)") => About::Store,
        // Its own time and memory among them. So is what some queries meet and others do not, such as a broken part or a
        // table that may not be read: as the store's it would keep all cohorts from being computed.
        Some(_) => About::Query,
    }
}

/// Whether anything else that was asked of the engine just now would have ended like this.
fn is_of_the_store(code: u32) -> bool {
    let is_busy = matches!(
        code,
        engine::QUOTA_EXCEEDED
            | engine::TOO_MANY_SIMULTANEOUS_QUERIES
            | engine::TOO_MANY_PARTS
            | engine::CANNOT_SCHEDULE_TASK
            | engine::SERVER_OVERLOADED
    );
    let is_full = matches!(
        code,
        engine::CANNOT_WRITE_TO_FILE_DESCRIPTOR
            | engine::CANNOT_ALLOCATE_MEMORY
            | engine::NOT_ENOUGH_SPACE
            | engine::S3_ERROR
    );
    let takes_no_writes = matches!(
        code,
        engine::READONLY
            | engine::TABLE_IS_READ_ONLY
            | engine::TABLE_IS_PERMANENTLY_READ_ONLY
            | engine::AUTHENTICATION_FAILED
    );
    let was_cut_off = matches!(
        code,
        engine::SOCKET_TIMEOUT
            | engine::NETWORK_ERROR
            | engine::ABORTED
            | engine::ALL_CONNECTION_TRIES_FAILED
            | engine::QUERY_WAS_CANCELLED
            | engine::QUERY_WAS_CANCELLED_BY_CLIENT
    );
    let is_about_replicas = matches!(
        code,
        engine::NO_ZOOKEEPER
            | engine::UNEXPECTED_ZOOKEEPER_ERROR
            | engine::TOO_FEW_LIVE_REPLICAS
            | engine::UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
            | engine::UNKNOWN_STATUS_OF_INSERT
            | engine::KEEPER_EXCEPTION
    );
    is_busy || is_full || takes_no_writes || was_cut_off || is_about_replicas
}

/// The same error with the engine's own words only, without the query that they may repeat.
pub(super) fn without_query(mut error: StoreError) -> StoreError {
    const QUERY_FOLLOWS: [&str; 5] = [
        "in scope",
        "while processing",
        "while executing",
        "(in query",
        "failed at position",
    ];
    // In ASCII only, so that places stay what they are.
    let lower = error.message.to_ascii_lowercase();
    if let Some(end) = QUERY_FOLLOWS.iter().filter_map(|mark| lower.find(mark)).min() {
        let kept = error.message[..end].trim_end_matches([' ', ':', ',', '(']).len();
        error.message.truncate(kept);
    }
    error
}

#[cfg(test)]
mod tests {
    use crate::stores::Store;

    use super::*;

    fn error(code: &str, message: &str) -> StoreError {
        StoreError::transient(Store::ClickHouse, "test", message.to_owned()).with_code(code)
    }

    #[test]
    fn an_error_is_told_without_the_query() {
        for (message, told) in [
            (
                "Code: 47. DB::Exception: Unknown identifier `x`: In scope SELECT x FROM y. (UNKNOWN_IDENTIFIER)",
                "Code: 47. DB::Exception: Unknown identifier `x`",
            ),
            (
                "Code: 47. DB::Exception: Unknown expression identifier `x` in scope SELECT x. (UNKNOWN_IDENTIFIER)",
                "Code: 47. DB::Exception: Unknown expression identifier `x`",
            ),
            (
                "Code: 62. DB::Exception: Syntax error: failed at position 8 (secret): secret. Expected one of",
                "Code: 62. DB::Exception: Syntax error",
            ),
            (
                "Code: 27. DB::Exception: Cannot parse: While executing MergeTree",
                "Code: 27. DB::Exception: Cannot parse",
            ),
            (
                "Code: 53. DB::Exception: Wrong type: while processing query: 'SELECT 1'",
                "Code: 53. DB::Exception: Wrong type",
            ),
            (
                "Code: 241. DB::Exception: too much",
                "Code: 241. DB::Exception: too much",
            ),
        ] {
            assert_eq!(without_query(error("1", message)).message, told);
        }
    }

    #[test]
    fn only_what_would_fail_for_every_cohort_is_about_the_store() {
        for code in [
            "75", "164", "173", "201", "202", "209", "210", "225", "236", "242", "243", "244", "252", "279",
            "285", "286", "319", "394", "439", "499", "516", "735", "745", "774", "999",
        ] {
            assert_eq!(about(&error(code, "x")), About::Store, "{code}");
        }
        let total = "Code: 241. DB::Exception: (total) memory limit exceeded";
        assert_eq!(about(&error("241", total)), About::Store);
        let own = "Code: 241. DB::Exception: Query memory limit exceeded";
        assert_eq!(about(&error("241", own)), About::Query);
        // Limits of its own, a pattern, a broken part, a table that may not be read.
        for code in ["158", "159", "160", "427", "246", "497"] {
            assert_eq!(about(&error(code, "x")), About::Query, "{code}");
        }
        assert_eq!(about(&error("", "connection closed")), About::Unknown);
        let poison = StoreError::poison(Store::ClickHouse, "test", "x".into());
        assert_eq!(about(&poison), About::Query);
    }
}
