//! The shared connection to one server: opened at the first command, and again after every loss.

use std::sync::Arc;
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};
use tokio::sync::Mutex;

use super::greet::{Credentials, open};
use super::primary::Dialer;
use crate::config::Node;

/// What servers answer that are no primary any more: another one is, which a new connection finds. And that of a connection
/// on which nobody has said who we are.
const ANEW: [&str; 4] = ["READONLY", "MASTERDOWN", "UNBLOCKED", "NOAUTH"];

/// A connection that is opened again after every loss. A command during an outage fails at once: trying again belongs to
/// the caller.
pub(super) struct Link {
    dialer: Arc<Dialer>,
    /// One node of a cluster; without it, the primary.
    node: Option<Node>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<MultiplexedConnection>,
    /// Counts connections, so that a late error of an old one does not close its successor.
    number: u64,
    /// When connecting failed last. Who waited for that attempt fails with it, and does not try one after another.
    failed: Option<(Instant, RedisError)>,
}

impl Link {
    pub(super) fn new(dialer: Arc<Dialer>) -> Self {
        Self {
            dialer,
            node: None,
            state: Mutex::default(),
        }
    }

    /// To one node of a cluster.
    pub(super) fn to(dialer: Arc<Dialer>, node: Node) -> Self {
        Self {
            dialer,
            node: Some(node),
            state: Mutex::default(),
        }
    }

    /// The connection, and its number.
    pub(super) async fn get(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(live) = &state.live {
            return Ok((state.number, live.clone()));
        }
        if let Some((at, error)) = &state.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        let config = self.dialer.config();
        let who = Credentials::of(config).await.at(config.database);
        let socket = async {
            match &self.node {
                Some(node) => self.dialer.node(node).await,
                None => self.dialer.primary().await,
            }
        };
        // Boxed: most commands find a connection, and do not carry this.
        match Box::pin(open(socket, &who)).await {
            Ok(connection) => {
                state.number += 1;
                state.live = Some(connection.clone());
                Ok((state.number, connection))
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Looks at what became of a command: after some errors the connection is of no further use.
    pub(super) async fn look_at(&self, number: u64, error: &RedisError) {
        let is_lost = error.is_unrecoverable_error()
            || error.is_timeout()
            || error.code().is_some_and(|code| ANEW.contains(&code));
        if is_lost {
            let mut state = self.state.lock().await;
            if state.number == number {
                state.live = None;
            }
        }
    }
}
