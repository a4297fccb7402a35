//! What is around the process: its environment, files and port.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use enrichment::geo::GeoDatabase;

use super::finding::{Findings, Told};
use crate::config::{Config, unknown_variables};
use crate::telemetry::heartbeat;

/// Longest that whoever has the port is asked what it is.
const WHO: Duration = Duration::from_millis(500);

pub(super) async fn check(config: &Config) -> Findings {
    let mut findings = Findings::new();
    let name = &config.consumer_name;
    let own = Told::Fine(format!("this instance would be consumer {name}"));
    findings.add("configuration", own);
    for unknown in unknown_variables() {
        findings.add("configuration", Told::Warning(unknown.to_string()));
    }
    if let Some(said) = config.development_password() {
        findings.add("configuration", Told::Warning(said.into()));
    }
    let config = config.clone();
    let of_the_machine = tokio::task::spawn_blocking(move || {
        (
            heartbeat_file(&config),
            config.metrics_listen.as_deref().map(port),
            geo_database(&config),
        )
    });
    // Only a panic ends it otherwise, which the log tells.
    if let Ok((heartbeat, port, geo)) = of_the_machine.await {
        findings.add("heartbeat", heartbeat);
        if let Some(port) = port {
            findings.add("metrics", port);
        }
        findings.add("GeoIP", geo);
    }
    findings
}

/// Whether the file can be written, and is nobody else's.
fn heartbeat_file(config: &Config) -> Told {
    let path = &config.heartbeat_path;
    if let Err(error) = can_be_written_beside(path) {
        return Told::Wrong(format!(
            "{} cannot be written: {error}: set HEARTBEAT_PATH to a path in a folder that can be, or every probe fails",
            path.display()
        ));
    }
    match heartbeat::owner_alive(path) {
        None => Told::Fine(format!("{} can be written", path.display())),
        Some(note) => Told::Warning(format!(
            "{} is the heartbeat of {}, process {}, which runs: another instance here needs a HEARTBEAT_PATH of its own",
            path.display(),
            note.consumer,
            note.process.pid
        )),
    }
}

/// As the heartbeat is written: a file beside it, which goes again.
fn can_be_written_beside(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}", rand::random::<u64>()));
    OpenOptions::new().write(true).create_new(true).open(&draft)?;
    std::fs::remove_file(&draft)
}

/// Whether the port is free.
fn port(address: &str) -> Told {
    match TcpListener::bind(address) {
        Ok(_free) => Told::Fine(format!("{address} is free")),
        Err(_)
            if address
                .to_socket_addrs()
                .is_ok_and(|mut all| all.any(serves_our_metrics)) =>
        {
            Told::Warning(format!(
                "{address} is taken by an instance that runs: another one here needs a METRICS_LISTEN of its own"
            ))
        }
        Err(error) => Told::Wrong(format!(
            "{address} cannot be listened on: {error}: set METRICS_LISTEN to a port that is free"
        )),
    }
}

fn serves_our_metrics(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, WHO)?;
        stream.set_read_timeout(Some(WHO))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut beginning = [0; 4096];
        let mut read = 0;
        while let Ok(more @ 1..) = stream.read(&mut beginning[read..]) {
            read += more;
        }
        Ok(String::from_utf8_lossy(&beginning[..read]).contains("qurvo_processor_"))
    };
    ask().unwrap_or(false)
}

/// Whether the file can be used.
fn geo_database(config: &Config) -> Told {
    match (&config.geoip_database, &config.geoip_url) {
        (Some(path), _) => match GeoDatabase::open(path) {
            Ok(_database) => Told::Fine(format!("{} can be used", path.display())),
            Err(error) => Told::Wrong(format!(
                "{error}: GEOIP_DATABASE is {}; without it events get no country, for good",
                path.display()
            )),
        },
        (None, Some(_)) => Told::Fine("GEOLITE2_COUNTRY_URL is downloaded by the worker".into()),
        (None, None) => Told::Warning(
            "GEOIP_DATABASE and GEOLITE2_COUNTRY_URL are unset: events get no country, for good".into(),
        ),
    }
}
