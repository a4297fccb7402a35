//! When a write or a merge happened.

use std::fmt;

use serde::{Deserialize, Serialize};
use stream_reply::StreamId;

use crate::config::PropertyOrder;

/// Orders writes and merges: event time, never later than the entry's arrival, then the entry id. Ordered by arrival,
/// the entry id alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(i64, u64, u64);

impl Version {
    /// Older than every write.
    pub const OLDEST: Self = Self(i64::MIN, 0, 0);
    /// Newer than every write.
    pub const NEWEST: Self = Self(i64::MAX, u64::MAX, u64::MAX);

    /// The version of what an event says. A clock that runs ahead cannot pin a value into the future.
    pub fn new(event_time_ms: i64, entry: StreamId, order: PropertyOrder) -> Self {
        let arrival = i64::try_from(entry.ms).unwrap_or(i64::MAX);
        let time = match order {
            PropertyOrder::EventTime => event_time_ms.min(arrival),
            PropertyOrder::Arrival => arrival,
        };
        Self(time, entry.ms, entry.seq)
    }

    /// Reads what `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (time, entry) = text.split_once('/')?;
        let entry = StreamId::parse(entry.as_bytes())?;
        Some(Self(time.parse().ok()?, entry.ms, entry.seq))
    }
}

/// Event time, a slash, the entry.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.0, self.1, self.2)
    }
}
