//! Blocks of entries, as the decoder hands them out: one text, and where in it the fields of each entry lie.
//!
//! A block never changes once it is made. It owns everything it needs, so it can travel between threads.

use std::sync::Arc;

use crate::id::StreamId;

/// Consecutive entries of one stream.
#[derive(Debug, Clone)]
pub struct EntryBlock {
    pub(crate) stream: Arc<str>,
    pub(crate) text: String,
    pub(crate) entries: Vec<EntryRecord>,
    /// `width` spans for each entry.
    pub(crate) spans: Vec<Span>,
    pub(crate) width: usize,
}

/// Where a field's text lies, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) length: u32,
}

/// An entry in a block, without the places of its fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryRecord {
    pub(crate) id: StreamId,
    /// Which fields the entry has, one bit each.
    pub(crate) present: u64,
    /// Bytes of all names and values as received, also of those that are not kept.
    pub(crate) received: u64,
    /// Bytes of text that the entry takes in its block.
    pub(crate) text: u32,
    pub(crate) kind: EntryKind,
    pub(crate) invalid_utf8: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Fields,
    Deleted,
    Oversized,
}

/// Whether an entry has its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// It has fields, possibly none that are kept.
    Fields,
    /// It has none: the entry was trimmed off the stream or deleted while it was pending.
    Deleted,
    /// It has more than [`Limits::entry_bytes`](crate::Limits::entry_bytes). Fields of up to 2 KB are kept, 64 KB of them
    /// at most; the others were skipped.
    Oversized {
        /// Bytes of all names and values.
        bytes: u64,
    },
}

/// Bytes of memory that an entry with this many fields takes besides its text.
pub(crate) const fn overhead(width: usize) -> usize {
    size_of::<EntryRecord>() + width * size_of::<Span>()
}

impl EntryBlock {
    /// The stream's name; empty in replies to claims, which do not repeat it.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry. The decoder never hands such a block out.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory that the block takes.
    pub fn byte_len(&self) -> usize {
        self.text.len() + self.len() * overhead(self.width)
    }

    /// The entry at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len), as a slice would.
    pub fn entry(&self, index: usize) -> Entry<'_> {
        let first = index * self.width;
        Entry {
            text: &self.text,
            record: &self.entries[index],
            spans: &self.spans[first..first + self.width],
        }
    }

    /// All entries, in stream order.
    pub fn iter(&self) -> Entries<'_> {
        Entries { block: self, next: 0 }
    }
}

impl<'a> IntoIterator for &'a EntryBlock {
    type Item = Entry<'a>;
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

/// Iterator over the entries of a block.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    block: &'a EntryBlock,
    next: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if self.next >= self.block.len() {
            return None;
        }
        let entry = self.block.entry(self.next);
        self.next += 1;
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.block.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Entries<'_> {}

/// One entry of a block. Fields are counted as in the [`FieldTable`](crate::FieldTable).
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    text: &'a str,
    record: &'a EntryRecord,
    spans: &'a [Span],
}

impl<'a> Entry<'a> {
    /// The id of the entry.
    pub fn id(self) -> StreamId {
        self.record.id
    }

    /// Whether the entry has its fields.
    pub fn body(self) -> Body {
        match self.record.kind {
            EntryKind::Fields => Body::Fields,
            EntryKind::Deleted => Body::Deleted,
            EntryKind::Oversized => Body::Oversized {
                bytes: self.record.received,
            },
        }
    }

    /// The field's text; empty when the entry does not have it.
    #[inline]
    pub fn field(self, index: usize) -> &'a str {
        let span = self.spans.get(index).copied().unwrap_or_default();
        let start = span.start as usize;
        self.text
            .get(start..start + span.length as usize)
            .unwrap_or_default()
    }

    /// Whether the entry has the field, even if it is empty.
    #[inline]
    pub fn is_present(self, index: usize) -> bool {
        index < self.spans.len() && self.record.present >> index & 1 == 1
    }

    /// Bytes of memory that the entry takes in its block.
    pub fn bytes(self) -> usize {
        self.record.text as usize + overhead(self.spans.len())
    }

    /// Whether bytes that are not UTF-8 were replaced with U+FFFD in one of its fields.
    pub fn had_invalid_utf8(self) -> bool {
        self.record.invalid_utf8
    }
}
