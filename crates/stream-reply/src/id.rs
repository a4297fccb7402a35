//! The id of a stream entry, parsed once and then compared as two numbers.

use std::fmt;
use std::str::FromStr;

/// Longest text of an id: two 20-digit numbers and the dash.
pub(crate) const LONGEST_ID: usize = 41;

/// The id of a stream entry. Ids are ordered like the entries of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    /// Milliseconds since the epoch. Of ids that the server made, by its clock.
    pub ms: u64,
    /// Sequence number among the entries of one millisecond.
    pub seq: u64,
}

/// A text that is not `milliseconds-sequence`, two decimal numbers below 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a stream id: write it as milliseconds-sequence, such as 1714521600000-0")]
pub struct InvalidStreamId;

impl StreamId {
    /// `0-0`: lower than the id of every entry; also the cursor of a finished `XAUTOCLAIM` pass.
    pub const MIN: Self = Self::new(0, 0);
    /// The highest id that a stream can hold.
    pub const MAX: Self = Self::new(u64::MAX, u64::MAX);

    /// The id with these two parts.
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// Reads `milliseconds-sequence`; `None` when the bytes are anything else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (ms, rest) = leading_number(text)?;
        let (seq, rest) = leading_number(rest.strip_prefix(b"-")?)?;
        rest.is_empty().then_some(Self { ms, seq })
    }
}

/// The decimal number at the front and what follows it.
fn leading_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    // Fewer than 20 digits cannot overflow.
    if digits < 20 {
        let value = number
            .iter()
            .fold(0, |value, byte| value * 10 + u64::from(byte - b'0'));
        return (digits > 0).then_some((value, rest));
    }
    let value = number.iter().try_fold(0u64, |value, byte| {
        value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })?;
    Some((value, rest))
}

impl fmt::Display for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for StreamId {
    type Err = InvalidStreamId;

    fn from_str(text: &str) -> Result<Self, InvalidStreamId> {
        Self::parse(text.as_bytes()).ok_or(InvalidStreamId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes() {
        for id in [StreamId::MIN, StreamId::MAX, StreamId::new(1_714_521_600_000, 7)] {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert!(id.to_string().len() <= LONGEST_ID);
        }
    }

    #[test]
    fn ids_order_by_milliseconds_then_sequence() {
        assert!(StreamId::new(9, 100) < StreamId::new(10, 0));
        assert!(StreamId::new(10, 2) < StreamId::new(10, 10));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let wrong = [
            "",
            "-",
            "5",
            "5-",
            "-5",
            "5-1 ",
            " 5-1",
            "+5-1",
            "5--1",
            "5-1-1",
            "0x5-1",
            "18446744073709551616-0",
            "0-18446744073709551616",
            "99999999999999999999999-0",
        ];
        for text in wrong {
            assert_eq!(text.parse::<StreamId>(), Err(InvalidStreamId), "{text:?}");
        }
    }
}
