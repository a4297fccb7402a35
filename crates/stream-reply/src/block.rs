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
    pub(crate) spans: Spans,
    pub(crate) width: usize,
}

/// Where a field's text lies within that of its entry, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span<T> {
    pub(crate) start: T,
    pub(crate) length: T,
}

/// `width` spans for each entry: half as large where no entry has 64 KB of text, which is nearly always.
#[derive(Debug, Clone)]
pub(crate) enum Spans {
    Narrow(Vec<Span<u16>>),
    Wide(Vec<Span<u32>>),
}

impl Spans {
    /// Of entries none of which has more text than this.
    pub(crate) fn of(spans: &[Span<u32>], longest: u32) -> Self {
        if u16::try_from(longest).is_err() {
            return Self::Wide(spans.to_vec());
        }
        let narrow = |span: &Span<u32>| Span {
            start: span.start as u16,
            length: span.length as u16,
        };
        Self::Narrow(spans.iter().map(narrow).collect())
    }

    /// Bytes of so many.
    pub(crate) fn bytes_of(count: usize, longest: u32) -> usize {
        let is_narrow = u16::try_from(longest).is_ok();
        count
            * if is_narrow {
                size_of::<Span<u16>>()
            } else {
                size_of::<Span<u32>>()
            }
    }

    /// Bytes of one.
    fn each(&self) -> usize {
        match self {
            Self::Narrow(_) => size_of::<Span<u16>>(),
            Self::Wide(_) => size_of::<Span<u32>>(),
        }
    }

    #[inline]
    fn get(&self, index: usize) -> Option<(usize, usize)> {
        match self {
            Self::Narrow(spans) => spans
                .get(index)
                .map(|s| (usize::from(s.start), usize::from(s.length))),
            Self::Wide(spans) => spans.get(index).map(|s| (s.start as usize, s.length as usize)),
        }
    }
}

/// An entry in a block, without the places of its fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryRecord {
    pub(crate) id: StreamId,
    /// Which fields the entry has, one bit each.
    pub(crate) present: u64,
    /// Bytes of all names and values as received, also of those that are not kept.
    pub(crate) received: u64,
    /// Where the entry's text begins in its block, in bytes…
    pub(crate) start: u32,
    /// …and how much of it there is.
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
        self.text.len() + self.len() * self.overhead()
    }

    /// Bytes of memory that an entry takes besides its text.
    fn overhead(&self) -> usize {
        size_of::<EntryRecord>() + self.width * self.spans.each()
    }

    /// The entry at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len), as a slice would.
    pub fn entry(&self, index: usize) -> Entry<'_> {
        Entry {
            block: self,
            record: &self.entries[index],
            first_span: index * self.width,
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
    block: &'a EntryBlock,
    record: &'a EntryRecord,
    first_span: usize,
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
        if index >= self.block.width {
            return "";
        }
        let (start, length) = self.block.spans.get(self.first_span + index).unwrap_or_default();
        let start = self.record.start as usize + start;
        self.block.text.get(start..start + length).unwrap_or_default()
    }

    /// Whether the entry has the field, even if it is empty.
    #[inline]
    pub fn is_present(self, index: usize) -> bool {
        index < self.block.width && self.record.present >> index & 1 == 1
    }

    /// Bytes of memory that the entry takes in its block.
    pub fn bytes(self) -> usize {
        self.record.text as usize + self.block.overhead()
    }

    /// Whether bytes that are not UTF-8 were replaced with U+FFFD in one of its fields.
    pub fn had_invalid_utf8(self) -> bool {
        self.record.invalid_utf8
    }
}
