//! Redis: how it is started and how it is known to be ready. Never listens beyond loopback.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::site::Site;
use crate::spawn::Launch;
use crate::{ServiceKind, StackError, locate};

/// An append-only file holds the data, so that the stream survives restarts and kills. Writes reach the system before
/// they are acknowledged; `durable` also flushes them to disk every second. With a port for the `bus` it is a cluster's node.
pub(crate) fn launch(site: &Site, port: u16, durable: bool, bus: Option<u16>) -> Result<Launch, StackError> {
    let folder = site.data(ServiceKind::Redis);
    std::fs::create_dir_all(&folder).map_err(StackError::path("create", &folder))?;
    let port = port.to_string();
    let flush = if durable { "everysec" } else { "no" };
    let settings = [
        ["--port", &port],
        ["--bind", "127.0.0.1"],
        ["--dir", "."],
        ["--appendonly", "yes"],
        ["--appendfsync", flush],
        ["--save", ""],
        ["--daemonize", "no"],
    ];
    let launch = Launch::new(locate::redis_server()?, folder).args(settings.as_flattened());
    Ok(match bus {
        Some(bus) => launch.args(node_settings(&bus.to_string()).as_flattened()),
        None => launch,
    })
}

/// A node of a cluster: a master that says nothing for two seconds is replaced, by a replica that is as old as it may be.
fn node_settings(bus: &str) -> [[&str; 2]; 6] {
    [
        ["--cluster-enabled", "yes"],
        ["--cluster-port", bus],
        ["--cluster-node-timeout", "2000"],
        ["--cluster-replica-validity-factor", "0"],
        ["--cluster-allow-replica-migration", "no"],
        ["--repl-diskless-sync-delay", "0"],
    ]
}

/// Asks the server on `port` who it is; fine when it is `pid` and has loaded its data.
pub(crate) async fn probe(port: u16, pid: i32) -> Result<(), String> {
    let info = ask(port, "INFO\r\n").await.map_err(|error| error.to_string())?;
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    match (field("process_id:"), field("loading:")) {
        (Some(process), Some("0")) if process == pid.to_string() => Ok(()),
        (Some(process), _) if process == pid.to_string() => Err("it is loading its data".into()),
        (Some(_), _) => Err(format!("another server answers on port {port}")),
        (None, _) => Err(info
            .lines()
            .next()
            .unwrap_or("it closed the connection")
            .to_owned()),
    }
}

/// Sends one inline command and reads everything the server says to it.
async fn ask(port: u16, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(command.as_bytes()).await?;
    // `QUIT` makes the server close after its answer, so that the answer's length need not be read out of it.
    stream.write_all(b"QUIT\r\n").await?;
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
