//! `qurvo-processor`: takes events off a Redis Stream, decides which person each belongs to, and lands them in
//! ClickHouse. See ARCHITECTURE.md for the shape and the reasons.

pub mod cli;
pub mod cohorts;
pub mod config;
pub mod definitions;
pub mod event;
pub mod identity;
pub mod intake;
pub mod logs;
pub mod metrics;
pub mod migrations;
pub mod pipeline;
pub mod replay;
pub mod runtime;
pub mod set_aside;
pub mod stores;
pub mod telemetry;
pub mod warehouse;
pub mod worker;
