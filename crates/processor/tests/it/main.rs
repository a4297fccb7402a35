//! The worker as a process, against real Redis, real PostgreSQL and ClickHouse's real engine.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is how a test fails")]

mod bounds;
mod bounds_large;
mod cohorts;
mod columns;
mod commands;
mod crashes;
mod dead_letter_commands;
mod dead_letters;
mod definitions;
mod hostile;
mod identity;
mod lifecycle;
mod locks;
mod metrics;
mod migrations;
mod outages;
mod recoveries;
mod rejects;
mod samples;
mod support;
