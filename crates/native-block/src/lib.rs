//! Encodes blocks of ClickHouse's Native format as its HTTP interface takes them: `INSERT INTO t (…) FORMAT Native`.
//!
//! Columns are filled row by row, straight into the bytes that go over the wire; a block is made of them without copying
//! what is long.
//! No decoder, no compression, no I/O.
//!
//! Format: number of columns and of rows (variable-length integers), then for each column its name, its type and its
//! values. Source: ClickHouse's documentation of the Native format and of `LowCardinality` serialisation.

mod block;
mod low_cardinality;
mod pieces;
mod plain;
mod varint;

pub use block::{BlockError, Column, take_block};
pub use low_cardinality::LowCardinalityColumn;
pub use plain::{
    DateColumn, DateTime64Column, DateTimeColumn, StringColumn, UInt16Column, UInt64Column, UuidColumn,
};
