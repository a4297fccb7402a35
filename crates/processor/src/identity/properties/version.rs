//! When a write happened.

use serde::{Deserialize, Serialize};
use stream_reply::StreamId;

use crate::config::PropertyOrder;

/// Orders the writes of a key: event time, never later than the entry's arrival, then the entry id. Ordered by arrival,
/// the entry id alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(i64, u64, u64);

impl Version {
    /// Older than every write.
    pub(super) const OLDEST: Self = Self(i64::MIN, 0, 0);

    /// The version of what an event writes. A clock that runs ahead cannot pin a value into the future.
    pub fn new(event_time_ms: i64, entry: StreamId, order: PropertyOrder) -> Self {
        let arrival = entry.ms as i64;
        let time = match order {
            PropertyOrder::EventTime => event_time_ms.min(arrival),
            PropertyOrder::Arrival => arrival,
        };
        Self(time, entry.ms, entry.seq)
    }

    /// The entry that wrote.
    pub(super) fn entry(self) -> StreamId {
        StreamId::new(self.1, self.2)
    }
}
