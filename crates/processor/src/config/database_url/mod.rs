//! `DATABASE_URL`, as libpq reads it: servers, who connects to which database, and how the connection is protected.
//!
//! What it says stands in it alone: libpq's environment variables and its files in the home folder are not read.

mod given;
mod parameters;
mod session;
mod ssl;
#[cfg(test)]
mod tests;
mod text;

use std::str::FromStr;

use tokio_postgres::config::TargetSessionAttrs;

use super::read::{ConfigError, Reader, invalid};
use super::variables;
use given::{Fault, Given};
use parameters::Use;
pub use session::PostgresServer;
pub use ssl::{Ssl, SslMode};

/// How to reach PostgreSQL. `Debug` hides the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// Where it may be; they are tried in this order, unless `session` wants another.
    pub servers: Vec<PostgresServer>,
    /// Who connects, to which database, and how a connection is kept. It names no server, and nothing of TLS is in it but
    /// how it is begun.
    pub session: tokio_postgres::Config,
    /// How the connection is protected.
    pub ssl: Ssl,
}

impl PostgresConfig {
    pub(super) fn read(read: &Reader<'_>, production: bool) -> Result<Self, ConfigError> {
        let text = read.service(
            &variables::DATABASE_URL,
            &variables::DATABASE_URL_FILE,
            production,
        )?;
        text.parse()
    }

    /// The same servers and user, and another database.
    #[must_use]
    pub fn of_database(&self, name: &str) -> Self {
        let mut config = self.clone();
        config.session.dbname(name);
        config
    }

    /// The database. As for libpq, one that is not named has the user's name.
    pub fn database(&self) -> &str {
        let session = &self.session;
        session.get_dbname().or(session.get_user()).unwrap_or("postgres")
    }

    /// Whether any server that answers is taken, although there are several: perhaps one that takes no writes.
    pub fn takes_any_of_several(&self) -> bool {
        self.servers.len() > 1 && self.session.get_target_session_attrs() == TargetSessionAttrs::Any
    }
}

impl FromStr for PostgresConfig {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let is_url = text.contains("://");
        read(text, is_url).map_err(|fault| invalid(&variables::DATABASE_URL, fault.value, &fault.accepted))
    }
}

fn read(text: &str, is_url: bool) -> Result<PostgresConfig, Fault> {
    let given = Given {
        parameters: text::parameters(text)?,
        is_url,
    };
    for (name, value) in &given.parameters {
        match parameters::of(name, value) {
            // Behind a password, what looks like a name may be a piece of it.
            None if text.contains("password=") => {
                let accepted = "parameters that libpq has, and a password percent-encoded (in words: quoted)";
                return Err(Fault::hidden(accepted));
            }
            None => {
                let accepted = format!("no parameter `{name}`: libpq has none of this name");
                return Err(given.fault(name, &accepted));
            }
            Some(Use::Refused(accepted)) => return Err(given.fault(name, accepted)),
            Some(_) => {}
        }
    }
    let servers = session::servers(&given)?;
    Ok(PostgresConfig {
        ssl: Ssl::read(&given, &servers)?,
        session: session::session(&given)?,
        servers,
    })
}
