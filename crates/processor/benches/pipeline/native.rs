//! Reads as much of ClickHouse's Native format as the worker's inserts need: how many rows there are, and their times.

/// The column that is looked into.
const TIMES: &str = "timestamp";

/// What some blocks hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) rows: usize,
    /// Event times, milliseconds since 1970.
    pub(crate) times: Vec<i64>,
}

/// Blocks that follow each other to the end.
///
/// # Panics
/// When they are not what the worker sends.
pub(crate) fn read(body: &[u8]) -> Rows {
    let (mut rest, mut found) = (Cursor(body), Rows::default());
    while !rest.0.is_empty() {
        let (columns, rows) = (rest.number(), rest.number());
        for _ in 0..columns {
            let (name, kind) = (rest.text(), rest.text());
            if rows == 0 {
                continue;
            }
            match (kind, width(kind)) {
                (_, Some(width)) => {
                    let values = rest.bytes(rows * width);
                    if name == TIMES.as_bytes() {
                        let (times, _) = values.as_chunks::<8>();
                        found
                            .times
                            .extend(times.iter().map(|time| i64::from_le_bytes(*time)));
                    }
                }
                (b"String", None) => rest.texts(rows),
                (b"LowCardinality(String)", None) => rest.low_cardinality(),
                _ => panic!("a column of type {}", String::from_utf8_lossy(kind)),
            }
        }
        found.rows += rows;
    }
    assert_eq!(found.rows, found.times.len(), "every row has a time");
    found
}

/// Bytes of a value, where all have as many.
fn width(kind: &[u8]) -> Option<usize> {
    match kind {
        b"UUID" => Some(16),
        b"UInt64" | b"DateTime64(3, 'UTC')" => Some(8),
        b"DateTime" => Some(4),
        b"UInt16" | b"Date" => Some(2),
        b"UInt8" => Some(1),
        _ => None,
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    /// Seven bits a byte, the lowest first, until a byte without the highest bit.
    fn number(&mut self) -> usize {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.bytes(1)[0];
            number |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }

    fn text(&mut self) -> &'a [u8] {
        let length = self.number();
        self.bytes(length)
    }

    fn texts(&mut self, count: usize) {
        for _ in 0..count {
            self.text();
        }
    }

    fn word(&mut self) -> usize {
        let (words, _) = self.bytes(8).as_chunks::<8>();
        u64::from_le_bytes(words[0]) as usize
    }

    /// The version, the width of indices, the keys, the indices.
    fn low_cardinality(&mut self) {
        assert_eq!(self.word(), 1, "the version of keys");
        let width = 1 << (self.word() & 0xff);
        let keys = self.word();
        self.texts(keys);
        let rows = self.word();
        self.bytes(rows * width);
    }
}
