//! Answers as ClickHouse gives them: status, headers, and the engine's own words for errors.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};

use super::framing;
use crate::engine::{EngineError, Outcome};

pub(super) fn plain(text: &'static str) -> Response<Body> {
    Response::new(Body::from(text))
}

/// Rows, or nothing, in the requested format.
pub(super) fn rows(outcome: Outcome, query_id: &str, format: &str, compress: bool) -> Response<Body> {
    let summary = format!(
        r#"{{"read_rows":"{}","read_bytes":"{}","written_rows":"{}","written_bytes":"{}"}}"#,
        outcome.rows_read, outcome.bytes_read, outcome.rows_written, outcome.bytes_written
    );
    let body = if compress {
        framing::encode(&outcome.body)
    } else {
        outcome.body
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-clickhouse-query-id", query_id),
        ("x-clickhouse-format", format),
        ("x-clickhouse-summary", &summary),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// An error: its text is the body, its code a header.
pub(super) fn error(error: &EngineError) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{}\n", error.0.trim_end())));
    *response.status_mut() = status(error.code());
    let headers = response.headers_mut();
    headers.insert("x-clickhouse-exception-code", HeaderValue::from(error.code()));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=UTF-8"),
    );
    response
}

/// The server's mapping of codes: who is asking, what is asked for, how it is asked, and everything else.
fn status(code: u32) -> StatusCode {
    match code {
        192 | 193 | 194 | 516 => StatusCode::FORBIDDEN,
        46 | 47 | 50 | 56 | 60 | 81 | 115 => StatusCode::NOT_FOUND,
        6 | 25 | 26 | 27 | 33 | 36 | 38 | 40 | 41 | 43 | 53 | 62 | 69 | 70 | 72 | 117 | 130 | 131 | 271
        | 349 | 376 | 441 | 456 | 457 => StatusCode::BAD_REQUEST,
        48 => StatusCode::NOT_IMPLEMENTED,
        209 | 439 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
