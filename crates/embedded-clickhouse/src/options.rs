//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// Serves ClickHouse's HTTP interface with the engine in libchdb.
#[derive(Debug, Clone, Parser)]
#[command(name = "embedded-clickhouse", version)]
pub struct Options {
    /// Path of libchdb.so.
    #[arg(long, env = "LIBCHDB_PATH")]
    pub library: PathBuf,
    /// Data folder; one process at a time may use it.
    #[arg(long)]
    pub data: PathBuf,
    /// A configuration file of ClickHouse's own, with clusters for instance.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8123")]
    pub listen: SocketAddr,
    /// Allow an address other than loopback.
    #[arg(long)]
    pub allow_remote: bool,
    /// User that requests must name.
    #[arg(long, default_value = "default")]
    pub user: String,
    /// Password that requests must give.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub password: String,
    /// File to write the bound port to.
    #[arg(long)]
    pub port_file: Option<PathBuf>,
    /// Longest request body in bytes, before and after decompression.
    #[arg(long, default_value_t = 1 << 30)]
    pub max_body_bytes: usize,
    /// Memory the engine may use, in bytes.
    #[arg(long, default_value_t = 2 << 30)]
    pub max_server_memory: u64,
    /// Requests executed at the same time; more wait.
    #[arg(long, default_value_t = 16)]
    pub max_concurrent: usize,
}
