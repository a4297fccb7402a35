//! ClickHouse: rows in, each once.

mod claim;
pub mod columns;
pub mod enriched;
pub mod events;
mod insert;
pub mod landed;
mod months;
pub mod newest;
mod parts;
pub mod plan;
pub mod recent;
pub mod warnings;

pub use columns::EventColumns;
pub use events::EventWriter;
pub use insert::nothing_was_written;
