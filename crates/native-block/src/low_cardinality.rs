//! `LowCardinality(String)`: a dictionary of the block's distinct values, and an index into it per row.

use std::hash::{BuildHasher, RandomState};

use rustc_hash::FxHashMap;

use crate::block::Column;
use crate::varint;

/// The only version of the key serialisation.
const KEYS_VERSION: u64 = 1;
/// The block brings its own keys and updates no dictionary of the stream.
const HAS_ADDITIONAL_KEYS: u64 = 1 << 9;

/// Four words: the version, the type of the indices, and how many keys and rows there are.
const PREAMBLE: usize = 32;

/// A column of rows and their dictionary. Key 0 is the empty string, as in the server.
#[derive(Debug)]
pub struct LowCardinalityColumn {
    /// Distinct values, each after its length.
    keys: Vec<u8>,
    /// Where the text of each key lies in `keys`.
    spans: Vec<(u32, u32)>,
    /// Hash of a key → the first key with that hash.
    by_hash: FxHashMap<u64, u32>,
    /// Keys whose hash an earlier key has.
    collided: Vec<u32>,
    hasher: RandomState,
    indices: Vec<u32>,
}

impl Default for LowCardinalityColumn {
    fn default() -> Self {
        let mut column = Self {
            keys: Vec::new(),
            spans: Vec::new(),
            by_hash: FxHashMap::default(),
            collided: Vec::new(),
            hasher: RandomState::new(),
            indices: Vec::new(),
        };
        column.add_key("");
        column
    }
}

impl LowCardinalityColumn {
    /// Appends a row.
    pub fn push(&mut self, text: &str) {
        let index = match self.indices.last() {
            _ if text.is_empty() => 0,
            Some(last) if self.key(*last) == text.as_bytes() => *last,
            _ => self.index_of(text),
        };
        self.indices.push(index);
    }

    fn key(&self, index: u32) -> &[u8] {
        let (start, end) = self.spans[index as usize];
        &self.keys[start as usize..end as usize]
    }

    fn index_of(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        match self.by_hash.get(&hash).copied() {
            Some(index) if self.key(index) == text.as_bytes() => index,
            Some(_) => {
                let found = self
                    .collided
                    .iter()
                    .copied()
                    .find(|index| self.key(*index) == text.as_bytes());
                found.unwrap_or_else(|| {
                    let index = self.add_key(text);
                    self.collided.push(index);
                    index
                })
            }
            None => {
                let index = self.add_key(text);
                self.by_hash.insert(hash, index);
                index
            }
        }
    }

    fn add_key(&mut self, text: &str) -> u32 {
        varint::write_string(&mut self.keys, text);
        let end = self.keys.len();
        self.spans.push(((end - text.len()) as u32, end as u32));
        (self.spans.len() - 1) as u32
    }

    /// Removes all rows and keeps the memory.
    fn clear(&mut self) {
        self.keys.clear();
        self.spans.clear();
        self.by_hash.clear();
        self.collided.clear();
        self.indices.clear();
        self.add_key("");
    }

    /// Bytes per index (1, 2 or 4), and the number of that type in the format.
    fn index_width(&self) -> (usize, u64) {
        match self.spans.len() {
            0..=0x100 => (1, 0),
            0x101..=0x1_0000 => (2, 1),
            _ => (4, 2),
        }
    }
}

impl Column for LowCardinalityColumn {
    fn type_name(&self) -> &'static str {
        "LowCardinality(String)"
    }

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        let (width, index_type) = self.index_width();
        let mut out = Vec::with_capacity(PREAMBLE + self.keys.len() + self.indices.len() * width);
        out.extend_from_slice(&KEYS_VERSION.to_le_bytes());
        out.extend_from_slice(&(index_type | HAS_ADDITIONAL_KEYS).to_le_bytes());
        out.extend_from_slice(&(self.spans.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.keys);
        out.extend_from_slice(&(self.indices.len() as u64).to_le_bytes());
        for index in &self.indices {
            out.extend_from_slice(&index.to_le_bytes()[..width]);
        }
        self.clear();
        vec![out]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a column back, plainly.
    fn decode(bytes: &[u8]) -> Vec<String> {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(word(0), 1);
        let width = 1 << (word(8) & 0xff);
        let (mut keys, mut at) = (Vec::new(), 24);
        for _ in 0..word(16) {
            let (mut length, mut shift) = (0usize, 0);
            loop {
                length |= usize::from(bytes[at] & 0x7f) << shift;
                shift += 7;
                at += 1;
                if bytes[at - 1] < 0x80 {
                    break;
                }
            }
            keys.push(String::from_utf8(bytes[at..at + length].to_vec()).unwrap());
            at += length;
        }
        let rows = word(at) as usize;
        at += 8;
        assert_eq!(bytes.len(), at + rows * width);
        (0..rows)
            .map(|row| {
                let mut index = [0; 8];
                index[..width].copy_from_slice(&bytes[at + row * width..][..width]);
                keys[u64::from_le_bytes(index) as usize].clone()
            })
            .collect()
    }

    fn round_trip(column: &mut LowCardinalityColumn, rows: &[String]) -> Vec<String> {
        for row in rows {
            column.push(row);
        }
        let taken = column.take();
        assert!(column.is_empty());
        decode(&taken.concat())
    }

    #[test]
    fn the_width_of_an_index_follows_the_dictionary() {
        let mut column = LowCardinalityColumn::default();
        for size in [255, 256, 257, 65_535, 65_536, 65_537] {
            let rows: Vec<String> = (0..size).map(|n| n.to_string()).collect();
            assert_eq!(round_trip(&mut column, &rows), rows, "{size}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(rows in prop::collection::vec("(a|b|Ж)?.{0,3}", 1..200)) {
            prop_assert_eq!(round_trip(&mut LowCardinalityColumn::default(), &rows), rows);
        }
    }
}
