//! ClickHouse: rows in, each once.

pub mod columns;
pub mod enriched;
pub mod events;
mod insert;
pub mod landed;
mod months;
mod parts;
pub mod plan;
pub mod recent;
pub mod row;
mod row_owner;
pub mod warnings;

pub use columns::EventColumns;
pub use events::EventWriter;
pub use insert::nothing_was_written;
pub use row::Row;
