//! Where an event comes from: which entry of which stream.

use stream_reply::StreamId;

/// A stream entry, and whether the group gave it to some consumer before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    /// Index into the configured streams.
    pub stream: u16,
    /// The id of the entry.
    pub id: StreamId,
    /// Delivered before: its row may already be in the warehouse.
    pub redelivered: bool,
}
