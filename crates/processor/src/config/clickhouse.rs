//! Where ClickHouse is, and who we are there.

use std::time::Duration;

use url::Url;

use super::choices::Compression;
use super::password::Password;
use super::read::{ConfigError, Reader, invalid, parse_url};
use super::redacted;
use super::tls::{TlsFiles, TlsVariables};
use super::variables;

const FILES: TlsVariables = TlsVariables {
    authorities: &variables::CLICKHOUSE_CA_FILE,
    certificate: &variables::CLICKHOUSE_CERT_FILE,
    key: &variables::CLICKHOUSE_KEY_FILE,
};

/// How to reach ClickHouse. `Debug` hides the password.
#[derive(Clone)]
pub struct ClickHouseConfig {
    /// Base URL of the HTTP interface.
    pub url: Url,
    /// How TLS is spoken where the URL asks for it.
    pub tls: TlsFiles,
    /// Database.
    pub database: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: Password,
    /// Cluster for `ON CLUSTER`, if any.
    pub cluster: Option<String>,
    /// Body compression.
    pub compression: Compression,
    /// Longest one request may take.
    pub request_timeout: Duration,
}

impl std::fmt::Debug for ClickHouseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouseConfig")
            .field("url", &redacted(self.url.as_str()))
            .field("database", &self.database)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl ClickHouseConfig {
    pub(super) fn read(read: &Reader<'_>, production: bool) -> Result<Self, ConfigError> {
        let url = read.clickhouse_url(production)?;
        let compression = read.choice(
            &variables::CLICKHOUSE_COMPRESSION,
            &[
                ("auto", None),
                ("lz4", Some(Compression::Lz4)),
                ("none", Some(Compression::None)),
            ],
        )?;
        let automatic = if is_loopback(&url) {
            Compression::None
        } else {
            Compression::Lz4
        };
        let tls = if url.scheme() == "https" {
            read.tls_files(&FILES)?
        } else {
            read.no_tls_files(
                &FILES,
                [&variables::CLICKHOUSE_URL, &variables::CLICKHOUSE_URL_FILE],
            )?;
            TlsFiles::default()
        };
        Ok(Self {
            compression: compression.unwrap_or(automatic),
            tls,
            url,
            database: read.identifier(&variables::CLICKHOUSE_DB)?.unwrap_or_default(),
            request_timeout: read.milliseconds(&variables::CLICKHOUSE_REQUEST_TIMEOUT_MS)?,
            user: read.text(&variables::CLICKHOUSE_USER),
            password: read
                .password(
                    &variables::CLICKHOUSE_PASSWORD,
                    &variables::CLICKHOUSE_PASSWORD_FILE,
                )?
                .unwrap_or_else(|| String::new().into()),
            cluster: read.identifier(&variables::CLICKHOUSE_CLUSTER)?,
        })
    }
}

impl Reader<'_> {
    /// User, password and database have variables of their own: what the URL said of them would be ignored.
    fn clickhouse_url(&self, production: bool) -> Result<Url, ConfigError> {
        let variable = &variables::CLICKHOUSE_URL;
        let text = self.service(variable, &variables::CLICKHOUSE_URL_FILE, production)?;
        let url = parse_url(variable, &text, &["http", "https"])?;
        if !url.username().is_empty() || url.password().is_some() {
            let value = format!("{}://(hidden)@…", url.scheme());
            let accepted = "a URL without user and password: set CLICKHOUSE_USER and CLICKHOUSE_PASSWORD";
            return Err(invalid(variable, value, accepted));
        }
        if url.query().is_some() || url.fragment().is_some() {
            let accepted = "a URL without parameters: set CLICKHOUSE_DB for the database";
            return Err(invalid(variable, "…?(hidden)".into(), accepted));
        }
        Ok(url)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
