//! The stack with real services: each test has its own, in a folder of its own.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]
#![allow(
    clippy::disallowed_methods,
    reason = "only the worker has one place that speaks to Redis"
)]

mod cluster;
mod command;
mod faults;
mod lifecycle;
mod support;
