//! Certificates made for one test: an authority, what it signs for servers and clients, and the files they are read from.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// An authority, whose certificate is in a file.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    /// Its own certificate.
    pub(crate) file: PathBuf,
}

/// A certificate and its key, each in a file of its own.
pub(crate) struct Certified {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes one that keeps its files in `folder`, under names that begin with its own.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = folder.join(format!("{name}.crt"));
        std::fs::write(&file, issuer.pem()).unwrap();
        Self {
            issuer,
            folder: folder.to_owned(),
            file,
        }
    }

    /// A server's certificate for these names and addresses.
    pub(crate) fn server(&self, names: &[&str]) -> Certified {
        self.signed("server", &of(names))
    }

    /// The same, no longer valid.
    pub(crate) fn expired(&self, names: &[&str]) -> Certified {
        let mut params = of(names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.signed("expired", &params)
    }

    /// A client's certificate, whose common name is the client's.
    pub(crate) fn client(&self, name: &str) -> Certified {
        let mut params = of(&[]);
        params.distinguished_name.push(DnType::CommonName, name);
        self.signed("client", &params)
    }

    fn signed(&self, kind: &str, params: &CertificateParams) -> Certified {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let unique = uuid::Uuid::new_v4().simple();
        let write = |extension: &str, pem: String| {
            let file = self.folder.join(format!("{kind}-{unique}.{extension}"));
            std::fs::write(&file, pem).unwrap();
            file
        };
        Certified {
            certificate: write("crt", certificate.pem()),
            key: write("key", key.serialize_pem()),
        }
    }
}

fn of(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    // The default is a name that says who made it.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}
