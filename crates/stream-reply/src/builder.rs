//! Collects the kept fields of entries and makes blocks of them.
//!
//! The buffers are reused for every block, and each block gets exactly the memory it needs.

use std::sync::Arc;

use crate::block::{EntryBlock, EntryKind, EntryRecord, Span, Spans};
use crate::fields::FieldTable;
use crate::id::StreamId;

/// Follows every field. As an ASCII character it ends any sequence that a field leaves unfinished. So the whole text is
/// UTF-8 exactly if every field is, and each field ends where a character ends.
const SEPARATOR: u8 = b'\n';

impl EntryBlock {
    /// Makes a block of entries that do not come from a reply. Names that are not in `fields` are left out; a name given
    /// twice has the last value.
    pub fn of<'a, F: IntoIterator<Item = (&'a str, &'a str)>>(
        stream: &str,
        fields: &FieldTable,
        entries: impl IntoIterator<Item = (StreamId, F)>,
    ) -> Self {
        let mut builder = BlockBuilder::new(fields.width());
        for (id, entry) in entries {
            builder.begin_entry();
            let mut received = 0;
            for (name, value) in entry {
                received += (name.len() + value.len()) as u64;
                if let Some(index) = fields.position(name.as_bytes()) {
                    builder.begin_field();
                    builder.push(value.as_bytes());
                    builder.end_field(index);
                }
            }
            builder.end_entry(id, EntryKind::Fields, received);
        }
        builder.finish(&Arc::from(stream), 0)
    }
}

/// The block being filled.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    width: usize,
    text: Vec<u8>,
    entries: Vec<EntryRecord>,
    /// `width` for each entry.
    spans: Vec<Span<u32>>,
    /// Where the text of the current entry begins.
    entry_start: usize,
    /// Where the current field begins.
    field_start: usize,
    present: u64,
    /// Most text that an entry has.
    longest: u32,
}

impl BlockBuilder {
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width,
            text: Vec::new(),
            entries: Vec::new(),
            spans: Vec::new(),
            entry_start: 0,
            field_start: 0,
            present: 0,
            longest: 0,
        }
    }

    /// Whether no entry is complete.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory that the block would take if it were made now.
    pub(crate) fn byte_len(&self) -> usize {
        let spans = Spans::bytes_of(self.entries.len() * self.width, self.longest);
        self.text.len() + self.entries.len() * size_of::<EntryRecord>() + spans
    }

    /// Reserves memory for text that has already arrived.
    pub(crate) fn expect_text(&mut self, bytes: usize) {
        self.text.reserve(bytes);
    }

    pub(crate) fn begin_entry(&mut self) {
        self.entry_start = self.text.len();
        self.present = 0;
        self.spans
            .resize((self.entries.len() + 1) * self.width, Span::default());
    }

    /// Bytes of text that the current entry has so far.
    pub(crate) fn entry_text(&self) -> usize {
        self.text.len() - self.entry_start
    }

    /// Drops fields of the current entry that are longer than `longest`, and those that would bring it above `most` bytes
    /// of text.
    pub(crate) fn keep_small_fields(&mut self, longest: usize, most: usize) {
        let mut kept: Vec<u8> = Vec::new();
        let first = self.entries.len() * self.width;
        for (index, span) in self.spans[first..].iter_mut().enumerate() {
            let field = std::mem::take(span);
            let length = field.length as usize;
            if self.present & (1 << index) == 0 || length > longest || kept.len() + length >= most {
                self.present &= !(1 << index);
                continue;
            }
            let start = self.entry_start + field.start as usize;
            *span = Span {
                start: kept.len() as u32,
                length: field.length,
            };
            kept.extend_from_slice(&self.text[start..=start + length]);
        }
        self.text.truncate(self.entry_start);
        self.text.extend_from_slice(&kept);
    }

    pub(crate) fn begin_field(&mut self) {
        self.field_start = self.text.len();
    }

    /// Adds a part of the current field.
    #[inline]
    pub(crate) fn push(&mut self, part: &[u8]) {
        self.text.extend_from_slice(part);
    }

    /// Ends the current field. A field that is given again replaces its earlier value.
    #[inline]
    pub(crate) fn end_field(&mut self, index: usize) {
        let start = (self.field_start - self.entry_start) as u32;
        let length = (self.text.len() - self.field_start) as u32;
        self.text.push(SEPARATOR);
        if let Some(span) = self.spans.get_mut(self.entries.len() * self.width + index) {
            *span = Span { start, length };
            self.present |= 1 << index;
        }
    }

    pub(crate) fn end_entry(&mut self, id: StreamId, kind: EntryKind, received: u64) {
        self.longest = self.longest.max(self.entry_text() as u32);
        self.entries.push(EntryRecord {
            id,
            present: self.present,
            received,
            start: self.entry_start as u32,
            text: self.entry_text() as u32,
            kind,
            invalid_utf8: false,
        });
    }

    /// Makes a block of what was collected and begins a new one, keeping buffers of up to `keep` bytes.
    pub(crate) fn finish(&mut self, stream: &Arc<str>, keep: usize) -> EntryBlock {
        let stream = Arc::clone(stream);
        let spans = || Spans::of(&self.spans, self.longest);
        // The vectorised check and then `str::to_owned` is faster than the standard library's check of the buffer itself,
        // and leaves no spare capacity.
        let block = match simdutf8::basic::from_utf8(&self.text) {
            // A buffer that is too large to be kept is handed out itself, so that megabytes are not held twice.
            Ok(_) if self.text.capacity() > keep => EntryBlock {
                stream,
                spans: spans(),
                text: without_spare(std::mem::take(&mut self.text)),
                entries: self.entries.clone(),
                width: self.width,
            },
            Ok(text) => EntryBlock {
                stream,
                text: text.to_owned(),
                entries: self.entries.clone(),
                spans: spans(),
                width: self.width,
            },
            Err(_) => self.repaired(stream),
        };
        self.clear(keep);
        block
    }

    /// Drops everything that was collected.
    pub(crate) fn clear(&mut self, keep: usize) {
        self.text.clear();
        self.entries.clear();
        self.spans.clear();
        self.longest = 0;
        if self.text.capacity() > keep {
            self.text.shrink_to(keep);
        }
    }

    /// Makes the block with each field that is not UTF-8 repaired by replacement characters.
    #[cold]
    fn repaired(&self, stream: Arc<str>) -> EntryBlock {
        let mut text = String::with_capacity(self.text.len());
        let mut entries = self.entries.clone();
        let mut spans = self.spans.clone();
        for (index, entry) in entries.iter_mut().enumerate() {
            let entry_start = text.len();
            for span in &mut spans[index * self.width..(index + 1) * self.width] {
                let start = (entry.start + span.start) as usize;
                let field = &self.text[start..start + span.length as usize];
                span.start = (text.len() - entry_start) as u32;
                if let Ok(field) = simdutf8::basic::from_utf8(field) {
                    text.push_str(field);
                } else {
                    entry.invalid_utf8 = true;
                    text.push_str(&String::from_utf8_lossy(field));
                }
                span.length = (text.len() - entry_start) as u32 - span.start;
            }
            entry.start = entry_start as u32;
            entry.text = (text.len() - entry_start) as u32;
        }
        text.shrink_to_fit();
        let longest = entries.iter().map(|entry| entry.text).max().unwrap_or_default();
        EntryBlock {
            stream,
            text,
            entries,
            spans: Spans::of(&spans, longest),
            width: self.width,
        }
    }
}

/// Makes a text without spare capacity of a buffer that was checked before.
fn without_spare(text: Vec<u8>) -> String {
    let mut text = String::from_utf8(text)
        .unwrap_or_else(|broken| String::from_utf8_lossy(broken.as_bytes()).into_owned());
    text.shrink_to_fit();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fields: &[&[u8]]) -> EntryBlock {
        let mut builder = BlockBuilder::new(2);
        for pair in fields.chunks(2) {
            builder.begin_entry();
            for (index, field) in pair.iter().enumerate() {
                builder.begin_field();
                builder.push(field);
                builder.end_field(index);
            }
            builder.end_entry(StreamId::new(1, 0), EntryKind::Fields, 0);
        }
        builder.finish(&Arc::from("s"), 0)
    }

    #[test]
    fn a_character_split_between_two_fields_is_whole_in_neither() {
        let block = block(&[b"\xc3", b"\xa9", b"\xc3\xa9", b"ok"]);
        let (broken, sound) = (block.entry(0), block.entry(1));
        assert_eq!((broken.field(0), broken.field(1)), ("\u{fffd}", "\u{fffd}"));
        assert_eq!((sound.field(0), sound.field(1)), ("é", "ok"));
        assert_eq!(
            (broken.had_invalid_utf8(), sound.had_invalid_utf8()),
            (true, false)
        );
    }

    #[test]
    fn invalid_bytes_at_a_fields_end_leave_its_neighbours_alone() {
        let block = block(&[b"abc\xf0\x9f\x98", b"next", b"last\xff", b""]);
        assert_eq!(
            (block.entry(0).field(0), block.entry(0).field(1)),
            ("abc\u{fffd}", "next")
        );
        assert_eq!(
            (block.entry(1).field(0), block.entry(1).field(1)),
            ("last\u{fffd}", "")
        );
    }

    #[test]
    fn the_bytes_of_a_block_are_those_of_its_entries() {
        for fields in [
            [&b"one"[..], b"two", b"three", b""],
            [b"\xff", b"two", b"three", b"\xfe\xfe"],
        ] {
            let block = block(&fields);
            assert_eq!(
                block.byte_len(),
                block.iter().map(super::super::block::Entry::bytes).sum::<usize>()
            );
        }
    }
}
