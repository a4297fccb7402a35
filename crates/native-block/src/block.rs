//! A block: the columns of some rows.

use crate::varint;

/// A column's values, ready to be written.
pub trait Column: Send + Sync {
    /// The name of the type in ClickHouse.
    fn type_name(&self) -> &'static str;

    /// Number of rows held.
    fn len(&self) -> usize;

    /// Whether no row is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the values out, in the wire format and in pieces. The column is empty afterwards.
    fn take(&mut self) -> Vec<Vec<u8>>;
}

/// Columns that cannot be written as a block.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("column {column} holds {found} rows where the block has {expected}")]
pub struct BlockError {
    column: String,
    found: usize,
    expected: usize,
}

/// A shorter piece is copied behind what stands before it.
const SHORT: usize = 16 << 10;

/// Makes one block of `rows` rows of the given columns, in the order of the insert statement, and empties them. The block
/// is what the returned pieces are one behind another: the values of a long column are pieces of their own, so that nothing
/// long is copied.
///
/// # Errors
/// When a column holds another number of rows.
pub fn take_block(rows: usize, columns: &mut [(&str, &mut dyn Column)]) -> Result<Vec<Vec<u8>>, BlockError> {
    if let Some((name, column)) = columns.iter().find(|(_, column)| column.len() != rows) {
        return Err(BlockError {
            column: (*name).to_owned(),
            found: column.len(),
            expected: rows,
        });
    }
    let mut pieces = Vec::new();
    let mut open = Vec::new();
    varint::write(&mut open, columns.len() as u64);
    varint::write(&mut open, rows as u64);
    for (name, column) in columns {
        varint::write_string(&mut open, name);
        varint::write_string(&mut open, column.type_name());
        // A block without rows carries no values, not even a column's preamble.
        if rows == 0 {
            continue;
        }
        for values in column.take() {
            if values.len() < SHORT {
                open.extend_from_slice(&values);
            } else {
                pieces.extend([std::mem::take(&mut open), values]);
            }
        }
    }
    pieces.push(open);
    pieces.retain(|piece| !piece.is_empty());
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StringColumn, UInt16Column};

    #[test]
    fn a_block_is_counts_then_columns() {
        let (mut names, mut sizes) = (StringColumn::default(), UInt16Column::default());
        names.push("a");
        names.push("Ж");
        sizes.push(1);
        sizes.push(0x0203);
        let block = take_block(2, &mut [("n", &mut names), ("s", &mut sizes)]).unwrap();
        assert_eq!(
            block.concat(),
            b"\x02\x02\x01n\x06String\x01a\x02\xd0\x96\x01s\x06UInt16\x01\x00\x03\x02"
        );
        assert!(names.is_empty() && sizes.is_empty());
    }

    #[test]
    fn a_long_column_is_a_piece_of_its_own() {
        let (mut long, mut short) = (StringColumn::default(), UInt16Column::default());
        let text = "x".repeat(SHORT);
        long.push(&text);
        short.push(1);
        let mut columns: [(&str, &mut dyn Column); 2] = [("l", &mut long), ("s", &mut short)];
        let block = take_block(1, &mut columns).unwrap();
        assert_eq!(block.len(), 3);
        assert_eq!(block[0], b"\x02\x01\x01l\x06String");
        assert_eq!(block[1][..3], [0x80, 0x80, 0x01]);
        assert_eq!(block[1][3..], *text.as_bytes());
        assert_eq!(block[2], b"\x01s\x06UInt16\x01\x00");
    }

    #[test]
    fn columns_of_different_lengths_make_no_block() {
        let mut names = StringColumn::default();
        names.push("a");
        let error = take_block(2, &mut [("n", &mut names)]).unwrap_err();
        assert_eq!(error.to_string(), "column n holds 1 rows where the block has 2");
        assert_eq!(names.len(), 1);
    }
}
