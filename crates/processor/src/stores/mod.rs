//! Connections to the three stores, and what their errors mean.
//!
//! Every connection has its own time-outs, so that a silent service is an ordinary, classified failure.

mod advice;
mod answer;
mod asked;
mod body;
mod clickhouse;
mod codes;
mod error;
mod ids;
mod insert;
mod places;
mod postgres;
mod redis;
mod replicas;
mod texts;
mod tls;
mod tls_advice;
#[cfg(test)]
mod tls_tests;
mod unanswered;

pub use self::body::Body;
pub use self::clickhouse::ClickHouse;
pub use self::codes::{SqlClass, engine};
pub use self::error::{Classify, FailureKind, Store, StoreError};
pub use self::places::Places;
pub use self::postgres::{Postgres, Protection, Reached, Transaction, unnest_keys};
pub(crate) use self::redis::assert_one_of_words;
pub use self::redis::{Dialer, NO_TLS, OpenSlot, Redis, Socket, TimeLeft, asked_node, script, slot_of};
pub(crate) use self::tls::connector as tls_connector;
pub(crate) use self::tls_advice::of_collector as tls_advice_of_collector;
