//! A request taken apart: statement, data, parameters, settings, who asks.

use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use uuid::Uuid;

use super::framing;
use crate::engine::{EngineError, Session};

/// The most bytes that a server takes in a field of a form, unless it is told otherwise (`http_max_field_value_size`).
const MAX_FIELD_BYTES: usize = 128 << 10;

/// What a request asks for.
pub(super) struct Parsed {
    pub(super) sql: String,
    /// What follows the statement: an insert's rows.
    pub(super) data: Bytes,
    pub(super) session: Session,
    /// Format of the answer where the statement names none.
    pub(super) format: String,
    pub(super) query_id: String,
    /// Answer in ClickHouse's compressed blocks.
    pub(super) compress: bool,
    pub(super) read_only: bool,
    pub(super) user: String,
    pub(super) password: String,
}

fn bad(text: impl std::fmt::Display) -> EngineError {
    EngineError(format!("Code: 36. DB::Exception: {text}. (BAD_ARGUMENTS)"))
}

impl Parsed {
    pub(super) async fn read(request: Request, max_body: usize) -> Result<Self, EngineError> {
        let headers = request.headers().clone();
        let (user, password) = basic(&headers)?.unwrap_or_else(|| ("default".into(), String::new()));
        let mut parsed = Self {
            sql: String::new(),
            data: Bytes::new(),
            session: Session::default(),
            format: "TabSeparated".into(),
            query_id: Uuid::new_v4().to_string(),
            compress: false,
            read_only: request.method() == Method::GET,
            user,
            password,
        };
        parsed.apply_headers(&headers);
        let mut decompress = false;
        let mut url_query = None;
        let pairs = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        for (name, value) in pairs.into_owned().collect::<Vec<_>>() {
            match name.as_str() {
                "query" => url_query = Some(value),
                "decompress" => decompress = value == "1",
                _ => parsed.apply(name, value),
            }
        }
        if headers.get(header::CONTENT_ENCODING).is_some() {
            return Err(EngineError(
                "Code: 48. DB::Exception: Content-Encoding is not supported here: send plain data, or ClickHouse's \
                 blocks with decompress=1. (NOT_IMPLEMENTED)"
                    .into(),
            ));
        }
        let is_form = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"multipart/form-data"));
        if is_form {
            parsed.read_form(request, &mut url_query).await?;
            parsed.sql = url_query.unwrap_or_default();
            return Ok(parsed);
        }
        let mut body = collect(request.into_body(), max_body).await?;
        if decompress {
            body = framing::decode(&body, max_body)?.into();
        }
        (parsed.sql, parsed.data) = match url_query {
            // The statement stands in the URL, and what it works on, if anything, in the body.
            Some(query) => (query, body),
            None => super::statement::split_body(&body)?,
        };
        Ok(parsed)
    }

    fn apply_headers(&mut self, headers: &HeaderMap) {
        let text = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        if let Some(user) = text("x-clickhouse-user") {
            self.user = user;
        }
        if let Some(password) = text("x-clickhouse-key") {
            self.password = password;
        }
        if let Some(database) = text("x-clickhouse-database") {
            self.session.database = Some(database);
        }
        if let Some(format) = text("x-clickhouse-format") {
            self.format = format;
        }
    }

    /// One key of the URL. What has no meaning of its own is a setting.
    fn apply(&mut self, name: String, value: String) {
        match name.as_str() {
            "database" => self.session.database = Some(value),
            "default_format" => self.format = value,
            "query_id" => self.query_id = value,
            "user" => self.user = value,
            "password" => self.password = value,
            "compress" => self.compress = value == "1",
            // Buffering of answers and sessions: nothing here depends on them.
            "wait_end_of_query"
            | "buffer_size"
            | "http_write_exception_in_output_format"
            | "session_id"
            | "session_timeout"
            | "session_check"
            | "quota_key"
            | "role" => {}
            "readonly" => self.read_only |= value != "0",
            _ => match name.strip_prefix("param_") {
                Some(parameter) => self.session.parameters.push((parameter.to_owned(), value)),
                None => self.session.settings.push((name, value)),
            },
        }
    }

    async fn read_form(
        &mut self,
        request: Request,
        url_query: &mut Option<String>,
    ) -> Result<(), EngineError> {
        let mut form = Multipart::from_request(request, &()).await.map_err(bad)?;
        while let Some(field) = form.next_field().await.map_err(bad)? {
            let name = field.name().unwrap_or_default().to_owned();
            let value = field.text().await.map_err(bad)?;
            if value.len() > MAX_FIELD_BYTES {
                let refusal =
                    "Code: 1000. DB::Exception: HTML Form Exception: Field value too long. (POCO_EXCEPTION)";
                return Err(EngineError(refusal.into()));
            }
            match name.as_str() {
                "query" => *url_query = Some(value),
                _ => self.apply(name, value),
            }
        }
        Ok(())
    }
}

async fn collect(body: Body, max_body: usize) -> Result<Bytes, EngineError> {
    match Limited::new(body, max_body).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(EngineError(format!(
            "Code: 33. DB::Exception: the request's body could not be read: {error}. (CANNOT_READ_ALL_DATA)"
        ))),
    }
}

fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, EngineError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let invalid = || bad("the Authorization header is not Basic");
    let encoded = value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("Basic "))
        .ok_or_else(invalid)?;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .map_err(|_| invalid())?;
    let text = String::from_utf8(decoded).map_err(|_| invalid())?;
    let (user, password) = text.split_once(':').ok_or_else(invalid)?;
    Ok(Some((user.to_owned(), password.to_owned())))
}
