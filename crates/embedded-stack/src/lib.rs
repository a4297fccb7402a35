//! Private Redis, PostgreSQL and ClickHouse on loopback, for development and tests.
//!
//! A [`Stack`] starts the installed `redis-server`, the installed PostgreSQL on a private cluster, and
//! `embedded-clickhouse`, all with their data in one folder; each [`Service`] can be stopped, killed, paused and
//! started again on the same port and data, which is what failure tests need.
//!
//! ```no_run
//! # async fn example() -> Result<(), embedded_stack::StackError> {
//! use embedded_stack::{Stack, StackOptions};
//!
//! let stack = Stack::start(StackOptions::temporary()?).await?;
//! let url = stack.redis_url()?;
//! stack.postgres()?.kill().await?;
//! stack.postgres()?.start().await?;
//! # Ok(()) }
//! ```
//!
//! A [`RedisCluster`] is the same for Redis's nodes of one cluster: slots are moved, masters killed and replicas promoted
//! while a test's load goes on.
//!
//! It must never listen on anything but loopback, never run PostgreSQL as root, and never signal a process that it
//! has not identified as one it started.

mod account;
mod clickhouse;
mod cluster_nodes;
mod error;
mod http;
mod kind;
mod locate;
mod node;
mod options;
mod pid_file;
mod ports;
mod postgres;
mod process;
mod redis;
mod redis_cluster;
mod resharding;
mod running;
mod service;
mod site;
mod spawn;
mod stack;
mod temporary;

pub use error::StackError;
pub use kind::ServiceKind;
pub use options::{External, Lifetime, PortChoice, StackOptions};
pub use redis_cluster::RedisCluster;
pub use resharding::SlotMove;
pub use service::{Service, ServiceState};
pub use stack::{Stack, Standing, environment};

/// Name of the database that the stack creates in PostgreSQL and in ClickHouse.
pub const DATABASE: &str = "qurvo_analytics";
/// Name of the user that the stack creates in PostgreSQL and that `embedded-clickhouse` accepts.
pub const USER: &str = "qurvo";
/// That user's password. It protects nothing: the stack is for loopback and for made-up data.
pub const PASSWORD: &str = "qurvo_secret";
