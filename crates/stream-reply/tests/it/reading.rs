//! Two readings of the same bytes, in one form that can be compared: this crate's and the client library's.

use std::sync::Arc;

use bytes::BytesMut;
use redis::Value;
use stream_reply::{
    Body, DecodeError, EntryBlock, FieldTable, Limits, ReplyDecoder, ReplyEnd, ReplyKind, Step,
};

pub(crate) const NAMES: &[&str] = &["event_name", "distinct_id", "properties", "timestamp", "e"];

/// An entry as both readings see it: stream, id, and for each of [`NAMES`] its value when it is there; no fields at all
/// when the entry was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) stream: String,
    pub(crate) id: String,
    pub(crate) fields: Option<Vec<Option<String>>>,
}

/// What came of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) entries: Vec<Read>,
    pub(crate) end: ReplyEnd,
}

fn entries_of(block: &EntryBlock, out: &mut Vec<Read>) {
    for entry in block {
        let fields = match entry.body() {
            Body::Deleted => None,
            Body::Fields => Some(
                (0..NAMES.len())
                    .map(|n| entry.is_present(n).then(|| entry.field(n).to_owned()))
                    .collect(),
            ),
            Body::Oversized { bytes } => Some(vec![Some(format!("oversized: {bytes}"))]),
        };
        out.push(Read {
            stream: block.stream().to_owned(),
            id: entry.id().to_string(),
            fields,
        });
    }
}

/// Reads one whole reply that arrives in pieces.
pub(crate) fn ours<'a>(
    kind: ReplyKind,
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<Reading>, DecodeError> {
    let reading = first(kind, limits, pieces)?;
    Ok(reading.map(|(reading, left)| {
        assert_eq!(left, 0, "bytes are left");
        reading
    }))
}

/// Reads the first reply of what arrives in pieces; with it, how much is left of the last piece.
pub(crate) fn first<'a>(
    kind: ReplyKind,
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<(Reading, usize)>, DecodeError> {
    let mut decoder = ReplyDecoder::new(kind, Arc::new(FieldTable::new(NAMES)), limits);
    let mut input = BytesMut::new();
    let mut entries = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input)? {
                Step::NeedMore => break,
                Step::Block(block) => {
                    assert!(!block.is_empty(), "no empty block is handed out");
                    let largest = block.iter().map(stream_reply::Entry::bytes).max().unwrap_or(0);
                    let others = block.byte_len() - largest;
                    // Each byte that is no text is replaced by a character of three bytes when the block is handed out.
                    let is_repaired = block.iter().any(stream_reply::Entry::had_invalid_utf8);
                    let most = limits.block_bytes * if is_repaired { 3 } else { 1 };
                    assert!(others <= most, "a block ends when it is full");
                    entries_of(&block, &mut entries);
                }
                Step::End(end) => {
                    return Ok(Some((Reading { entries, end }, input.len())));
                }
            }
        }
    }
    Ok(None)
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        other => panic!("no text: {other:?}"),
    }
}

fn pairs(value: &Value) -> Vec<(Value, Value)> {
    match value {
        Value::Map(pairs) => pairs.clone(),
        Value::Array(elements) => elements
            .chunks(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect(),
        other => panic!("no pairs: {other:?}"),
    }
}

fn entry(stream: &str, value: &Value) -> Option<Read> {
    let Value::Array(parts) = value else { return None };
    let fields = (parts[1] != Value::Nil).then(|| {
        let mut fields = vec![None; NAMES.len()];
        for (name, value) in pairs(&parts[1]) {
            let Value::BulkString(name) = &name else {
                panic!("{name:?}")
            };
            if let Some(index) = NAMES.iter().position(|known| known.as_bytes() == name) {
                fields[index] = Some(text(&value));
            }
        }
        fields
    });
    Some(Read {
        stream: stream.to_owned(),
        id: text(&parts[0]),
        fields,
    })
}

fn entries(stream: &str, value: &Value) -> Vec<Read> {
    let Value::Array(entries) = value else {
        return Vec::new();
    };
    entries.iter().filter_map(|value| entry(stream, value)).collect()
}

/// The client library's reading of a whole reply.
pub(crate) fn theirs(kind: ReplyKind, bytes: &[u8]) -> Reading {
    let value = redis::parse_redis_value(bytes).unwrap();
    match (kind, &value) {
        (ReplyKind::Read, Value::Nil) => Reading {
            entries: Vec::new(),
            end: ReplyEnd::Nothing,
        },
        (ReplyKind::Read, _) => {
            let streams = match &value {
                // The older protocol sends each stream as an array of two.
                Value::Array(streams) => streams.iter().map(|stream| pairs(stream).remove(0)).collect(),
                other => pairs(other),
            };
            Reading {
                entries: streams
                    .iter()
                    .flat_map(|(name, list)| entries(&text(name), list))
                    .collect(),
                end: ReplyEnd::Complete,
            }
        }
        (ReplyKind::AutoClaim, Value::Array(parts)) => Reading {
            entries: entries("", &parts[1]),
            end: ReplyEnd::Claimed {
                cursor: text(&parts[0]).parse().unwrap(),
                deleted: match parts.get(2) {
                    Some(Value::Array(ids)) => ids.iter().map(|id| text(id).parse().unwrap()).collect(),
                    _ => Vec::new(),
                },
            },
        },
        (_, list) => Reading {
            entries: entries("", list),
            end: ReplyEnd::Complete,
        },
    }
}
