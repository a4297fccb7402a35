//! TLS to the stores and to collectors: whom we trust, who we are, and what is demanded of a server's certificate.
//!
//! The files are read again once they have changed: certificates are renewed while the process runs, and only new
//! connections need them.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::SystemTime;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_rustls::builderstates::WantsProtocols1;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DEFAULT_VERSIONS, DigitallySignedStruct, Error, OtherError,
    RootCertStore, SignatureScheme, SupportedProtocolVersion,
};

use crate::config::TlsFiles;

/// The one provider of cryptography.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));

/// The authorities that the system trusts, or why there are none.
static SYSTEM: LazyLock<Result<Arc<RootCertStore>, String>> = LazyLock::new(of_the_system);

/// What is demanded of a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Nothing: who only listens learns nothing, but a server may be another than it says.
    Nothing,
    /// That an authority we trust has signed it.
    Authority,
    /// That, and that it is for the name we connected to.
    AuthorityAndName,
}

/// How a client of these files speaks TLS.
pub(crate) fn client(files: &TlsFiles, demand: Demand) -> ClientConfig {
    client_with(files, demand, DEFAULT_VERSIONS)
}

/// The same, in these versions of TLS, of which there has to be one.
pub(crate) fn client_with(
    files: &TlsFiles,
    demand: Demand,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let credentials = Arc::new(Credentials {
        files: files.clone(),
        demand,
        algorithms: PROVIDER.signature_verification_algorithms,
        loaded: Mutex::default(),
    });
    #[allow(
        clippy::expect_used,
        reason = "the provider is fixed, and has cipher suites for every version of TLS"
    )]
    let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(versions)
        .expect("the provider supports TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(credentials.clone())
        .with_client_cert_resolver(credentials);
    // A session that is resumed is verified by nobody: an authority that was withdrawn would go on counting.
    config.resumption = Resumption::disabled();
    config
}

/// Connections for HTTP, by TLS where the address asks for it.
pub(crate) fn connector(files: &TlsFiles) -> HttpsConnectorBuilder<WantsProtocols1> {
    HttpsConnectorBuilder::new()
        .with_tls_config(client(files, Demand::AuthorityAndName))
        .https_or_http()
}

/// The files of a client, as they were read last.
struct Credentials {
    files: TlsFiles,
    demand: Demand,
    algorithms: WebPkiSupportedAlgorithms,
    loaded: Mutex<Option<Loaded>>,
}

#[derive(Clone)]
struct Loaded {
    /// When each of the files was changed last.
    changed: [Option<SystemTime>; 3],
    authorities: Arc<RootCertStore>,
    /// The certificates that `authorities` is made of, where a file names them.
    named: Arc<Vec<CertificateDer<'static>>>,
    identity: Option<Arc<CertifiedKey>>,
}

impl Credentials {
    /// What the files say now. While they cannot be read, which a renewal may cause for a moment, what they said last.
    fn current(&self) -> Result<Loaded, Error> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.changed();
        if let Some(loaded) = loaded.as_ref()
            && loaded.changed == changed
        {
            return Ok(loaded.clone());
        }
        match (self.load(changed), loaded.as_ref()) {
            (Ok(new), _) => Ok(loaded.insert(new).clone()),
            (Err(why), Some(old)) => {
                tracing::warn!(
                    error = why,
                    "certificate files have changed and cannot be used: the ones before stay in use"
                );
                Ok(old.clone())
            }
            (Err(why), None) => Err(Error::General(why)),
        }
    }

    fn changed(&self) -> [Option<SystemTime>; 3] {
        let identity = self.files.identity.as_ref();
        let paths = [
            self.files.authorities.as_deref(),
            identity.map(|identity| identity.certificate.as_path()),
            identity.map(|identity| identity.key.as_path()),
        ];
        paths.map(|path| std::fs::metadata(path?).and_then(|file| file.modified()).ok())
    }

    fn load(&self, changed: [Option<SystemTime>; 3]) -> Result<Loaded, String> {
        let in_file = |path: &Path, why: String| format!("{}: {why}", path.display());
        let (authorities, named) = match (&self.files.authorities, self.demand) {
            (_, Demand::Nothing) => (Arc::new(RootCertStore::empty()), Vec::new()),
            (Some(path), _) => {
                let named = TlsFiles::certificates(path).map_err(|why| in_file(path, why))?;
                let mut authorities = RootCertStore::empty();
                authorities.add_parsable_certificates(named.iter().cloned());
                (Arc::new(authorities), named)
            }
            (None, _) => (SYSTEM.clone()?, Vec::new()),
        };
        let identity = match &self.files.identity {
            None => None,
            Some(identity) => Some(Arc::new(identity.read()?)),
        };
        Ok(Loaded {
            changed,
            authorities,
            named: Arc::new(named),
            identity,
        })
    }
}

fn of_the_system() -> Result<Arc<RootCertStore>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut authorities = RootCertStore::empty();
    let (taken, _) = authorities.add_parsable_certificates(found.certs);
    if taken > 0 {
        return Ok(Arc::new(authorities));
    }
    let why = found.errors.first().map(|error| format!(" ({error})"));
    Err(format!(
        "this machine has no certificate authorities{}: install its package ca-certificates, or name a file of your own",
        why.unwrap_or_default()
    ))
}

impl ServerCertVerifier for Credentials {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.demand == Demand::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let loaded = self.current()?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let authorities = &loaded.authorities;
        let signed = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            authorities,
            intermediates,
            now,
            self.algorithms.all,
        );
        match signed {
            // What a short `openssl req -x509` makes: the server's certificate is its own authority.
            Err(error) if is_an_authority(&error) && loaded.named.contains(end_entity) => {}
            signed => signed?,
        }
        if self.demand == Demand::AuthorityAndName {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match verify_tls13_signature(message, cert, dss, &self.algorithms) {
            Err(error) if self.demand == Demand::Nothing && is_of_version_1(&error) => {
                verify_tls13_signature_with_raw_key(message, &public_key(cert)?, dss, &self.algorithms)
            }
            verified => verified,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether the only fault of a server's certificate is that it may sign others; its dates are looked at before.
fn is_an_authority(error: &Error) -> bool {
    is_other(error, "CaUsedAsEndEntity")
}

/// Whether it is one of the faults that have no name of their own.
fn is_other(error: &Error, name: &str) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(OtherError(other)))
        if other.to_string() == name)
}

/// Whether a certificate has no extensions, as `openssl x509 -req` makes them of old: nothing can be verified of it but
/// that the server has its key.
fn is_of_version_1(error: &Error) -> bool {
    is_other(error, "UnsupportedCertVersion")
}

/// The key of a certificate of any version.
fn public_key(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let mut read = RootCertStore::empty();
    read.add(certificate.clone().into_owned())?;
    let inside = read
        .roots
        .first()
        .map_or(&[][..], |anchor| &anchor.subject_public_key_info);
    // What is around it was taken away: the tag of a sequence and its length.
    let mut key = vec![0x30];
    match u16::try_from(inside.len()).map(u16::to_be_bytes) {
        Ok([0, short @ ..0x80]) => key.push(short),
        Ok([0, short]) => key.extend([0x81, short]),
        Ok([high, low]) => key.extend([0x82, high, low]),
        Err(_too_long) => return Err(CertificateError::BadEncoding.into()),
    }
    key.extend_from_slice(inside);
    Ok(key.into())
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current().ok()?.identity
    }

    fn has_certs(&self) -> bool {
        self.files.identity.is_some()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("files", &self.files)
            .field("demand", &self.demand)
            .finish_non_exhaustive()
    }
}
