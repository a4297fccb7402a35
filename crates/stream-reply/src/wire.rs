//! Reads protocol elements off the front of the bytes that have arrived. It never consumes half an element and trusts no
//! length: whether as many bytes as claimed are stored is the caller's decision.

use std::ops::RangeBounds;

use crate::error::DecodeError;
use crate::id::StreamId;

/// Most digits of a length: too few to overflow a `u64`. No server sends longer ones.
const MOST_DIGITS: usize = 18;
/// Most digits of the length of a string that is read at once.
const FEW_DIGITS: usize = 8;
/// Longest status or error line.
const LONGEST_LINE: usize = 64 << 10;
/// Most of the offending bytes that an error shows.
const EXCERPT: usize = 40;

/// The header of the next element: its kind and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// A string of this many bytes follows.
    Bulk(u64),
    /// A list of this many elements follows.
    Array(u64),
    /// A map of this many pairs follows.
    Map(u64),
    /// A nil, in any of its spellings.
    Nil,
    /// A line follows, which begins with `+`, `-` or `:`. It is not consumed yet.
    Line(u8),
}

/// A length as it is written, where -1 stands for nil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// A nil, which is not the same as an empty string or list.
    Nil,
    /// This many bytes, elements or pairs follow.
    Of(u64),
}

impl Length {
    /// The length of a list that may be nil, which means the same as empty.
    pub(crate) const fn or_zero(self) -> u64 {
        match self {
            Self::Nil => 0,
            Self::Of(length) => length,
        }
    }
}

/// A position in the bytes that have arrived.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    /// Bytes consumed so far.
    pub(crate) position: usize,
    /// Bytes of the reply that came before `bytes`, for errors.
    base: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8], base: u64) -> Self {
        Self {
            bytes,
            position: 0,
            base,
        }
    }

    /// Reads the next header; `None` while it is incomplete.
    #[inline]
    pub(crate) fn header(&mut self, place: &'static str) -> Result<Option<Header>, DecodeError> {
        let Some(&kind) = self.bytes.get(self.position) else {
            return Ok(None);
        };
        match kind {
            b'$' | b'*' | b'%' => {
                let Some(length) = self.length(place)? else {
                    return Ok(None);
                };
                Ok(Some(match (kind, length) {
                    (_, Length::Nil) => Header::Nil,
                    (b'$', Length::Of(length)) => Header::Bulk(length),
                    (b'*', Length::Of(length)) => Header::Array(length),
                    (_, Length::Of(length)) => Header::Map(length),
                }))
            }
            b'+' | b'-' | b':' => Ok(Some(Header::Line(kind))),
            b'_' => {
                let Some(line) = self.line(place)? else {
                    return Ok(None);
                };
                if line.is_empty() {
                    Ok(Some(Header::Nil))
                } else {
                    Err(self.unexpected(place, "nil"))
                }
            }
            _ => Err(self.unexpected(place, "an element of the protocol")),
        }
    }

    /// Reads the number after the byte of the kind.
    #[inline]
    fn length(&mut self, place: &'static str) -> Result<Option<Length>, DecodeError> {
        let start = self.position + 1;
        let mut at = start;
        let mut value = 0;
        while let Some(&byte) = self.bytes.get(at) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return self.length_end(start, at, value, place);
            }
            if at - start == MOST_DIGITS {
                return Err(self.unexpected(place, "a length below 10^18"));
            }
            value = value * 10 + u64::from(digit);
            at += 1;
        }
        Ok(None)
    }

    /// Checks what follows the digits of a length.
    #[inline]
    fn length_end(
        &mut self,
        start: usize,
        end: usize,
        value: u64,
        place: &'static str,
    ) -> Result<Option<Length>, DecodeError> {
        let tail = &self.bytes[end..];
        if end > start && ends_line(tail) {
            self.position = end + 2;
            return Ok(Some(Length::Of(value)));
        }
        if end == start && tail.starts_with(b"-1\r\n") {
            self.position = end + 4;
            return Ok(Some(Length::Nil));
        }
        let whole: &[u8] = if end > start { b"\r\n" } else { b"-1\r\n" };
        if whole.starts_with(tail) {
            Ok(None)
        } else {
            Err(self.unexpected(place, "a length of 0 or more"))
        }
    }

    /// Reads the text of a `+`, `-`, `:` or `_` element.
    pub(crate) fn line(&mut self, place: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        let text = &self.bytes[self.bytes.len().min(self.position + 1)..];
        let window = &text[..text.len().min(LONGEST_LINE)];
        let Some(end) = memchr::memchr(b'\r', window) else {
            let fits = text.len() < LONGEST_LINE;
            return if fits {
                Ok(None)
            } else {
                Err(self.unexpected(place, "a line of at most 64 KiB"))
            };
        };
        match text.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => {
                self.position += 1 + end + 2;
                Ok(Some(&text[..end]))
            }
            Some(_) => Err(self.unexpected(place, "a line that ends in CR LF")),
        }
    }

    /// Reads the bytes of a string whose header is consumed; `None` while they are incomplete.
    #[inline]
    pub(crate) fn payload(
        &mut self,
        length: u64,
        place: &'static str,
    ) -> Result<Option<&'a [u8]>, DecodeError> {
        let rest = &self.bytes[self.position..];
        let Some(length) = usize::try_from(length).ok().filter(|&length| length < rest.len()) else {
            return Ok(None);
        };
        let (payload, tail) = rest.split_at(length);
        if ends_line(tail) {
            self.position += length + 2;
            return Ok(Some(payload));
        }
        if tail == b"\r" {
            return Ok(None);
        }
        self.position += length;
        Err(self.unexpected(place, "CR LF after the announced length"))
    }

    /// Consumes these bytes if they come next and have arrived.
    #[inline]
    pub(crate) fn skip(&mut self, expected: &[u8]) -> bool {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let comes = rest.get(..expected.len()) == Some(expected);
        if comes {
            self.position += expected.len();
        }
        comes
    }

    /// Reads a string with its header if all of it has arrived; consumes nothing and says nothing otherwise, whatever
    /// comes instead.
    #[inline]
    pub(crate) fn whole_string(&mut self) -> Option<&'a [u8]> {
        let (b'$', mut rest) = self.bytes.get(self.position..)?.split_first()? else {
            return None;
        };
        let mut length = 0;
        let mut digits = 0;
        while let Some((&byte, behind)) = rest.split_first()
            && byte.is_ascii_digit()
            && digits < FEW_DIGITS
        {
            length = length * 10 + usize::from(byte - b'0');
            digits += 1;
            rest = behind;
        }
        let (payload, tail) = rest.get(2..)?.split_at_checked(length)?;
        if digits == 0 || !ends_line(rest) || !ends_line(tail) {
            return None;
        }
        self.position += 1 + digits + 2 + length + 2;
        Some(payload)
    }

    /// Reads as many bytes of a string as have arrived, at most `most`; its end is read with `payload(0)`.
    pub(crate) fn part(&mut self, most: u64) -> &'a [u8] {
        let rest = &self.bytes[self.position..];
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(rest.len());
        self.position += length;
        &rest[..length]
    }

    /// Reads a whole string of at most `most` bytes with its header.
    pub(crate) fn short_string(
        &mut self,
        most: usize,
        place: &'static str,
        expected: &'static str,
    ) -> Result<Option<&'a [u8]>, DecodeError> {
        let start = self.position;
        let Some(header) = self.header(place)? else {
            return Ok(None);
        };
        let Header::Bulk(length) = header else {
            self.position = start;
            return Err(self.unexpected(place, expected));
        };
        if length > most as u64 {
            self.position = start;
            return Err(self.unexpected(place, expected));
        }
        let payload = self.payload(length, place)?;
        if payload.is_none() {
            self.position = start;
        }
        Ok(payload)
    }

    /// Reads the header of a list of one of these lengths, or of a nil.
    pub(crate) fn list(
        &mut self,
        lengths: impl RangeBounds<u64>,
        place: &'static str,
        expected: &'static str,
    ) -> Result<Option<Length>, DecodeError> {
        let start = self.position;
        match self.header(place)? {
            None => Ok(None),
            Some(Header::Array(length)) if lengths.contains(&length) => Ok(Some(Length::Of(length))),
            Some(Header::Nil) => Ok(Some(Length::Nil)),
            Some(_) => {
                self.position = start;
                Err(self.unexpected(place, expected))
            }
        }
    }

    /// Parses the id in a string that was just read.
    pub(crate) fn stream_id(&self, text: &[u8], place: &'static str) -> Result<StreamId, DecodeError> {
        StreamId::parse(text).ok_or_else(|| self.unreadable(text, place, "milliseconds-sequence"))
    }

    /// An error about a text that was just consumed.
    #[cold]
    pub(crate) fn unreadable(&self, text: &[u8], place: &'static str, expected: &'static str) -> DecodeError {
        let start = self.position.saturating_sub(text.len() + 2);
        DecodeError {
            place,
            expected,
            found: excerpt(text),
            offset: self.base + start as u64,
        }
    }

    /// An error about the bytes at this position.
    #[cold]
    pub(crate) fn unexpected(&self, place: &'static str, expected: &'static str) -> DecodeError {
        let found = excerpt(&self.bytes[self.position..]);
        DecodeError {
            place,
            expected,
            found,
            offset: self.base + self.position as u64,
        }
    }
}

/// Whether these bytes begin with CR LF. Much faster than a comparison of slices, and asked twice for each string.
#[inline]
fn ends_line(bytes: &[u8]) -> bool {
    matches!(bytes, [b'\r', b'\n', ..])
}

fn excerpt(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes[..bytes.len().min(EXCERPT)].escape_ascii())
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
