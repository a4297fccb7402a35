//! Reads one stream entry, also when it arrives in pieces.
//!
//! The loop over its fields is the core of this crate: it allocates nothing, copies only fields that are kept, and never
//! holds more of an entry than the limit allows.

use std::sync::Arc;

use crate::block::EntryKind;
use crate::builder::BlockBuilder;
use crate::error::DecodeError;
use crate::fields::{FieldOrder, FieldTable};
use crate::id::{LONGEST_ID, StreamId};
use crate::wire::{Cursor, Header, Length};

/// Whether an entry could be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Complete,
    NeedMore,
}

/// What comes next in the entry.
#[derive(Debug, Clone, Copy)]
enum Next {
    Header,
    Id,
    Body,
    Name,
    /// The value of a field, which may be one that is not kept.
    Value(Option<usize>),
    /// The rest of a string of which only a part has arrived.
    Rest {
        left: u64,
        of: Part,
    },
}

/// A string that is read in parts.
#[derive(Debug, Clone, Copy)]
enum Part {
    UnknownName,
    Skipped,
    Kept(usize),
}

/// Longest field that is kept of an entry that is too large, so that people can see what it is: names, ids, addresses.
const SMALL_FIELD: usize = 2 << 10;
/// Most bytes of text that are kept of such an entry.
const OF_AN_OVERSIZED: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct EntryReader {
    order: FieldOrder,
    /// Most bytes of text per entry.
    limit: usize,
    next: Next,
    id: StreamId,
    /// Fields still to come.
    fields_left: u64,
    received: u64,
    oversized: bool,
}

impl EntryReader {
    pub(crate) fn new(table: Arc<FieldTable>, limit: usize) -> Self {
        Self {
            order: FieldOrder::new(table),
            limit,
            next: Next::Header,
            id: StreamId::MIN,
            fields_left: 0,
            received: 0,
            oversized: false,
        }
    }

    /// Drops an unfinished entry.
    pub(crate) fn reset(&mut self) {
        self.next = Next::Header;
    }

    /// Reads what has arrived of the entry. A nil in place of an entry, which has no id, is skipped.
    pub(crate) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        block: &mut BlockBuilder,
    ) -> Result<Progress, DecodeError> {
        if let Next::Header = self.next {
            match cursor.list(2..=2, "an entry", "an id and fields")? {
                None => return Ok(Progress::NeedMore),
                Some(Length::Nil) => return Ok(Progress::Complete),
                Some(Length::Of(_)) => self.next = Next::Id,
            }
        }
        if let Next::Id = self.next {
            let Some(text) = cursor.short_string(LONGEST_ID, "an entry's id", "milliseconds-sequence")?
            else {
                return Ok(Progress::NeedMore);
            };
            self.id = cursor.stream_id(text, "an entry's id")?;
            self.next = Next::Body;
        }
        if let Next::Body = self.next {
            match read_body_header(cursor)? {
                None => return Ok(Progress::NeedMore),
                Some(fields) => {
                    block.begin_entry();
                    self.order.begin();
                    self.received = 0;
                    self.oversized = false;
                    let Length::Of(fields) = fields else {
                        return Ok(self.end(block, EntryKind::Deleted));
                    };
                    self.fields_left = fields;
                    self.next = Next::Name;
                }
            }
        }
        self.read_fields(cursor, block)
    }

    fn read_fields(
        &mut self,
        cursor: &mut Cursor<'_>,
        block: &mut BlockBuilder,
    ) -> Result<Progress, DecodeError> {
        loop {
            if let Next::Name = self.next {
                self.read_expected(cursor, block);
            }
            let advanced = match self.next {
                Next::Name if self.fields_left == 0 => {
                    let kind = if self.oversized {
                        EntryKind::Oversized
                    } else {
                        EntryKind::Fields
                    };
                    return Ok(self.end(block, kind));
                }
                Next::Value(field) => self.read_value(field, cursor, block)?,
                Next::Rest { left, of } => self.read_rest(left, of, cursor, block)?,
                _ => self.read_name(cursor)?,
            };
            if !advanced {
                return Ok(Progress::NeedMore);
            }
        }
    }

    /// Reads fields that have arrived whole and come in the order of the entry before, as nearly all do: in one step each.
    #[inline]
    fn read_expected(&mut self, cursor: &mut Cursor<'_>, block: &mut BlockBuilder) {
        while self.fields_left > 0 && !self.oversized {
            let start = cursor.position;
            let Some(index) = self.order.skip_expected(cursor) else {
                break;
            };
            let name = self.order.table().names()[index];
            let value = cursor.whole_string();
            let Some(value) = value.filter(|value| block.entry_text() + value.len() < self.limit) else {
                cursor.position = start;
                break;
            };
            self.order.note(index);
            block.begin_field();
            block.push(value);
            block.end_field(index);
            self.received = self.received.saturating_add((name.len() + value.len()) as u64);
            self.fields_left -= 1;
        }
    }

    #[inline]
    fn read_name(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, DecodeError> {
        const PLACE: &str = "a field's name";
        let start = cursor.position;
        let Some(length) = bulk_length(cursor, PLACE)? else {
            return Ok(false);
        };
        if !self.order.table().has_length(length) {
            self.next = Next::Rest {
                left: length,
                of: Part::UnknownName,
            };
        } else if let Some(name) = cursor.payload(length, PLACE)? {
            self.next = Next::Value(self.order.find(name));
        } else {
            cursor.position = start;
            return Ok(false);
        }
        self.received = self.received.saturating_add(length);
        self.fields_left -= 1;
        Ok(true)
    }

    #[inline]
    fn read_value(
        &mut self,
        field: Option<usize>,
        cursor: &mut Cursor<'_>,
        block: &mut BlockBuilder,
    ) -> Result<bool, DecodeError> {
        const PLACE: &str = "a field's value";
        let Some(length) = bulk_length(cursor, PLACE)? else {
            return Ok(false);
        };
        self.received = self.received.saturating_add(length);
        let Some(index) = field.filter(|_| self.has_room(length, block)) else {
            self.next = Next::Rest {
                left: length,
                of: Part::Skipped,
            };
            return Ok(true);
        };
        block.begin_field();
        if let Some(value) = cursor.payload(length, PLACE)? {
            block.push(value);
            block.end_field(index);
            self.next = Next::Name;
        } else {
            self.next = Next::Rest {
                left: length,
                of: Part::Kept(index),
            };
        }
        Ok(true)
    }

    /// Whether a value of this length is kept. Once an entry is too large, only small values are.
    #[inline]
    fn has_room(&mut self, length: u64, block: &mut BlockBuilder) -> bool {
        // The separator takes memory, too.
        let fits = |block: &BlockBuilder, limit: usize| {
            length.saturating_add(block.entry_text() as u64 + 1) <= limit as u64
        };
        if !self.oversized {
            if fits(block, self.limit) {
                return true;
            }
            self.oversized = true;
            block.keep_small_fields(SMALL_FIELD, OF_AN_OVERSIZED.min(self.limit));
        }
        length <= SMALL_FIELD as u64 && fits(block, OF_AN_OVERSIZED.min(self.limit))
    }

    /// Reads what has arrived of a string, and then its end.
    fn read_rest(
        &mut self,
        left: u64,
        of: Part,
        cursor: &mut Cursor<'_>,
        block: &mut BlockBuilder,
    ) -> Result<bool, DecodeError> {
        let part = cursor.part(left);
        let left = left - part.len() as u64;
        if let Part::Kept(_) = of {
            block.push(part);
        }
        self.next = Next::Rest { left, of };
        if left > 0 || cursor.payload(0, "a string's end")?.is_none() {
            return Ok(false);
        }
        self.next = match of {
            Part::UnknownName => Next::Value(None),
            Part::Skipped => Next::Name,
            Part::Kept(index) => {
                block.end_field(index);
                Next::Name
            }
        };
        Ok(true)
    }

    fn end(&mut self, block: &mut BlockBuilder, kind: EntryKind) -> Progress {
        block.end_entry(self.id, kind, self.received);
        self.next = Next::Header;
        Progress::Complete
    }
}

#[inline]
fn bulk_length(cursor: &mut Cursor<'_>, place: &'static str) -> Result<Option<u64>, DecodeError> {
    let start = cursor.position;
    match cursor.header(place)? {
        Some(Header::Bulk(length)) => Ok(Some(length)),
        None => Ok(None),
        Some(_) => {
            cursor.position = start;
            Err(cursor.unexpected(place, "a string"))
        }
    }
}

/// Reads the number of fields; nil when the entry has none any more.
fn read_body_header(cursor: &mut Cursor<'_>) -> Result<Option<Length>, DecodeError> {
    const PLACE: &str = "an entry's body";
    let start = cursor.position;
    match cursor.header(PLACE)? {
        None => Ok(None),
        Some(Header::Nil) => Ok(Some(Length::Nil)),
        Some(Header::Map(pairs)) => Ok(Some(Length::Of(pairs))),
        Some(Header::Array(elements)) if elements % 2 == 0 => Ok(Some(Length::Of(elements / 2))),
        Some(_) => {
            cursor.position = start;
            Err(cursor.unexpected(PLACE, "an even number of names and values"))
        }
    }
}
