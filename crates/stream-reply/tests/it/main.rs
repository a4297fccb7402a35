//! The decoder as a whole: generated replies, broken replies, a real server's replies, and the client library's reading.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is how a test fails")]

mod generated;
mod reading;
mod server;
