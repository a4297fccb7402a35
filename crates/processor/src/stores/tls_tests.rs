//! Handshakes with certificates made for the purpose.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::tls::{Demand, client};
use crate::config::{Identity, TlsFiles};

struct Files {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
        };
        files.write("authority.crt", &files.authority.pem());
        files
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn trusted(&self) -> TlsFiles {
        TlsFiles {
            authorities: Some(self.folder.path().join("authority.crt")),
            identity: None,
        }
    }

    fn signed(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.identity("signed", &certificate.pem(), &key.serialize_pem())
    }

    fn self_signed(&self, params: CertificateParams) -> Identity {
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        self.identity("own", &issuer.pem(), &issuer.key().serialize_pem())
    }

    fn identity(&self, name: &str, certificate: &str, key: &str) -> Identity {
        Identity {
            certificate: self.write(&format!("{name}.crt"), certificate),
            key: self.write(&format!("{name}.key"), key),
        }
    }
}

fn of(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).unwrap()
}

/// What a client makes of a server at `name` with that certificate.
async fn shake(connector: &TlsConnector, name: &str, served: &Identity) -> Result<(), String> {
    shake_with(connector, name, serving(served)).await
}

fn serving(served: &Identity) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            TlsFiles::certificates(&served.certificate).unwrap(),
            TlsFiles::key(&served.key).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}

async fn shake_with(connector: &TlsConnector, name: &str, served: Arc<ServerConfig>) -> Result<(), String> {
    let (to, from) = tokio::io::duplex(64 * 1024);
    let serving = async {
        // What a session could be resumed by comes before the first byte.
        let mut socket = TlsAcceptor::from(served).accept(from).await?;
        socket.write_all(b"x").await?;
        socket.flush().await?;
        Ok::<_, std::io::Error>(socket)
    };
    let asking = async {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut socket = connector.connect(name, to).await?;
        socket.read_u8().await
    };
    let (asked, _served) = tokio::join!(asking, serving);
    asked.map(drop).map_err(|error| error.to_string())
}

fn connector(files: &TlsFiles, demand: Demand) -> TlsConnector {
    TlsConnector::from(Arc::new(client(files, demand)))
}

#[tokio::test]
async fn what_is_demanded_decides_about_authority_and_name() {
    let files = Files::new();
    let right = files.signed(&of("db.example"));
    let nobodys = files.self_signed(of("db.example"));
    let trusted = files.trusted();
    for (demand, name, served, is_taken) in [
        (Demand::AuthorityAndName, "db.example", &right, true),
        (Demand::AuthorityAndName, "other.example", &right, false),
        (Demand::AuthorityAndName, "db.example", &nobodys, false),
        (Demand::Authority, "other.example", &right, true),
        (Demand::Authority, "db.example", &nobodys, false),
        (Demand::Nothing, "other.example", &nobodys, true),
    ] {
        let outcome = shake(&connector(&trusted, demand), name, served).await;
        assert_eq!(outcome.is_ok(), is_taken, "{demand:?} {name}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_taken_where_it_is_named_and_still_valid() {
    let files = Files::new();
    for is_authority in [false, true] {
        let params = |until: i32| {
            let mut params = of("db.example");
            params.is_ca = if is_authority {
                IsCa::Ca(BasicConstraints::Unconstrained)
            } else {
                IsCa::NoCa
            };
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
            params
        };
        for (until, name, is_taken) in [
            (4000, "db.example", true),
            (4000, "other.example", false),
            (2021, "db.example", false),
        ] {
            let own = files.self_signed(params(until));
            let named = TlsFiles {
                authorities: Some(own.certificate.clone()),
                identity: None,
            };
            let outcome = shake(&connector(&named, Demand::AuthorityAndName), name, &own).await;
            assert_eq!(
                outcome.is_ok(),
                is_taken,
                "{is_authority} {until} {name}: {outcome:?}"
            );
        }
        let own = files.self_signed(params(4000));
        let others = shake(
            &connector(&files.trusted(), Demand::Authority),
            "db.example",
            &own,
        )
        .await;
        assert!(others.is_err());
    }
}

#[tokio::test]
async fn files_are_read_again_once_they_have_changed_and_stay_in_use_while_they_cannot_be_read() {
    let files = Files::new();
    let own = files.self_signed(of("db.example"));
    let trusted = files.write("trusted.pem", &files.authority.pem());
    let named = TlsFiles {
        authorities: Some(trusted.clone()),
        identity: None,
    };
    let connector = connector(&named, Demand::AuthorityAndName);
    let right = files.signed(&of("db.example"));
    let taken = async |served: &Identity| shake(&connector, "db.example", served).await.is_ok();
    assert!(taken(&right).await && !taken(&own).await);

    changed(&trusted, "half a file");
    assert!(taken(&right).await);
    changed(&trusted, &std::fs::read_to_string(&own.certificate).unwrap());
    assert!(taken(&own).await && !taken(&right).await);
    std::fs::remove_file(&trusted).unwrap();
    assert!(taken(&own).await);
}

#[tokio::test]
async fn a_session_is_never_resumed_so_that_an_authority_that_was_withdrawn_counts_no_more() {
    let files = Files::new();
    let trusted = files.write("trusted.pem", &files.authority.pem());
    let named = TlsFiles {
        authorities: Some(trusted.clone()),
        identity: None,
    };
    let connector = connector(&named, Demand::AuthorityAndName);
    let server = serving(&files.signed(&of("db.example")));
    for _ in 0..2 {
        shake_with(&connector, "db.example", server.clone())
            .await
            .unwrap();
    }
    changed(&trusted, &Files::new().authority.pem());
    assert!(shake_with(&connector, "db.example", server).await.is_err());
}

/// Clocks of file systems may be coarse.
fn changed(path: &Path, text: &str) {
    let before = std::fs::metadata(path).unwrap().modified().unwrap();
    std::fs::write(path, text).unwrap();
    let later = before + std::time::Duration::from_secs(1);
    std::fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(later)
        .unwrap();
}
