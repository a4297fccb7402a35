//! `GET /metrics`, if `METRICS_LISTEN` says where.
//!
//! It has no pulse: trouble with it is no reason to restart what works, and the scraper notices its silence.
//!
//! Each client takes a file of the process, which needs files for its stores. So connections are few, short, and
//! for one request; when one comes too many, the oldest has to go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Sampler;
use super::export::prometheus;
use crate::metrics::registry::snapshot;

/// Connections at a time.
const MOST_CONNECTIONS: usize = 16;
/// Longest that a connection lives, from being accepted to the end of the answer.
const LONGEST_CONNECTION: Duration = Duration::from_secs(10);
/// Pause after a connection that could not be accepted: most likely no file is left for it.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Prometheus's text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A socket, and what will be served there.
pub(crate) struct Endpoint {
    listener: TcpListener,
}

/// Takes the socket.
///
/// # Errors
/// When the address cannot be had.
pub(crate) async fn listen(address: &str) -> anyhow::Result<Endpoint> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("METRICS_LISTEN={address} cannot be listened on: give it another port"))?;
    Ok(Endpoint { listener })
}

impl Endpoint {
    /// Serves until `stop`.
    pub(crate) async fn run(self, sampler: Arc<Sampler>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = serve(self.listener, router(sampler)) => {}
        }
    }
}

/// Never ends; dropped, it closes all connections.
async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _from)) => {
                    while connections.len() >= MOST_CONNECTIONS {
                        if let Some(oldest) = oldest_first.pop_front() {
                            oldest.abort();
                        }
                        let _ended = connections.join_next().await;
                    }
                    oldest_first.push_back(connections.spawn(answer(stream, router.clone())));
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection for metrics could not be accepted");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
        oldest_first.retain(|connection| !connection.is_finished());
    }
}

/// Answers one request, if it comes in time.
async fn answer(stream: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    let serving = http
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if !matches!(
        tokio::time::timeout(LONGEST_CONNECTION, serving).await,
        Ok(Ok(()))
    ) {
        tracing::trace!("a connection for metrics was closed without an answer");
    }
}

fn router(sampler: Arc<Sampler>) -> Router {
    let text = move || {
        // What costs nothing to know is true at the moment of asking.
        sampler.instance();
        std::future::ready(([(CONTENT_TYPE, TEXT)], prometheus::text(&snapshot())))
    };
    Router::new().route("/metrics", get(text))
}
