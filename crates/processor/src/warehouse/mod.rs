//! ClickHouse: rows in, each once.

pub(crate) mod columns;
pub(crate) mod enriched;
pub(crate) mod events;
mod insert;
pub(crate) mod landed;
mod months;
pub(crate) mod newest;
mod own_inserts;
mod parts;
pub(crate) mod plan;
pub(crate) mod recent;
pub(crate) mod row;
mod row_owner;
pub(crate) mod warnings;

pub use columns::EventColumns;
pub(crate) use events::EventWriter;
pub(crate) use insert::{STILL_RUNS, nothing_was_written};
pub(crate) use landed::SeenRow;
pub(crate) use row::Row;
