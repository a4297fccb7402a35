//! Short replies to other commands on the same connection (`AUTH`, `SELECT`, `XGROUP`, `XACK` and the like).
//!
//! A reply is read as a whole or not at all, and is an error when it is larger than such replies can be.

use bytes::{Buf, BytesMut};

use crate::error::DecodeError;
use crate::wire::{Cursor, Header};

/// Largest reply in bytes.
const MOST_BYTES: usize = 4 << 20;
/// Most elements of an array.
const MOST_ELEMENTS: u64 = 64 << 10;

/// A reply without nesting, or a flat list of such replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SimpleReply {
    /// A status such as `OK`.
    Status(String),
    /// An error, its code first: `NOAUTH Authentication required.`
    Error(String),
    /// An integer.
    Integer(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// A nil.
    Nil,
    /// Replies that are no arrays themselves. A map comes as its names and values in turn.
    Array(Vec<SimpleReply>),
}

/// Takes one reply off the front of `input`. While the reply is incomplete: `None`, and nothing is consumed.
///
/// # Errors
///
/// When the bytes are no reply, or the reply is nested, larger than 4 MiB or longer than 65,536 elements. The connection
/// must then be closed.
pub fn decode_simple(input: &mut BytesMut) -> Result<Option<SimpleReply>, DecodeError> {
    let mut cursor = Cursor::new(input, 0);
    if !skip(&mut cursor)? {
        if input.len() > MOST_BYTES {
            return Err(Cursor::new(input, 0).unexpected("the reply", "at most 4 MiB"));
        }
        return Ok(None);
    }
    let mut cursor = Cursor::new(input, 0);
    let reply = read(&mut cursor)?;
    let consumed = cursor.position;
    if reply.is_some() {
        input.advance(consumed);
    }
    Ok(reply)
}

/// An element, borrowed.
enum Element<'a> {
    One(Scalar<'a>),
    Many(u64),
}

enum Scalar<'a> {
    Line(u8, &'a [u8]),
    Bulk(&'a [u8]),
    Nil,
}

/// Whether the whole reply has arrived. Nothing is allocated for it.
fn skip(cursor: &mut Cursor<'_>) -> Result<bool, DecodeError> {
    let elements = match element(cursor)? {
        None => return Ok(false),
        Some(Element::One(_)) => 0,
        Some(Element::Many(elements)) => elements,
    };
    for _ in 0..elements {
        if scalar(cursor)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads a reply that has arrived as a whole.
fn read(cursor: &mut Cursor<'_>) -> Result<Option<SimpleReply>, DecodeError> {
    match element(cursor)? {
        None => Ok(None),
        Some(Element::One(scalar)) => owned(&scalar, cursor).map(Some),
        Some(Element::Many(elements)) => {
            let mut replies = Vec::new();
            for _ in 0..elements {
                let Some(scalar) = scalar(cursor)? else {
                    return Ok(None);
                };
                replies.push(owned(&scalar, cursor)?);
            }
            Ok(Some(SimpleReply::Array(replies)))
        }
    }
}

fn element<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Element<'a>>, DecodeError> {
    const PLACE: &str = "the reply";
    let start = cursor.position;
    let elements = match cursor.header(PLACE)? {
        None => return Ok(None),
        Some(Header::Array(elements)) => elements,
        Some(Header::Map(pairs)) => pairs * 2,
        Some(header) => return Ok(scalar_of(header, cursor, PLACE)?.map(Element::One)),
    };
    if elements > MOST_ELEMENTS {
        cursor.position = start;
        return Err(cursor.unexpected(PLACE, "a list of at most 65536 elements"));
    }
    Ok(Some(Element::Many(elements)))
}

fn scalar<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Scalar<'a>>, DecodeError> {
    const PLACE: &str = "an element of the reply";
    match cursor.header(PLACE)? {
        None => Ok(None),
        Some(header) => scalar_of(header, cursor, PLACE),
    }
}

fn scalar_of<'a>(
    header: Header,
    cursor: &mut Cursor<'a>,
    place: &'static str,
) -> Result<Option<Scalar<'a>>, DecodeError> {
    match header {
        Header::Nil => Ok(Some(Scalar::Nil)),
        Header::Line(kind) => Ok(cursor.line(place)?.map(|line| Scalar::Line(kind, line))),
        Header::Bulk(length) if length <= MOST_BYTES as u64 => {
            Ok(cursor.payload(length, place)?.map(Scalar::Bulk))
        }
        Header::Bulk(_) => Err(cursor.unexpected(place, "a string of at most 4 MiB")),
        Header::Array(_) | Header::Map(_) => Err(cursor.unexpected(place, "no list within a list")),
    }
}

fn owned(scalar: &Scalar<'_>, cursor: &Cursor<'_>) -> Result<SimpleReply, DecodeError> {
    match *scalar {
        Scalar::Nil => Ok(SimpleReply::Nil),
        Scalar::Bulk(bytes) => Ok(SimpleReply::Bulk(bytes.to_vec())),
        Scalar::Line(b'-', line) => Ok(SimpleReply::Error(String::from_utf8_lossy(line).into_owned())),
        Scalar::Line(b':', line) => str::from_utf8(line)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(SimpleReply::Integer)
            .ok_or_else(|| cursor.unreadable(line, "an integer", "a number of 64 bits")),
        Scalar::Line(_, line) => Ok(SimpleReply::Status(String::from_utf8_lossy(line).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Option<SimpleReply>, DecodeError> {
        decode_simple(&mut BytesMut::from(bytes))
    }

    #[test]
    fn each_kind_of_reply_is_read_once_it_is_whole() {
        let many = SimpleReply::Array(vec![
            SimpleReply::Bulk(b"a".to_vec()),
            SimpleReply::Nil,
            SimpleReply::Integer(2),
        ]);
        let cases: [(&[u8], SimpleReply); 9] = [
            (b"+OK\r\n", SimpleReply::Status("OK".to_owned())),
            (b"-ERR no\r\n", SimpleReply::Error("ERR no".to_owned())),
            (b":-9223372036854775808\r\n", SimpleReply::Integer(i64::MIN)),
            (b"$2\r\n\r\n\r\n", SimpleReply::Bulk(b"\r\n".to_vec())),
            (b"$-1\r\n", SimpleReply::Nil),
            (b"*0\r\n", SimpleReply::Array(vec![])),
            (b"*3\r\n$1\r\na\r\n_\r\n:2\r\n", many),
            (
                b"%1\r\n+a\r\n+b\r\n",
                SimpleReply::Array(vec![
                    SimpleReply::Status("a".to_owned()),
                    SimpleReply::Status("b".to_owned()),
                ]),
            ),
            (b"_\r\n", SimpleReply::Nil),
        ];
        for (bytes, expected) in cases {
            for end in 0..bytes.len() {
                let mut input = BytesMut::from(&bytes[..end]);
                assert_eq!(
                    decode_simple(&mut input),
                    Ok(None),
                    "{}",
                    bytes[..end].escape_ascii()
                );
                assert_eq!(input, bytes[..end], "nothing is consumed");
            }
            let mut input = BytesMut::from(bytes);
            input.extend_from_slice(b"+next");
            assert_eq!(decode_simple(&mut input), Ok(Some(expected)));
            assert_eq!(input, &b"+next"[..]);
        }
    }

    #[test]
    fn what_is_no_short_reply_is_refused() {
        let nested: &[u8] = b"*1\r\n*1\r\n";
        for bytes in [
            nested,
            b"*1\r\n%0\r\n",
            b"*65537\r\n",
            b"$4194305\r\n",
            b"%999999999999999999\r\n",
            b"HTTP/1.1",
        ] {
            assert!(decode(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        assert_eq!(decode(b":x\r\n").unwrap_err().found, "\"x\"");
        assert!(decode(b":9223372036854775808\r\n").is_err());
    }

    #[test]
    fn a_list_that_grows_beyond_the_limit_is_refused_before_it_is_whole() {
        let mut bytes = b"*65536\r\n".to_vec();
        let element = [b"$1000\r\n".as_slice(), &[b'x'; 1000], b"\r\n"].concat();
        while bytes.len() <= MOST_BYTES {
            bytes.extend_from_slice(&element);
        }
        assert!(decode(&bytes).is_err());
    }
}
