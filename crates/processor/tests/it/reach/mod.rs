//! Stores as they stand in production.

mod cluster;
mod cluster_commands;
mod cluster_outages;
mod clustered;
