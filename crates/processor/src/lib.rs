//! `qurvo-processor`: takes events off a Redis Stream, decides which person each belongs to, and lands them in
//! ClickHouse. See ARCHITECTURE.md for the shape and the reasons.

// A batch's whole way is one future. Whether it may be sent to another thread is decided type by type, and how deep that
// goes depends on what the compiler has seen before: near the usual limit of 128 some builds fail.
#![recursion_limit = "256"]

pub mod cli;
pub mod cohorts;
pub mod config;
pub mod definitions;
pub mod event;
pub mod identity;
mod intake;
mod logs;
mod metrics;
mod migrations;
mod pipeline;
mod replay;
pub mod runtime;
mod set_aside;
pub mod stores;
mod telemetry;
mod traces;
mod warehouse;
mod worker;

/// What tests of the whole program look at besides.
pub mod testing {
    pub use crate::migrations::clickhouse_statements;
    pub use crate::warehouse::EventColumns;
}
