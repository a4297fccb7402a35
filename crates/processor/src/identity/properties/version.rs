//! When a write or a merge happened.

use std::fmt::{self, Write};

use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stream_reply::StreamId;

use crate::config::PropertyOrder;
use crate::event::Source;

/// Orders writes and merges: event time, never later than the entry's arrival, then the entry id, then the stream.
/// Ordered by arrival, the entry id and the stream alone.
///
/// Streams number their entries each for itself, so two of them may hold the same id. A stream is known by its place among
/// those that are configured; what is stored without one is of the first. So a list of streams may grow at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    time: i64,
    ms: u64,
    seq: u64,
    stream: u16,
}

impl Version {
    /// Older than every write.
    pub const OLDEST: Self = Self {
        time: i64::MIN,
        ms: 0,
        seq: 0,
        stream: 0,
    };
    /// Newer than every write.
    pub const NEWEST: Self = Self {
        time: i64::MAX,
        ms: u64::MAX,
        seq: u64::MAX,
        stream: u16::MAX,
    };

    /// The version of what an event of the first stream says. A clock that runs ahead cannot pin a value into the future.
    pub fn new(event_time_ms: i64, entry: StreamId, order: PropertyOrder) -> Self {
        let arrival = i64::try_from(entry.ms).unwrap_or(i64::MAX);
        let time = match order {
            PropertyOrder::EventTime => event_time_ms.min(arrival),
            PropertyOrder::Arrival => arrival,
        };
        Self {
            time,
            ms: entry.ms,
            seq: entry.seq,
            stream: 0,
        }
    }

    /// The version of what an event says that came from there.
    pub fn of(event_time_ms: i64, source: Source, order: PropertyOrder) -> Self {
        Self {
            stream: source.stream,
            ..Self::new(event_time_ms, source.id, order)
        }
    }

    /// Reads what `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (time, entry) = text.split_once('/')?;
        let (entry, stream) = entry.split_once('@').unwrap_or((entry, "0"));
        let entry = StreamId::parse(entry.as_bytes())?;
        Some(Self {
            time: time.parse().ok()?,
            ms: entry.ms,
            seq: entry.seq,
            stream: stream.parse().ok()?,
        })
    }

    /// Appends what has to be added to another version to get this one.
    pub(super) fn push_difference(self, from: Self, text: &mut String) {
        let time = self.time.wrapping_sub(from.time);
        // An entry arrives about as long after its event as the one before it.
        let delay = self.ms.wrapping_sub(from.ms).cast_signed().wrapping_sub(time);
        let seq = self.seq.wrapping_sub(from.seq).cast_signed();
        let stream = i64::from(self.stream) - i64::from(from.stream);
        let parts = [time, delay, seq, stream];
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
        let (time, delay, seq, stream) = (part()?, part()?, part()?, part()?);
        Some(Self {
            time: self.time.wrapping_add(time),
            ms: self.ms.wrapping_add_signed(time.wrapping_add(delay)),
            seq: self.seq.wrapping_add_signed(seq),
            stream: u16::try_from(i64::from(self.stream).wrapping_add(stream)).ok()?,
        })
    }
}

/// Event time, a slash, the entry; of another stream than the first also which.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.time, self.ms, self.seq)?;
        match self.stream {
            0 => Ok(()),
            stream => write!(f, "@{stream}"),
        }
    }
}

/// Three numbers; of another stream than the first four.
impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(if self.stream == 0 { 3 } else { 4 })?;
        tuple.serialize_element(&self.time)?;
        tuple.serialize_element(&self.ms)?;
        tuple.serialize_element(&self.seq)?;
        if self.stream != 0 {
            tuple.serialize_element(&self.stream)?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;

        impl<'de> Visitor<'de> for Numbers {
            type Value = Version;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("three or four numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Version, A::Error> {
                let missing = |n| move || de::Error::invalid_length(n, &"three or four numbers");
                Ok(Version {
                    time: numbers.next_element()?.ok_or_else(missing(0))?,
                    ms: numbers.next_element()?.ok_or_else(missing(1))?,
                    seq: numbers.next_element()?.ok_or_else(missing(2))?,
                    stream: numbers.next_element()?.unwrap_or(0),
                })
            }
        }

        deserializer.deserialize_seq(Numbers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_version() -> impl Strategy<Value = Version> {
        let near = (0..50_i64, 0..50_u64, 0..3_u64, 0..3_u16);
        let far = (any::<i64>(), any::<u64>(), any::<u64>(), any::<u16>());
        prop_oneof![near, far].prop_map(|(time, ms, seq, stream)| Version {
            time,
            ms,
            seq,
            stream,
        })
    }

    #[test]
    fn entries_of_two_streams_have_two_versions_and_what_is_stored_without_one_is_of_the_first() {
        let source = |stream| Source {
            stream,
            id: StreamId::new(7, 1),
            redelivered: false,
        };
        let [first, second] = [0, 1].map(|n| Version::of(5, source(n), PropertyOrder::EventTime));
        assert!(first < second);
        assert!(second < Version::new(5, StreamId::new(7, 2), PropertyOrder::EventTime));
        assert_eq!(serde_json::from_str::<Version>("[5,7,1]").unwrap(), first);
        assert_eq!(Version::parse("5/7-1"), Some(first));
        assert_eq!(
            (first.to_string(), second.to_string()),
            ("5/7-1".into(), "5/7-1@1".into())
        );
        assert_eq!(serde_json::to_string(&first).unwrap(), "[5,7,1]");
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
