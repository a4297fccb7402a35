//! Decodes a reply from its first byte to its end and hands its entries out in blocks.
//!
//! The decoder holds one unfinished block and nothing else, so a reply of any size is read in bounded memory.

use std::mem;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use crate::block::EntryBlock;
use crate::builder::BlockBuilder;
use crate::entry::{EntryReader, Progress};
use crate::error::DecodeError;
use crate::fields::FieldTable;
use crate::id::{LONGEST_ID, StreamId};
use crate::wire::{Cursor, Header, Length};

/// Highest value of either limit: the text of a block, up to three times as long when repaired, is counted in 32 bits.
const GREATEST_LIMIT: usize = 512 << 20;
/// Longest name of a stream.
const LONGEST_STREAM_NAME: usize = 64 << 10;
/// Most deleted ids in a reply, which take 16 MiB. The server looks at ten entries for each one asked for.
const MOST_DELETED: usize = 1 << 20;

/// The command whose reply is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// `XREADGROUP` or `XREAD`, of one or several streams.
    Read,
    /// `XAUTOCLAIM`, without `JUSTID`.
    AutoClaim,
    /// `XCLAIM`, without `JUSTID`, or `XRANGE`.
    Claim,
}

/// How much memory a decoder may use. Values above 512 MiB count as 512 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A block is handed out when its entries take this many bytes of memory, or the stream's part of the reply ends.
    /// Where it holds text that is not UTF-8, repairing it may take up to three times as many.
    pub block_bytes: usize,
    /// An entry whose kept values are larger is handed out as [`Body::Oversized`](crate::Body::Oversized), without its
    /// large values.
    pub entry_bytes: usize,
}

/// The result of a call to the decoder.
#[derive(Debug)]
pub enum Step {
    /// More input is needed: everything is consumed up to the beginning of an incomplete element.
    NeedMore,
    /// A block of entries. Decode again for what follows.
    Block(EntryBlock),
    /// The end of the reply. The rest of the input belongs to the next one.
    End(ReplyEnd),
}

/// How a reply ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyEnd {
    /// The time to wait ended without an entry.
    Nothing,
    /// All entries have been handed out.
    Complete,
    /// All entries of an `XAUTOCLAIM` have been handed out.
    Claimed {
        /// Where the next call begins; [`StreamId::MIN`] when the pass is over.
        cursor: StreamId,
        /// Entries that were pending and are no longer in the stream. They are no longer pending either.
        deleted: Vec<StreamId>,
    },
    /// The server refused the command. The connection stays usable.
    Error {
        /// First word of the error, such as `NOGROUP`.
        code: String,
        /// The rest of the error's text.
        message: String,
    },
}

/// What comes next in the reply, outside entries.
#[derive(Debug)]
enum Next {
    Reply,
    Stream,
    StreamName,
    EntryList,
    Entry,
    Cursor,
    DeletedList,
    Deleted,
    /// Nothing: the bytes were not a valid reply.
    Failed(DecodeError),
}

/// Decodes replies to one kind of command, one after another.
#[derive(Debug)]
pub struct ReplyDecoder {
    kind: ReplyKind,
    limits: Limits,
    next: Next,
    /// Bytes of the reply that earlier calls have consumed.
    consumed: u64,
    /// Whether each stream is an array of two elements, and not a pair of a map.
    streams_are_arrays: bool,
    streams_left: u64,
    entries_left: u64,
    /// Whether the reply has a third element. (Redis 6 sends two.)
    lists_deleted: bool,
    deleted_left: u64,
    stream: Arc<str>,
    cursor: StreamId,
    deleted: Vec<StreamId>,
    entry: EntryReader,
    block: BlockBuilder,
}

impl ReplyDecoder {
    /// A decoder that waits for the beginning of a reply.
    ///
    /// It keeps its buffers from reply to reply: use one per connection, and [`restart`](Self::restart) it between commands
    /// of different kinds.
    pub fn new(kind: ReplyKind, fields: Arc<FieldTable>, limits: Limits) -> Self {
        let limits = Limits {
            block_bytes: limits.block_bytes.min(GREATEST_LIMIT),
            entry_bytes: limits.entry_bytes.min(GREATEST_LIMIT),
        };
        Self {
            kind,
            limits,
            next: Next::Reply,
            consumed: 0,
            streams_are_arrays: true,
            streams_left: 0,
            entries_left: 0,
            lists_deleted: true,
            deleted_left: 0,
            stream: Arc::from(""),
            cursor: StreamId::MIN,
            deleted: Vec::new(),
            block: BlockBuilder::new(fields.width()),
            entry: EntryReader::new(fields, limits.entry_bytes),
        }
    }

    /// Drops an unfinished reply, if any, and waits for the beginning of a reply of this kind.
    pub fn restart(&mut self, kind: ReplyKind) {
        self.kind = kind;
        self.next = Next::Reply;
        self.consumed = 0;
        self.deleted.clear();
        self.entry.reset();
        self.block.clear(self.kept_buffer());
    }

    /// Reads on in the reply, consuming from the front of `input`, until there is something to hand out.
    ///
    /// # Errors
    ///
    /// When the bytes are not such a reply. The decoder then repeats that error until it is restarted, and the connection
    /// must be closed.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Step, DecodeError> {
        let room = self.limits.block_bytes.saturating_sub(self.block.byte_len());
        self.block.expect_text(room.min(input.len()));
        let mut cursor = Cursor::new(input, self.consumed);
        let step = self.advance(&mut cursor);
        let consumed = cursor.position;
        input.advance(consumed);
        self.consumed += consumed as u64;
        match &step {
            Ok(Step::End(_)) => self.restart(self.kind),
            Err(error) => self.next = Next::Failed(error.clone()),
            Ok(_) => {}
        }
        step
    }

    /// Reads element after element until there is a result.
    fn advance(&mut self, cursor: &mut Cursor<'_>) -> Result<Step, DecodeError> {
        loop {
            let step = match &self.next {
                Next::Reply => self.read_reply(cursor)?,
                Next::Stream => self.read_stream(cursor)?,
                Next::StreamName => self.read_stream_name(cursor)?,
                Next::EntryList => self.read_entry_list(cursor)?,
                Next::Entry => self.read_entries(cursor)?,
                Next::Cursor => self.read_cursor(cursor)?,
                Next::DeletedList => self.read_deleted_list(cursor)?,
                Next::Deleted => self.read_deleted(cursor)?,
                Next::Failed(error) => return Err(error.clone()),
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// Sets what comes next.
    fn then<T>(&mut self, next: Next) -> Option<T> {
        self.next = next;
        None
    }

    fn read_reply(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Step>, DecodeError> {
        const PLACE: &str = "the reply";
        let start = cursor.position;
        let Some(header) = cursor.header(PLACE)? else {
            return Ok(Some(Step::NeedMore));
        };
        match (self.kind, header) {
            (_, Header::Nil) => return Ok(Some(Step::End(ReplyEnd::Nothing))),
            (_, Header::Line(b'-')) => {
                let error = cursor.line(PLACE)?.map(|line| Step::End(refusal(line)));
                return Ok(Some(error.unwrap_or(Step::NeedMore)));
            }
            (ReplyKind::Read, Header::Array(streams) | Header::Map(streams)) => {
                self.streams_left = streams;
                self.streams_are_arrays = matches!(header, Header::Array(_));
                self.next = Next::Stream;
            }
            (ReplyKind::AutoClaim, Header::Array(elements @ 2..=3)) => {
                self.lists_deleted = elements == 3;
                self.stream = Arc::from("");
                self.next = Next::Cursor;
            }
            (ReplyKind::Claim, Header::Array(entries)) => {
                self.entries_left = entries;
                self.stream = Arc::from("");
                self.next = Next::Entry;
            }
            _ => {
                cursor.position = start;
                return Err(cursor.unexpected(PLACE, self.kind.expected()));
            }
        }
        Ok(None)
    }

    fn read_stream(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Step>, DecodeError> {
        const PLACE: &str = "a stream's part of the reply";
        if self.streams_left == 0 {
            return Ok(Some(Step::End(ReplyEnd::Complete)));
        }
        if self.streams_are_arrays {
            match cursor.list(2..=2, PLACE, "a name and entries")? {
                None => return Ok(Some(Step::NeedMore)),
                Some(Length::Nil) => return Err(cursor.unexpected(PLACE, "a name and entries, not nil,")),
                Some(Length::Of(_)) => {}
            }
        }
        self.streams_left -= 1;
        Ok(self.then(Next::StreamName))
    }

    fn read_stream_name(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Step>, DecodeError> {
        let name = cursor.short_string(
            LONGEST_STREAM_NAME,
            "a stream's name",
            "a string of at most 64 KiB",
        )?;
        let Some(name) = name else {
            return Ok(Some(Step::NeedMore));
        };
        if self.stream.as_bytes() != name {
            self.stream = Arc::from(String::from_utf8_lossy(name));
        }
        Ok(self.then(Next::EntryList))
    }

    fn read_entry_list(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Step>, DecodeError> {
        let Some(entries) = cursor.list(.., "the entries", "a list")? else {
            return Ok(Some(Step::NeedMore));
        };
        self.entries_left = entries.or_zero();
        Ok(self.then(Next::Entry))
    }

    fn read_entries(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Step>, DecodeError> {
        while self.entries_left > 0 {
            if self.entry.read(cursor, &mut self.block)? == Progress::NeedMore {
                return Ok(Some(Step::NeedMore));
            }
            self.entries_left -= 1;
            if self.block.byte_len() >= self.limits.block_bytes && !self.block.is_empty() {
                break;
            }
        }
        if !self.block.is_empty() {
            let block = self.block.finish(&self.stream, self.kept_buffer());
            return Ok(Some(Step::Block(block)));
        }
        if self.entries_left > 0 {
            return Ok(None);
        }
        match self.kind {
            ReplyKind::Read => Ok(self.then(Next::Stream)),
            ReplyKind::AutoClaim => Ok(self.then(Next::DeletedList)),
            ReplyKind::Claim => Ok(Some(Step::End(ReplyEnd::Complete))),
        }
    }

    fn read_cursor(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Step>, DecodeError> {
        const PLACE: &str = "the cursor";
        let Some(text) = cursor.short_string(LONGEST_ID, PLACE, "milliseconds-sequence")? else {
            return Ok(Some(Step::NeedMore));
        };
        self.cursor = cursor.stream_id(text, PLACE)?;
        Ok(self.then(Next::EntryList))
    }

    fn read_deleted_list(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Step>, DecodeError> {
        if self.lists_deleted {
            let list = cursor.list(
                ..=MOST_DELETED as u64,
                "the deleted ids",
                "a list of at most 1048576 ids",
            )?;
            let Some(deleted) = list else {
                return Ok(Some(Step::NeedMore));
            };
            self.deleted_left = deleted.or_zero();
        } else {
            self.deleted_left = 0;
        }
        Ok(self.then(Next::Deleted))
    }

    fn read_deleted(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Step>, DecodeError> {
        const PLACE: &str = "a deleted id";
        while self.deleted_left > 0 {
            let Some(text) = cursor.short_string(LONGEST_ID, PLACE, "milliseconds-sequence")? else {
                return Ok(Some(Step::NeedMore));
            };
            self.deleted.push(cursor.stream_id(text, PLACE)?);
            self.deleted_left -= 1;
        }
        let deleted = mem::take(&mut self.deleted);
        Ok(Some(Step::End(ReplyEnd::Claimed {
            cursor: self.cursor,
            deleted,
        })))
    }

    /// Most bytes of buffers to keep: those of a block, and a little for the entry that fills it.
    const fn kept_buffer(&self) -> usize {
        self.limits.block_bytes + self.limits.block_bytes / 4
    }
}

impl ReplyKind {
    const fn expected(self) -> &'static str {
        match self {
            Self::Read => "a list of streams, nil or an error",
            Self::AutoClaim => "a cursor, entries and deleted ids, or an error",
            Self::Claim => "a list of entries, or an error",
        }
    }
}

/// An error line, split into its code and its text.
fn refusal(line: &[u8]) -> ReplyEnd {
    let line = String::from_utf8_lossy(line);
    let (code, message) = line.split_once(' ').unwrap_or((&line, ""));
    ReplyEnd::Error {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}
