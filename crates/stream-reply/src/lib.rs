//! Decodes Redis stream replies (`XREADGROUP`, `XAUTOCLAIM`, `XCLAIM`) without building a tree of values.
//!
//! A general client turns every field name and value of a reply into an allocated value, which costs several
//! microseconds per entry. This crate reads the reply where it lies, keeps only the fields of a [`FieldTable`] and hands
//! entries out in blocks while the rest of the reply is still on the wire. It does no I/O and never allocates by a length
//! that the server merely claims: memory is bounded by [`Limits`], whatever the server sends.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bytes::BytesMut;
//! use stream_reply::{FieldTable, Limits, ReplyDecoder, ReplyEnd, ReplyKind, Step};
//!
//! const FIELDS: FieldTable = FieldTable::new(&["event_name", "url"]);
//!
//! let limits = Limits { block_bytes: 64 << 10, entry_bytes: 1 << 20 };
//! let mut decoder = ReplyDecoder::new(ReplyKind::Read, Arc::new(FIELDS), limits);
//! let mut input = BytesMut::from(
//!     "*1\r\n*2\r\n$6\r\nevents\r\n*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$10\r\nevent_name\r\n$5\r\nclick\r\n",
//! );
//! let Step::Block(block) = decoder.decode(&mut input)? else { panic!("one entry is there") };
//! let entry = block.entry(0);
//! assert_eq!((block.stream(), entry.id().to_string().as_str()), ("events", "5-1"));
//! assert_eq!((entry.field(0), entry.field(1)), ("click", ""));
//! assert!(matches!(decoder.decode(&mut input)?, Step::End(ReplyEnd::Complete)));
//! # Ok::<(), stream_reply::DecodeError>(())
//! ```

mod block;
mod builder;
mod command;
mod decoder;
mod entry;
mod error;
mod fields;
mod id;
mod simple;
mod wire;

pub use block::{Body, Entries, Entry, EntryBlock};
pub use command::{encode_command, encode_command_with_ids};
pub use decoder::{Limits, ReplyDecoder, ReplyEnd, ReplyKind, Step};
pub use error::DecodeError;
pub use fields::FieldTable;
pub use id::{InvalidStreamId, StreamId};
pub use simple::{SimpleReply, decode_simple};
