//! ClickHouse's HTTP interface in front of the engine.

mod answer;
mod framing;
mod request;
mod statement;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, Response};
use tokio::sync::Semaphore;

use crate::engine::{Engine, EngineError, Outcome};
use request::Parsed;
use statement::Statement;

/// What every request shares.
#[derive(Clone)]
pub struct Service {
    engine: Engine,
    access: Arc<Access>,
    places: Arc<Semaphore>,
    max_body: usize,
}

/// Who may ask.
struct Access {
    user: String,
    password: String,
}

impl Service {
    /// A service for one user.
    pub fn new(
        engine: Engine,
        user: String,
        password: String,
        max_body: usize,
        max_concurrent: usize,
    ) -> Self {
        let access = Arc::new(Access { user, password });
        Self {
            engine,
            access,
            places: Arc::new(Semaphore::new(max_concurrent)),
            max_body,
        }
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new().fallback(handle).with_state(self)
    }
}

async fn handle(State(service): State<Service>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let asks = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("query="));
    match (request.method(), path.as_str()) {
        (&Method::GET | &Method::HEAD, "/ping" | "/replicas_status") => return answer::plain("Ok.\n"),
        (&Method::GET | &Method::HEAD, "/") if !asks => return answer::plain("Ok.\n"),
        (&Method::GET | &Method::POST, "/") => {}
        (method, path) => {
            return answer::error(&EngineError(format!(
                "Code: 48. DB::Exception: there is no handler for {method} {path}. (NOT_IMPLEMENTED)"
            )));
        }
    }
    let parsed = match Parsed::read(request, service.max_body).await {
        Ok(parsed) => parsed,
        Err(error) => return answer::error(&error),
    };
    if parsed.user != service.access.user || parsed.password != service.access.password {
        return answer::error(&EngineError(format!(
            "Code: 516. DB::Exception: {}: Authentication failed: password is incorrect, or there is no user with such \
             name. (AUTHENTICATION_FAILED)",
            parsed.user
        )));
    }
    let (query_id, compress, format) = (parsed.query_id.clone(), parsed.compress, parsed.format.clone());
    match service.execute(parsed).await {
        Ok(outcome) => answer::rows(outcome, &query_id, &format, compress),
        Err(error) => answer::error(&error),
    }
}

impl Service {
    /// Runs the statement on a thread that may block.
    async fn execute(self, parsed: Parsed) -> Result<Outcome, EngineError> {
        let failed = |what: &str| EngineError(format!("Code: 1002. DB::Exception: {what}"));
        let place = self
            .places
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| failed("shutting down"))?;
        let engine = self.engine.clone();
        let access = self.access.clone();
        let task = tokio::task::spawn_blocking(move || {
            let result = match Statement::of(&parsed.sql, parsed.data)? {
                Statement::Insert { sql, format, data } => {
                    engine.insert(&parsed.session, &sql, &format, &data)
                }
                Statement::Other { .. } if parsed.read_only && !statement::reads_only(&parsed.sql) => {
                    Err(EngineError(
                        "Code: 164. DB::Exception: Cannot execute query in readonly mode. For queries over HTTP, method \
                         GET implies readonly. You should use method POST for modifying queries. (READONLY)"
                            .into(),
                    ))
                }
                Statement::Other { sql } => {
                    let sql = statement::without_credentials(&sql, &access.user, &access.password);
                    engine.query(&parsed.session, &sql, &parsed.format)
                }
            };
            drop(place);
            result
        });
        task.await.map_err(|error| failed(&error.to_string()))?
    }
}
