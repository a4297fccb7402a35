//! When a write or a merge happened.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};
use stream_reply::StreamId;

use crate::config::PropertyOrder;
use crate::event::Source;

/// Orders writes and merges: event time, never later than the entry's arrival, then the entry id. Ordered by arrival, the
/// entry id alone.
///
/// Streams number their entries each for itself, so two of them may hold the same id. A stream is known by its place among
/// those that are configured; so a list of streams may grow at its end. The place is in the highest bits of the sequence
/// number ([`PLACE`]), so that a version has the same three numbers whichever stream it is of, and earlier versions of this
/// program, which know nothing of places, read and keep it. Of the first stream nothing is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(i64, u64, u64);

/// The lowest bit of a stream's place in a sequence number. Redis counts from 0 in each millisecond and comes nowhere near;
/// should a producer choose such ids itself, the versions of one stream still differ from each other.
const PLACE: u32 = u64::BITS - u16::BITS;

impl Version {
    /// Older than every write.
    pub const OLDEST: Self = Self(i64::MIN, 0, 0);
    /// Newer than every write.
    pub const NEWEST: Self = Self(i64::MAX, u64::MAX, u64::MAX);

    /// The version of what an event of the first stream says. A clock that runs ahead cannot pin a value into the future.
    pub fn new(event_time_ms: i64, entry: StreamId, order: PropertyOrder) -> Self {
        let arrival = i64::try_from(entry.ms).unwrap_or(i64::MAX);
        let time = match order {
            PropertyOrder::EventTime => event_time_ms.min(arrival),
            PropertyOrder::Arrival => arrival,
        };
        Self(time, entry.ms, entry.seq)
    }

    /// The version of what an event says that came from there.
    pub fn of(event_time_ms: i64, source: Source, order: PropertyOrder) -> Self {
        let Self(time, ms, seq) = Self::new(event_time_ms, source.id, order);
        Self(time, ms, seq ^ (u64::from(source.stream) << PLACE))
    }

    /// Reads what `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (time, entry) = text.split_once('/')?;
        let entry = StreamId::parse(entry.as_bytes())?;
        Some(Self(time.parse().ok()?, entry.ms, entry.seq))
    }

    /// Appends what has to be added to another version to get this one.
    pub(super) fn push_difference(self, from: Self, text: &mut String) {
        let time = self.0.wrapping_sub(from.0);
        // An entry arrives about as long after its event as the one before it.
        let delay = self.1.wrapping_sub(from.1).cast_signed().wrapping_sub(time);
        let seq = self.2.wrapping_sub(from.2).cast_signed();
        let parts = [time, delay, seq];
        let shown = parts.iter().rposition(|part| *part != 0).unwrap_or(0) + 1;
        for (n, part) in parts[..shown].iter().enumerate() {
            if n > 0 {
                text.push('.');
            }
            // A string takes whatever is written.
            let _ = write!(text, "{part}");
        }
    }

    /// Reads what [`Version::push_difference`] writes.
    pub(super) fn plus(self, difference: &str) -> Option<Self> {
        let mut parts = difference.split('.');
        let mut part = || parts.next().map_or(Some(0), |part| part.parse::<i64>().ok());
        let (time, delay, seq) = (part()?, part()?, part()?);
        Some(Self(
            self.0.wrapping_add(time),
            self.1.wrapping_add_signed(time.wrapping_add(delay)),
            self.2.wrapping_add_signed(seq),
        ))
    }
}

/// Event time, a slash, the entry.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_version() -> impl Strategy<Value = Version> {
        let near = (0..50_i64, 0..50_u64, 0..3_u64);
        let far = (any::<i64>(), any::<u64>(), any::<u64>());
        prop_oneof![near, far].prop_map(|(time, ms, seq)| Version(time, ms, seq))
    }

    fn version(stream: u16, seq: u64) -> Version {
        let source = Source {
            stream,
            id: StreamId::new(7, seq),
            redelivered: false,
        };
        Version::of(5, source, PropertyOrder::EventTime)
    }

    #[test]
    fn entries_of_two_streams_have_two_versions_that_earlier_versions_read() {
        let (first, second) = (version(0, 1), version(1, 1));
        assert!(first < version(0, 2));
        assert!(first < second && second < version(1, 2));
        assert!(second < version(2, 0) && version(u16::MAX, u64::MAX >> 16) < Version::NEWEST);
        assert_ne!(version(1, 3 << 48), version(1, 2 << 48));
        assert_eq!(
            first,
            Version::new(5, StreamId::new(7, 1), PropertyOrder::EventTime)
        );
        assert_eq!(serde_json::to_string(&first).unwrap(), "[5,7,1]");
        assert_eq!(first.to_string(), "5/7-1");
        // As `#[derive(Deserialize)]` and the moves of earlier versions read them.
        let stored = serde_json::to_string(&second).unwrap();
        assert_eq!(stored, "[5,7,281474976710657]");
        assert!(serde_json::from_str::<(i64, u64, u64)>(&stored).is_ok());
        assert_eq!(second.to_string(), "5/7-281474976710657");
        assert!(serde_json::from_str::<Version>("[5,7]").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(version in any_version(), other in any_version()) {
            prop_assert_eq!(Version::parse(&version.to_string()), Some(version));
            let json = serde_json::to_string(&version).unwrap();
            prop_assert_eq!(serde_json::from_str::<Version>(&json).unwrap(), version);
            let mut difference = String::new();
            version.push_difference(other, &mut difference);
            prop_assert_eq!(other.plus(&difference), Some(version));
        }
    }
}
