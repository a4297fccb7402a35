//! How a connection is protected: whether by TLS, whom we trust, and who we are.

use std::path::{Path, PathBuf};

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use tokio_postgres::config::Host;

use super::given::{Fault, Given};
use super::session::PostgresServer;
use crate::config::tls::{Identity, TlsFiles};

/// Whether a connection is protected by TLS, and what is demanded of the server: `sslmode` with libpq's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS when the server refuses to do without.
    Allow,
    /// TLS; without it when that is refused.
    Prefer,
    /// TLS. The server's certificate is verified when an authority is named.
    Require,
    /// TLS, with a server that an authority we trust has signed.
    VerifyCa,
    /// The same, and the certificate is for the host we connect to.
    VerifyFull,
}

/// How a connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a parameter of its own")]
pub struct Ssl {
    /// Whether TLS is spoken, and what is demanded.
    pub mode: SslMode,
    /// Whom we trust, and who we are.
    pub files: TlsFiles,
    /// Whether the server is told by which name it was called.
    pub names_server: bool,
    /// TLS 1.2 is not spoken.
    pub without_1_2: bool,
    /// TLS 1.3 is not spoken.
    pub without_1_3: bool,
}

const MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// Instead of a file's path: the authorities that this machine trusts.
const SYSTEM: &str = "system";

impl Ssl {
    pub(super) fn read(given: &Given, servers: &[PostgresServer]) -> Result<Self, Fault> {
        let is_system = given.get("sslrootcert") == Some(SYSTEM);
        let unset = if is_system {
            SslMode::VerifyFull
        } else {
            SslMode::Prefer
        };
        let mode = given.choice("sslmode", MODES)?.unwrap_or(unset);
        if is_system && mode != SslMode::VerifyFull {
            let accepted = "`sslmode` to be verify-full, or unset, with sslrootcert=system";
            return Err(given.fault("sslmode", accepted));
        }
        if mode == SslMode::VerifyCa && given.get("sslrootcert").is_none() {
            let accepted = "`sslrootcert` with sslmode=verify-ca: without names, any server that a public authority has signed would do";
            return Err(given.fault("sslmode", accepted));
        }
        let is_weak = matches!(mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer);
        if is_weak && given.get("sslnegotiation") == Some("direct") {
            let accepted = "`sslmode` to be require, verify-ca or verify-full with sslnegotiation=direct";
            return Err(given.fault("sslnegotiation", accepted));
        }
        let is_on = |name, unset| {
            let known = [("1", true), ("0", false)];
            Ok(given.choice(name, &known)?.unwrap_or(unset))
        };
        let least = version(given, "ssl_min_protocol_version")?;
        let most = version(given, "ssl_max_protocol_version")?;
        // libpq ignores the files where it cannot come to TLS.
        let is_used =
            mode != SslMode::Disable && servers.iter().any(|server| matches!(server.host, Host::Tcp(_)));
        let ssl = Self {
            mode,
            files: if is_used {
                files(given)?
            } else {
                TlsFiles::default()
            },
            names_server: is_on("sslsni", true)?,
            without_1_2: least == Some(Version::Tls13),
            without_1_3: most.is_some_and(|most| most != Version::Tls13),
        };
        if most == Some(Version::Older) || (ssl.without_1_2 && ssl.without_1_3) {
            let accepted = "TLSv1.2 or TLSv1.3, and no lower one than `ssl_min_protocol_version`";
            return Err(given.fault("ssl_max_protocol_version", accepted));
        }
        Ok(ssl)
    }
}

/// A version of TLS. Those before 1.2 are not spoken, whatever the least is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Older,
    Tls12,
    Tls13,
}

fn version(given: &Given, name: &str) -> Result<Option<Version>, Fault> {
    given.choice(
        name,
        &[
            ("TLSv1", Version::Older),
            ("TLSv1.1", Version::Older),
            ("TLSv1.2", Version::Tls12),
            ("TLSv1.3", Version::Tls13),
        ],
    )
}

fn files(given: &Given) -> Result<TlsFiles, Fault> {
    let authorities = given.get("sslrootcert").filter(|path| *path != SYSTEM);
    let authorities = authorities.map(|path| holding("sslrootcert", path, given, TlsFiles::certificates));
    let sends_certificate = given.choice("sslcertmode", &[("disable", false), ("allow", true)])?;
    let certificate = given.get("sslcert").filter(|_| sends_certificate != Some(false));
    let identity = match (certificate, given.get("sslkey")) {
        (None, _) => None,
        (Some(_), None) => {
            return Err(given.fault("sslcert", "`sslkey` with it: a certificate is used with its key"));
        }
        (Some(certificate), Some(key)) => Some(identity(given, certificate, key)?),
    };
    Ok(TlsFiles {
        authorities: authorities.transpose()?.map(|(path, _)| path),
        identity,
    })
}

fn identity(given: &Given, certificate: &str, key: &str) -> Result<Identity, Fault> {
    let (certificate, certificates) = holding("sslcert", certificate, given, TlsFiles::certificates)?;
    let (key, secret) = holding("sslkey", key, given, TlsFiles::key)?;
    CertifiedKey::from_der(certificates, secret, &ring::default_provider()).map_err(|error| {
        let accepted = format!("the key of the certificate that sslcert names ({error})");
        given.fault("sslkey", &accepted)
    })?;
    Ok(Identity { certificate, key })
}

/// A file, and what it holds.
fn holding<T>(
    name: &str,
    path: &str,
    given: &Given,
    read: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<(PathBuf, T), Fault> {
    let held = read(Path::new(path));
    let held = held.map_err(|why| given.fault(name, &format!("the path of a file in PEM ({why})")))?;
    Ok((path.into(), held))
}
