//! Where an event comes from.

use stream_reply::StreamId;

/// Which entry of which stream, and whether some consumer was given it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    /// Index into the configured streams.
    pub stream: u16,
    /// Entry id.
    pub id: StreamId,
    /// Delivered before: its row may already be in the warehouse.
    pub redelivered: bool,
}
