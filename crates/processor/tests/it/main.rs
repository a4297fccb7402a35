//! The worker as a process, against real Redis, real PostgreSQL and ClickHouse's real engine.

mod columns;
mod commands;
mod crashes;
mod identity;
mod lifecycle;
mod outages;
mod rejects;
mod samples;
mod support;
