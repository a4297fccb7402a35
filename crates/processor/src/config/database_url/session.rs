//! Servers, and what a session has in common with every other, whichever server it is with.

use std::fmt::{self, Write};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::given::{Fault, Given};

/// Idle connections are asked for so often whether they live, so that a router does not forget them.
const KEEPALIVE: &str = "30";
const APPLICATION: &str = "qurvo-processor";
const PORT: u16 = 5432;

/// Parameters whose values the client reads, by libpq's name and by its own.
const READ_BY_CLIENT: &[(&str, &str)] = &[
    ("dbname", "dbname"),
    ("user", "user"),
    ("password", "password"),
    ("options", "options"),
    ("connect_timeout", "connect_timeout"),
    ("keepalives", "keepalives"),
    ("keepalives_idle", "keepalives_idle"),
    ("keepalives_interval", "keepalives_interval"),
    ("keepalives_count", "keepalives_retries"),
    ("load_balance_hosts", "load_balance_hosts"),
    ("channel_binding", "channel_binding"),
    ("sslnegotiation", "sslnegotiation"),
];

/// One place where the server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresServer {
    /// Its name, or the folder of its socket.
    pub host: Host,
    /// Its address, where the name is not to be looked up.
    pub address: Option<IpAddr>,
    /// Its port, which is also part of the socket's name.
    pub port: u16,
}

impl fmt::Display for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Tcp(name) => write!(f, "{name}:{}", self.port),
            Host::Unix(folder) => write!(f, "{}:{}", folder.display(), self.port),
        }
    }
}

/// What the client understands of parameters and values.
fn read_by_client<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Config> {
    let mut text = String::new();
    for (name, value) in pairs {
        let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
        let _a_string_takes_all = write!(text, "{name}='{escaped}' ");
    }
    Config::from_str(&text).ok()
}

pub(super) fn servers(given: &Given) -> Result<Vec<PostgresServer>, Fault> {
    let list = |name: &str| {
        let value = given.get(name).unwrap_or_default();
        let of_client = (!value.is_empty()).then_some((name, value));
        read_by_client(of_client).ok_or_else(|| given.fault(name, expected(name)))
    };
    let hosts = list("host")?.get_hosts().to_vec();
    let addresses = list("hostaddr")?.get_hostaddrs().to_vec();
    let ports = list("port")?.get_ports().to_vec();
    let is_named = |host: &Host| !matches!(host, Host::Tcp(name) if name.is_empty());
    if (hosts.is_empty() && addresses.is_empty()) || !hosts.iter().all(is_named) {
        return Err(Fault::hidden(
            "each host to be named: postgresql://host/database, or ?host=/run/postgresql for a socket",
        ));
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(given.fault("hostaddr", "as many addresses as there are hosts"));
    }
    let count = hosts.len().max(addresses.len());
    if ports.len() > 1 && ports.len() != count {
        return Err(given.fault("port", "one port, or as many as there are hosts"));
    }
    let server = |index: usize| {
        let address = addresses.get(index).copied();
        let named = hosts.get(index).cloned();
        Some(PostgresServer {
            host: named.or_else(|| Some(Host::Tcp(address?.to_string())))?,
            address,
            // One port is that of all hosts.
            port: ports.get(index).or(ports.first()).copied().unwrap_or(PORT),
        })
    };
    Ok((0..count).filter_map(server).collect())
}

pub(super) fn session(given: &Given) -> Result<Config, Fault> {
    let pairs = READ_BY_CLIENT
        .iter()
        .filter_map(|(name, of_client)| Some((*name, *of_client, given.get(name)?)));
    for (name, of_client, value) in pairs.clone() {
        if read_by_client([(of_client, value)]).is_none() {
            return Err(given.fault(name, expected(name)));
        }
    }
    let application = given
        .get("application_name")
        .or(given.get("fallback_application_name"))
        .unwrap_or(APPLICATION);
    let idle = given
        .get("keepalives_idle")
        .is_none()
        .then_some(("keepalives_idle", KEEPALIVE));
    let writable = given.choice(
        "target_session_attrs",
        &[
            ("any", "any"),
            ("read-write", "read-write"),
            ("primary", "read-write"),
        ],
    );
    let writable = writable.map_err(|fault| Fault {
        accepted: "`target_session_attrs` to be any, read-write or primary, because the worker writes".into(),
        ..fault
    })?;
    let ours = [
        Some(("application_name", application)),
        idle,
        writable.map(|value| ("target_session_attrs", value)),
    ];
    let all = pairs.map(|(_, of_client, value)| (of_client, value));
    let mut config = read_by_client(all.chain(ours.into_iter().flatten()))
        .ok_or_else(|| Fault::hidden("values that libpq takes"))?;
    if let Some(value) = given.get("tcp_user_timeout") {
        // libpq counts milliseconds here, its client in seconds.
        let milliseconds: u64 = value
            .parse()
            .map_err(|_| given.fault("tcp_user_timeout", expected("tcp_user_timeout")))?;
        if milliseconds > 0 {
            config.tcp_user_timeout(Duration::from_millis(milliseconds));
        }
    }
    Ok(config)
}

fn expected(name: &str) -> &'static str {
    match name {
        "host" => "names of hosts, or folders of sockets, with commas between them",
        "hostaddr" => "IP addresses with commas between them",
        "port" => "ports from 1 to 65535 with commas between them",
        "tcp_user_timeout" => "milliseconds, a whole number",
        "connect_timeout" | "keepalives_idle" | "keepalives_interval" => "seconds, a whole number",
        "keepalives" | "keepalives_count" => "a whole number",
        "channel_binding" => "`channel_binding` to be one of disable, prefer, require",
        "load_balance_hosts" => "`load_balance_hosts` to be one of disable, random",
        "sslnegotiation" => "`sslnegotiation` to be one of postgres, direct",
        _ => "another value",
    }
}
