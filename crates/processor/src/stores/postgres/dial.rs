//! Connections to PostgreSQL as libpq makes them: server after server and address after address, by TLS or without it as
//! `sslmode` says, until one answers that may be taken.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::seq::SliceRandom;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::{
    Host, LoadBalanceHosts, SslMode as Negotiated, SslNegotiation, TargetSessionAttrs,
};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{PostgresConfig, PostgresServer, Ssl, SslMode};
use crate::stores::advice::POSTGRES_SPEAKS_NO_TLS;
use crate::stores::tls::{self, Demand};
use crate::stores::{FailureKind, SqlClass, Store, StoreError};

/// Longest that one server may take, where it is the only one.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where there are others: one that is gone without a word must not keep us from the next.
const PATIENCE_OF_SEVERAL: Duration = Duration::from_secs(3);
/// Longest that all servers may take together; a statement waits no longer.
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(25);

const DURING: &str = "connecting";
const MUTE: &str = "the server took the connection and said nothing: does PostgreSQL answer there?";
/// How the client begins what it says of a server that it did not come to speak with.
const NOT_REACHED: &str = "error connecting to server";

/// How a connection is protected on its way to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Whoever is on the way can read it.
    Nothing,
    /// By TLS, with whoever answered.
    Encrypted,
    /// By TLS, with a server that an authority we trust has signed.
    SignedServer,
    /// The same, and the certificate is for the name that was asked for.
    NamedServer,
}

/// Where a connection leads.
#[derive(Debug, Clone)]
pub struct Reached {
    /// The server, of those that are configured.
    pub server: PostgresServer,
    /// Whether that is this machine.
    pub is_here: bool,
    /// How the way there is protected.
    pub protection: Protection,
}

/// A new connection.
pub(super) struct Dialed {
    pub(super) client: Client,
    /// Drives the connection; ends with it.
    pub(super) task: JoinHandle<()>,
    /// How it speaks TLS, if it does: a request to cancel has to speak it too.
    pub(super) tls: Option<MakeRustlsConnect>,
    pub(super) reached: Reached,
}

/// Makes connections.
pub(super) struct Dialer {
    config: PostgresConfig,
    demand: Demand,
    tls: MakeRustlsConnect,
    /// Longest that one server may take.
    patience: Duration,
    /// Where the next connection is tried first, where only one of the servers is wanted: the one that was reached last, or
    /// the one behind that at which a try was given up half-way.
    first: AtomicUsize,
}

/// Why one attempt failed.
struct Failed {
    error: StoreError,
    /// Whether the server was there and refused, so that it may accept us with TLS, or without.
    refused: bool,
}

impl Dialer {
    pub(super) fn new(config: &PostgresConfig) -> Self {
        let demand = demand(&config.ssl);
        let mut tls = tls::client_with(&config.ssl.files, demand, &versions(&config.ssl));
        tls.enable_sni = config.ssl.names_server;
        if config.session.get_ssl_negotiation() == SslNegotiation::Direct {
            tls.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        let servers = u32::try_from(config.servers.len().max(1)).unwrap_or(u32::MAX);
        let unset = if servers == 1 {
            PATIENCE
        } else {
            PATIENCE_OF_SEVERAL
        };
        let wanted = config.session.get_connect_timeout().copied().unwrap_or(unset);
        Self {
            config: config.clone(),
            demand,
            tls: MakeRustlsConnect::new(tls),
            patience: wanted.min(PATIENCE_WITH_ALL / servers),
            first: AtomicUsize::new(0),
        }
    }

    /// A connection to the first server that may be taken.
    pub(super) async fn dial(&self) -> Result<Dialed, StoreError> {
        let servers = self.in_order(&self.config.servers);
        let count = servers.len();
        // Any that answers is taken: then the order says which is preferred.
        let is_one_wanted = self.config.session.get_target_session_attrs() != TargetSessionAttrs::Any;
        let first = if is_one_wanted {
            self.first.load(Ordering::Relaxed)
        } else {
            0
        };
        let mut failures = Vec::new();
        for index in (first..first + count).map(|index| index % count) {
            // Whoever waits for this connection may give up at any time.
            self.first.store((index + 1) % count, Ordering::Relaxed);
            let server = servers[index];
            match self.dial_server(server).await {
                Ok(dialed) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(dialed);
                }
                Err(error) => failures.push((server.to_string(), error)),
            }
        }
        Err(all(failures))
    }

    fn in_order<'a, T>(&self, choices: &'a [T]) -> Vec<&'a T> {
        let mut order: Vec<&T> = choices.iter().collect();
        if self.config.session.get_load_balance_hosts() == LoadBalanceHosts::Random {
            order.shuffle(&mut rand::rng());
        }
        order
    }

    async fn dial_server(&self, server: &PostgresServer) -> Result<Dialed, StoreError> {
        let until = Instant::now() + self.patience;
        let found = timeout(self.patience, addresses(server)).await;
        let found = found.unwrap_or_else(|_elapsed| Err(failure(&"its name is not found in time")))?;
        let mut failures = Vec::new();
        for (index, address) in self.in_order(&found).into_iter().enumerate() {
            // None of several addresses may take the time of those behind it.
            let others = u32::try_from(found.len() - index).unwrap_or(u32::MAX);
            let limit = until.saturating_duration_since(Instant::now()) / others;
            match timeout(limit, self.dial_address(server, *address, limit)).await {
                Ok(Ok(dialed)) => return Ok(dialed),
                Ok(Err(error)) => failures.push((shown(*address), error)),
                Err(_elapsed) => failures.push((shown(*address), failure(&MUTE))),
            }
        }
        Err(all(failures))
    }

    async fn dial_address(
        &self,
        server: &PostgresServer,
        address: Option<IpAddr>,
        limit: Duration,
    ) -> Result<Dialed, StoreError> {
        let mut config = self.config.session.clone();
        match (&server.host, address) {
            (Host::Unix(folder), _) => config.host_path(folder),
            (Host::Tcp(name), None) => config.host(name),
            (Host::Tcp(name), Some(address)) => config.host(name).hostaddr(address),
        };
        // A little less than all, so that it is the client that says what is the matter.
        config.port(server.port).connect_timeout(limit.mul_f64(0.9));
        let mut before = None;
        for by_tls in ways(self.config.ssl.mode, address.is_none()) {
            let failed = match self.attempt(&mut config, server, address, *by_tls).await {
                Ok(dialed) => return Ok(dialed),
                Err(failed) => failed,
            };
            let error = both(before.take(), failed.error, *by_tls);
            if !failed.refused {
                return Err(error);
            }
            before = Some(error);
        }
        Err(before.unwrap_or_else(|| failure(&MUTE)))
    }

    async fn attempt(
        &self,
        config: &mut Config,
        server: &PostgresServer,
        address: Option<IpAddr>,
        by_tls: bool,
    ) -> Result<Dialed, Failed> {
        let (connected, protection) = if by_tls {
            config.ssl_mode(Negotiated::Require);
            let protection = match self.demand {
                Demand::Nothing => Protection::Encrypted,
                Demand::Authority => Protection::SignedServer,
                Demand::AuthorityAndName => Protection::NamedServer,
            };
            (connected(config, self.tls.clone()).await, protection)
        } else {
            config.ssl_mode(Negotiated::Disable);
            (connected(config, NoTls).await, Protection::Nothing)
        };
        let (client, task) = connected.map_err(|error| Failed::of(&error))?;
        Ok(Dialed {
            client,
            task,
            tls: by_tls.then(|| self.tls.clone()),
            reached: Reached {
                server: server.clone(),
                is_here: address.is_none_or(|address| address.is_loopback()),
                protection,
            },
        })
    }
}

/// Whether TLS is tried, in this order. A socket in a folder has none, whatever the mode.
fn ways(mode: SslMode, is_socket: bool) -> &'static [bool] {
    match mode {
        _ if is_socket => &[false],
        SslMode::Disable => &[false],
        SslMode::Allow => &[false, true],
        SslMode::Prefer => &[true, false],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[true],
    }
}

/// As for libpq, an authority that is named is asked for in every mode that speaks TLS.
fn demand(ssl: &Ssl) -> Demand {
    match ssl.mode {
        SslMode::VerifyFull => Demand::AuthorityAndName,
        SslMode::VerifyCa => Demand::Authority,
        _ if ssl.files.authorities.is_some() => Demand::Authority,
        _ => Demand::Nothing,
    }
}

fn versions(ssl: &Ssl) -> Vec<&'static SupportedProtocolVersion> {
    let known = [(&TLS12, ssl.without_1_2), (&TLS13, ssl.without_1_3)];
    let spoken = known.into_iter().filter(|(_, without)| !without);
    spoken.map(|(version, _)| version).collect()
}

/// The addresses of a server; one that is none for a socket in a folder.
async fn addresses(server: &PostgresServer) -> Result<Vec<Option<IpAddr>>, StoreError> {
    let name = match (&server.host, server.address) {
        (Host::Unix(_), _) => return Ok(vec![None]),
        (Host::Tcp(_), Some(address)) => return Ok(vec![Some(address)]),
        (Host::Tcp(name), None) => name.as_str(),
    };
    let found = tokio::net::lookup_host((name, server.port)).await;
    let found: Vec<_> = found
        .map_err(|error| failure(&error))?
        .map(|address| Some(address.ip()))
        .collect();
    if found.is_empty() {
        return Err(failure(&"its name has no address"));
    }
    Ok(found)
}

async fn connected<T>(config: &Config, tls: T) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL has ended");
        }
    });
    Ok((client, task))
}

impl Failed {
    fn of(error: &tokio_postgres::Error) -> Self {
        let refused = match error.code() {
            Some(code) => SqlClass::of(code.code()) == Some(SqlClass::InvalidAuthorization),
            None => !error.to_string().starts_with(NOT_REACHED),
        };
        Self {
            error: StoreError {
                // Whatever an attempt says (starting up, too many clients, wrong password), waiting may help.
                kind: FailureKind::Transient,
                ..StoreError::postgres(DURING, error)
            },
            refused,
        }
    }
}

fn failure(what: &dyn fmt::Display) -> StoreError {
    StoreError::transient(Store::Postgres, DURING, what.to_string())
}

fn shown(address: Option<IpAddr>) -> String {
    address.map_or_else(String::new, |address| address.to_string())
}

/// What was said with TLS and without it. The code is that of TLS, where it has one: without it, it is mostly refused
/// because it is without.
fn both(before: Option<StoreError>, now: StoreError, by_tls: bool) -> StoreError {
    let Some(before) = before else {
        return now;
    };
    // A server that speaks no TLS has said nothing else.
    if before.message == now.message || before.message.contains(POSTGRES_SPEAKS_NO_TLS) {
        return now;
    }
    if now.message.contains(POSTGRES_SPEAKS_NO_TLS) {
        return before;
    }
    let way = if by_tls { "by TLS" } else { "without TLS" };
    let message = format!("{}; {way}: {}", before.message, now.message);
    let codes = if by_tls {
        [now.code, before.code]
    } else {
        [before.code, now.code]
    };
    failure(&message).with_code(first(codes))
}

/// What several places said.
fn all(mut failures: Vec<(String, StoreError)>) -> StoreError {
    if failures.len() == 1 {
        return failures.remove(0).1;
    }
    let said = failures
        .iter()
        .map(|(place, error)| format!("{place}: {}", error.message));
    let message = said.collect::<Vec<_>>().join("; ");
    let codes = failures.into_iter().map(|(_, error)| error.code);
    failure(&message).with_code(first(codes))
}

fn first(codes: impl IntoIterator<Item = String>) -> String {
    codes
        .into_iter()
        .find(|code| !code.is_empty())
        .unwrap_or_default()
}
