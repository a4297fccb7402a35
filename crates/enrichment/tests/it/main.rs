//! GeoIP databases: what they answer, and how they are fetched and kept current.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is how a test fails")]

mod database;
mod refresh;
mod support;
