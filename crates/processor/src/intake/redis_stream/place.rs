//! Where a stream is read: at the node that has its slot, or, while the slot is on its way, at the one that takes it over.
//!
//! One of them alone is read at a time. Each connection begins at the owner, and only the owner's `ASK` leads to the other node:
//! it says that the stream is not here any more, and new entries are not added here any more either. The other node takes a
//! command then only when it says so (`ASKING`). What it answers other than that leads back to the owner, and so does time:
//! a move may be taken back.

use std::io;
use std::time::{Duration, Instant};

use crate::config::Node;
use crate::stores::{Redis, Socket, StoreError, asked_node};

use super::connection::ConnectionError;
use super::trouble::{DURING, Trouble};

/// What a node says that does not have a slot, or not all of its keys, or from which a stream has just gone.
const OF_A_MOVE: [&str; 4] = ["ASK", "MOVED", "TRYAGAIN", "UNBLOCKED"];

/// A move that takes longer has been broken off, perhaps.
const TOO_LONG: Duration = Duration::from_secs(30);

/// Where one stream is read, and what the last session found out about that.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The node that the connection leads to; nothing where there is one server.
    node: Option<Node>,
    /// The node to go to next, as the owner says.
    taker: Option<Node>,
    /// A node that is not the owner, and when it was gone to last.
    read_at: Option<(Node, Instant)>,
    /// Since when reading waits.
    waits: Option<Instant>,
}

impl Place {
    /// A socket to where the stream is to be read, and whether that is the node that takes its slot over.
    pub(super) async fn socket(
        &mut self,
        redis: &Redis,
        stream: &str,
    ) -> io::Result<(Box<dyn Socket>, bool)> {
        if let Some(taker) = self.taker.take() {
            let socket = redis.socket_at(&taker).await?;
            let is_known = self
                .read_at
                .as_ref()
                .is_some_and(|(node, at)| *node == taker && at.elapsed() < TOO_LONG);
            if !is_known {
                tracing::info!(stream, node = %taker, "the stream's slot is on its way to another node: reading it there");
            }
            self.read_at = Some((taker.clone(), Instant::now()));
            self.node = Some(taker);
            return Ok((socket, true));
        }
        let (socket, node) = redis.socket_to(stream).await?;
        self.node = node;
        Ok((socket, false))
    }

    /// Takes in why a session ended. Whether reading goes on at once, at the node that the owner named.
    pub(super) fn follows(&mut self, trouble: &Trouble) -> bool {
        let node = self.node.take();
        self.taker = node
            .zip(said(trouble))
            .and_then(|(by, said)| asked_node(said, &by));
        self.taker.is_some()
    }

    /// Whether a session ended only because the slot is on its way, which passes by itself. Says so once.
    pub(super) fn is_on_its_way(&mut self, redis: &Redis, stream: &str, trouble: &Trouble) -> bool {
        let is_on_its_way = redis.is_cluster()
            && match trouble {
                Trouble::Store(StoreError { code, .. }) => OF_A_MOVE.contains(&code.as_str()),
                trouble => {
                    said(trouble).is_some_and(|said| OF_A_MOVE.iter().any(|code| said.starts_with(code)))
                }
            };
        if !is_on_its_way {
            return false;
        }
        if self.waits.is_none() {
            tracing::info!(
                stream, error = %trouble,
                "the stream's slot is on its way to another node: reading waits until its keys are together"
            );
            self.waits = Some(Instant::now());
        }
        true
    }

    /// What is the matter with a stream that has not been read for so long because its slot is on its way that somebody has to
    /// end the move.
    pub(super) fn is_broken_off(&self, stream: &str, trouble: &Trouble) -> Option<StoreError> {
        self.waits.filter(|since| since.elapsed() > TOO_LONG)?;
        Some(StoreError::apart(DURING, stream, &trouble.to_string()))
    }

    /// Something was read.
    pub(super) fn is_right(&mut self, stream: &str) {
        if let Some(since) = self.waits.take() {
            let for_ms = since.elapsed().as_millis() as u64;
            tracing::info!(stream, for_ms, "the stream's keys are together: it is read again");
        }
    }
}

/// What the server of the connection has said.
fn said(trouble: &Trouble) -> Option<&str> {
    match trouble {
        Trouble::Connection(ConnectionError::Refused(said)) => Some(said),
        Trouble::Refused { message, .. } => Some(message),
        _ => None,
    }
}
