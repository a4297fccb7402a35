//! Whose answer it is: ClickHouse's own, or that of something else at its address.

use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::http::response::Parts;

use super::StoreError;
use super::texts::shown;

/// The header that says what a request did. The engine ends the headers of every answer but a refusal with it.
const SUMMARY: &str = "x-clickhouse-summary";
const QUERY_ID: &str = "x-clickhouse-query-id";
const EXCEPTION: &str = "x-clickhouse-exception-code";

/// What the engine says of an insert. All its values are texts.
#[derive(serde::Deserialize)]
struct Summary {
    written_rows: String,
}

/// The rows that were written, by an answer that can only be the engine's: 200, no text, and the engine's own headers.
///
/// The engine counts rows as they enter a table: those that it drops as a repetition are counted too, and so are those
/// that a materialized view adds to a table of its own.
///
/// # Errors
/// Everything else. The engine's refusals by their code; what comes from no server that we know may pass.
pub(super) fn written_rows(during: &'static str, parts: &Parts, said: &str) -> Result<u64, StoreError> {
    let code = text(&parts.headers, EXCEPTION).and_then(|code| code.parse::<u32>().ok());
    let written = parts
        .headers
        .contains_key(QUERY_ID)
        .then(|| text(&parts.headers, SUMMARY))
        .flatten()
        .and_then(|summary| serde_json::from_str::<Summary>(summary).ok())
        .and_then(|summary| summary.written_rows.parse().ok());
    match (parts.status, code, written) {
        (StatusCode::OK, None, Some(rows)) if said.is_empty() => Ok(rows),
        // It began to answer before the end, as a profile may have it do, and failed then.
        (StatusCode::OK, _, Some(_)) => {
            Err(StoreError::clickhouse_away(during, in_words(parts.status, said)))
        }
        (StatusCode::OK, ..) | (_, None, _) => Err(StoreError::clickhouse_strange(
            during,
            &in_words(parts.status, said),
        )),
        (_, Some(code), _) => Err(StoreError::clickhouse_code(
            during,
            code,
            format!("{}: {}", parts.status, said.trim()),
        )),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn in_words(status: StatusCode, said: &str) -> String {
    match shown(said) {
        said if said.is_empty() => format!("the answer is {status} with no text"),
        said => format!("the answer is {status} with the text \"{said}\""),
    }
}

#[cfg(test)]
mod tests {
    use hyper::Response;

    use super::*;
    use crate::stores::FailureKind;
    use crate::stores::texts::{ELSEWHERE, SHOWN};

    const OWN: [(&str, &str); 2] = [
        (QUERY_ID, "some-id"),
        (
            SUMMARY,
            r#"{"read_rows":"3","written_rows":"3","elapsed_ns":"1"}"#,
        ),
    ];

    fn read(status: u16, headers: &[(&str, &str)], body: &str) -> Result<u64, StoreError> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let (parts, ()) = response.body(()).unwrap().into_parts();
        written_rows("testing", &parts, body)
    }

    #[test]
    fn only_the_engine_can_say_that_rows_are_written() {
        assert_eq!(read(200, &OWN, "").unwrap(), 3);
        for (status, headers, body) in [
            (200, &OWN[..1], ""),
            (200, &OWN[1..], ""),
            (200, &[], ""),
            (200, &[OWN[0], (SUMMARY, "{}")], ""),
            (200, &[OWN[0], (SUMMARY, r#"{"written_rows":3}"#)], ""),
            (204, &OWN, ""),
            (302, &OWN, ""),
            (400, &[], "Code: 27. DB::Exception: Cannot parse"),
        ] {
            let error = read(status, headers, body).unwrap_err();
            assert_eq!(error.kind, FailureKind::Transient, "{error}");
            assert!(error.code.is_empty(), "{error}");
            assert!(error.message.contains(ELSEWHERE), "{error}");
        }
    }

    #[test]
    fn an_engine_that_fails_after_it_has_begun_to_answer_has_written_nothing() {
        let early = [OWN[0], OWN[1], (EXCEPTION, "27")];
        for (headers, body) in [
            (&early[..], ""),
            (&OWN[..], "Code: 27. DB::Exception: Cannot parse"),
        ] {
            let error = read(200, headers, body).unwrap_err();
            assert_eq!(error.kind, FailureKind::Transient, "{error}");
            assert!(!error.message.contains(ELSEWHERE), "{error}");
        }
    }

    #[test]
    fn the_engines_refusals_keep_their_code() {
        let refused = |code: &str| {
            let text = format!("Code: {code}. DB::Exception: no");
            read(500, &[(EXCEPTION, code)], &text).unwrap_err()
        };
        let error = refused("252");
        assert_eq!((error.kind, error.code.as_str()), (FailureKind::Transient, "252"));
        let error = refused("469");
        assert_eq!((error.kind, error.code.as_str()), (FailureKind::Poison, "469"));
    }

    #[test]
    fn what_a_stranger_says_is_cut_and_cannot_steer_a_terminal() {
        let page = format!("\u{1b}[31m<html>\r\n{}", "Ж".repeat(500));
        let error = read(200, &[], &page).unwrap_err();
        assert!(!error.message.chars().any(char::is_control), "{error}");
        assert!(
            error.message.contains("200 OK") && error.message.contains("<html>"),
            "{error}"
        );
        assert!(error.message.ends_with(ELSEWHERE), "{error}");
        assert_eq!(
            error.message.matches('Ж').count(),
            SHOWN - "\u{1b}[31m<html>\r\n".chars().count()
        );
    }
}
