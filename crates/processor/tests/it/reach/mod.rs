//! Every form of address, against the real server of that form, and what is said when it is wrong.

mod clickhouse_keeper;
mod clickhouse_replicas;
mod clickhouse_tls;
mod cluster;
mod cluster_asked;
mod cluster_commands;
mod cluster_outages;
mod cluster_readers;
mod cluster_shared;
mod cluster_slots;
mod cluster_tls;
pub(crate) mod clustered;
mod collectors;
mod postgres;
mod redis_tls;
mod redis_user;
mod rotations;
mod secrets;
mod sentinel;
mod sockets;
mod valkey;
