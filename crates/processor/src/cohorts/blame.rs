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
        Some(
            engine::TOO_MANY_SIMULTANEOUS_QUERIES
            | engine::NETWORK_ERROR
            | engine::ABORTED
            | engine::TABLE_IS_READ_ONLY
            | engine::TOO_MANY_PARTS
            | engine::ALL_CONNECTION_TRIES_FAILED
            | engine::QUERY_WAS_CANCELLED
            | engine::KEEPER_EXCEPTION,
        ) => About::Store,
        // The whole server's memory, not what this query may use.
        Some(engine::MEMORY_LIMIT_EXCEEDED) if error.message.contains("(total)") => About::Store,
        Some(_) => About::Query,
    }
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
        for code in ["202", "210", "236", "242", "252", "279", "394", "999"] {
            assert_eq!(about(&error(code, "x")), About::Store, "{code}");
        }
        let total = "Code: 241. DB::Exception: (total) memory limit exceeded";
        assert_eq!(about(&error("241", total)), About::Store);
        let own = "Code: 241. DB::Exception: Query memory limit exceeded";
        assert_eq!(about(&error("241", own)), About::Query);
        assert_eq!(about(&error("427", "x")), About::Query);
        assert_eq!(about(&error("", "connection closed")), About::Unknown);
        let poison = StoreError::poison(Store::ClickHouse, "test", "x".into());
        assert_eq!(about(&poison), About::Query);
    }
}
