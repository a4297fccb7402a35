//! The worker as a process, against real Redis, real PostgreSQL and ClickHouse's real engine.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is how a test fails")]

mod answers;
mod bounds;
mod bounds_large;
mod cohorts;
mod columns;
mod command_output;
mod commands;
mod crashes;
mod dead_letter_commands;
mod dead_letters;
mod definitions;
mod doors;
mod failure_scripts;
mod holding;
mod hostile;
mod identity;
mod lasting_failures;
mod lifecycle;
mod liveness;
mod locks;
mod logs;
mod lying;
mod metrics;
mod migrations;
mod once;
mod outages;
mod projects;
mod publishing;
mod recoveries;
mod rejects;
mod samples;
mod signals;
mod support;
mod suspects;
mod trimming;
mod wrong_types;
