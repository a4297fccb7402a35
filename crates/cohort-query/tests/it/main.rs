//! The compiled queries against the real engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::float_cmp,
    reason = "a test that cannot go on fails"
)]
mod contract_page;
mod coverage;
mod differential;
mod documents;
mod engine;
mod examples;
mod generated;
mod hostile;
mod naive;
mod snapshots;
mod understood;
