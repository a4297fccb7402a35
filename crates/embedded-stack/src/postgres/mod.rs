//! PostgreSQL: how it is started and how it is known to be ready. Never runs as root, never listens beyond loopback,
//! and has no socket file: nobody else's is in its way, and the data folder's path may be as long as it likes.

mod cluster;
mod place;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub(crate) use place::remove;

use crate::account::Account;
use crate::site::Site;
use crate::spawn::Launch;
use crate::{DATABASE, PASSWORD, StackError, USER, locate};

const PATIENCE: Duration = Duration::from_secs(3);

/// Makes the cluster if there is none yet.
pub(crate) fn launch(site: &Site, port: u16, durable: bool) -> Result<Launch, StackError> {
    let programs = locate::postgres_programs()?;
    let account = Account::unprivileged()?;
    let folder = place::folder(site, account)?;
    cluster::ensure(&programs, &folder, account, durable)?;
    let launch = Launch::new(programs.join("postgres"), &folder)
        .account(account)
        .arg("-D")
        .arg(&folder);
    Ok(settings(port, durable)
        .into_iter()
        .fold(launch, |launch, setting| launch.arg("-c").arg(setting)))
}

/// Small, but not so small that measurements mean nothing. Without `durable` a commit still reaches the system before
/// it is acknowledged, so killing the server loses nothing.
fn settings(port: u16, durable: bool) -> Vec<String> {
    let flush = if durable { "on" } else { "off" };
    let mut settings: Vec<String> = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=60",
        "shared_buffers=128MB",
        "max_wal_size=1GB",
        "jit=off",
        "timezone=UTC",
        "log_timezone=UTC",
        "logging_collector=off",
    ]
    .map(str::to_owned)
    .into();
    settings.push(format!("port={port}"));
    settings.extend(["fsync", "full_page_writes"].map(|name| format!("{name}={flush}")));
    settings
}

/// Fine when a query is answered by the server whose data is in this site.
pub(crate) async fn probe(site: &Site, port: u16) -> Result<(), String> {
    let client = connect(port).await?;
    let rows = client
        .simple_query("SHOW data_directory")
        .await
        .map_err(|error| explain(&error))?;
    let answered = rows.iter().find_map(|row| match row {
        SimpleQueryMessage::Row(row) => row.get(0).map(PathBuf::from),
        _ => None,
    });
    let own = Account::unprivileged().and_then(|account| place::folder(site, account));
    match (answered, own) {
        (Some(answered), Ok(own)) if same_folder(&answered, &own) => Ok(()),
        _ => Err(format!("another server answers on port {port}")),
    }
}

fn same_folder(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

async fn connect(port: u16) -> Result<Client, String> {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user(USER)
        .password(PASSWORD)
        .dbname(DATABASE);
    let connected = tokio::time::timeout(PATIENCE, config.connect(NoTls)).await;
    let (client, connection) = connected
        .map_err(|_| "no answer".to_owned())?
        .map_err(|error| explain(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

/// The server's own words where there are any: the client's error alone says no more than "db error".
fn explain(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), ToString::to_string)
}
