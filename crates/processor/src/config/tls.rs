//! Files in PEM: whom a client of a store trusts, and who it is there.

use std::path::{Path, PathBuf};

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::read::{ConfigError, Reader, beside_url, invalid};
use super::secrets::path_shown;
use super::variables::Variable;

/// The files of one store. Certificates are renewed while the process runs, so they are read again for new connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of authorities to trust in place of the system's.
    pub authorities: Option<PathBuf>,
    /// Certificate and key of the client, for servers that ask for them.
    pub identity: Option<Identity>,
}

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
}

impl Identity {
    /// Certificate and key as they are in their files.
    ///
    /// # Errors
    /// In words, when a file cannot be used, or the two do not belong together.
    pub fn read(&self) -> Result<CertifiedKey, String> {
        let in_file = |path: &Path, why: String| format!("{}: {why}", path.display());
        let certificates = TlsFiles::certificates(&self.certificate);
        let certificates = certificates.map_err(|why| in_file(&self.certificate, why))?;
        let key = TlsFiles::key(&self.key).map_err(|why| in_file(&self.key, why))?;
        let key = CertifiedKey::from_der(certificates, key, &ring::default_provider());
        key.map_err(|error| in_file(&self.key, error.to_string()))
    }
}

/// The variables that name the files of one store.
pub(super) struct TlsVariables {
    pub(super) authorities: &'static Variable,
    pub(super) certificate: &'static Variable,
    pub(super) key: &'static Variable,
}

impl TlsFiles {
    /// The certificates of authorities in a file.
    ///
    /// # Errors
    /// In words, when the file cannot be read or holds none.
    pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
        let all = CertificateDer::pem_file_iter(path).map_err(|error| in_words(&error))?;
        let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| in_words(&error))?;
        if all.is_empty() {
            return Err(NO_CERTIFICATE.into());
        }
        Ok(all)
    }

    /// The private key in a file.
    ///
    /// # Errors
    /// In words, when the file cannot be read or holds none that can be used.
    pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                "it holds no private key in PEM that is not encrypted: decrypt it with `openssl pkey`".into()
            }
            error => in_words(&error),
        })
    }
}

const NO_CERTIFICATE: &str = "it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)";

fn in_words(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => NO_CERTIFICATE.into(),
        _ => "it is no file in PEM".into(),
    }
}

impl Reader<'_> {
    /// That no files are named for a store whose URL asks for no TLS.
    pub(super) fn no_tls_files(
        &self,
        variables: &TlsVariables,
        url: [&Variable; 2],
    ) -> Result<(), ConfigError> {
        let named = [variables.authorities, variables.certificate, variables.key]
            .into_iter()
            .find_map(|variable| Some((variable, self.optional(variable)?)));
        named.map_or(Ok(()), |(variable, value)| {
            let accepted = "it to be unset while the URL asks for no TLS: nothing would be encrypted";
            Err(beside_url(variable, path_shown(&value), accepted, url))
        })
    }

    /// The files of a store, or a collector.
    pub(super) fn tls_files(&self, variables: &TlsVariables) -> Result<TlsFiles, ConfigError> {
        let TlsVariables {
            authorities,
            certificate,
            key,
        } = variables;
        let authorities = self.file(authorities, |path| TlsFiles::certificates(path).map(drop))?;
        let certificate_file = self.file(certificate, |path| TlsFiles::certificates(path).map(drop))?;
        let key_file = self.file(key, |path| TlsFiles::key(path).map(drop))?;
        let identity = match (certificate_file, key_file) {
            (Some(certificate_file), Some(key_file)) => {
                let identity = Identity {
                    certificate: certificate_file,
                    key: key_file,
                };
                if let Err(why) = identity.read() {
                    let accepted = format!("the key of the certificate in {} ({why})", certificate.name);
                    return Err(invalid(key, path_shown(&self.text(key)), &accepted));
                }
                Some(identity)
            }
            (None, None) => None,
            (Some(_), None) => return Err(alone(certificate, key, path_shown(&self.text(certificate)))),
            (None, Some(_)) => return Err(alone(key, certificate, path_shown(&self.text(key)))),
        };
        Ok(TlsFiles {
            authorities,
            identity,
        })
    }

    /// A file that `holds` accepts, if one is named.
    fn file(
        &self,
        variable: &Variable,
        holds: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<Option<PathBuf>, ConfigError> {
        let Some(path) = self.optional(variable) else {
            return Ok(None);
        };
        match holds(Path::new(&path)) {
            Ok(()) => Ok(Some(path.into())),
            Err(why) => Err(invalid(
                variable,
                path_shown(&path),
                &format!("the path of a file in PEM ({why})"),
            )),
        }
    }
}

fn alone(set: &Variable, other: &Variable, value: String) -> ConfigError {
    invalid(
        set,
        value,
        &format!("{} with it: a certificate is used with its key", other.name),
    )
}
