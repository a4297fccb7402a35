//! The stack with real services: each test has its own, in a folder of its own.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod command;
mod faults;
mod lifecycle;
mod support;
