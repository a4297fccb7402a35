//! The server as a process, asked by the client that production uses and by hand-made requests.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is how a test fails")]

mod client;
mod dictionaries;
mod native;
mod persistence;
mod protocol;
mod support;
