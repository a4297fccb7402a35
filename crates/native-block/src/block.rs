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

    /// Upper bound of the bytes that the values take in a block.
    fn byte_len(&self) -> usize;

    /// Appends the values in the wire format.
    fn write(&self, out: &mut Vec<u8>);

    /// Removes all rows and keeps the memory.
    fn clear(&mut self);
}

/// Columns that cannot be written as a block.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("column {column} holds {found} rows where the block has {expected}")]
pub struct BlockError {
    column: String,
    found: usize,
    expected: usize,
}

/// Appends one block of `rows` rows with the given columns, in the order of the insert statement.
///
/// # Errors
/// When a column holds another number of rows; nothing is written then.
pub fn write_block(
    out: &mut Vec<u8>,
    rows: usize,
    columns: &[(&str, &dyn Column)],
) -> Result<(), BlockError> {
    if let Some((name, column)) = columns.iter().find(|(_, column)| column.len() != rows) {
        return Err(BlockError {
            column: (*name).to_owned(),
            found: column.len(),
            expected: rows,
        });
    }
    varint::write(out, columns.len() as u64);
    varint::write(out, rows as u64);
    for (name, column) in columns {
        varint::write_string(out, name);
        varint::write_string(out, column.type_name());
        // A block without rows carries no values, not even a column's preamble.
        if rows > 0 {
            column.write(out);
        }
    }
    Ok(())
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
        let mut out = Vec::new();
        write_block(&mut out, 2, &[("n", &names), ("s", &sizes)]).unwrap();
        assert_eq!(
            out,
            b"\x02\x02\x01n\x06String\x01a\x02\xd0\x96\x01s\x06UInt16\x01\x00\x03\x02"
        );
    }

    #[test]
    fn columns_of_different_lengths_make_no_block() {
        let mut names = StringColumn::default();
        names.push("a");
        let mut out = Vec::new();
        let error = write_block(&mut out, 2, &[("n", &names)]).unwrap_err();
        assert_eq!(error.to_string(), "column n holds 1 rows where the block has 2");
        assert!(out.is_empty());
    }
}
