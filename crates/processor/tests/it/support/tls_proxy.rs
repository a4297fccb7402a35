//! TLS before a server that speaks none: what a load balancer does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use qurvo_processor::config::TlsFiles;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::certificates::{Authority, Certified};

/// Listens on loopback. It ends with the test's runtime, which has to have threads of its own where the test blocks.
pub(crate) struct TlsProxy {
    pub(crate) port: u16,
    handshakes: Arc<AtomicUsize>,
}

impl TlsProxy {
    /// Leads to `server` (`host:port`); asks for certificates of the `clients`' authority, if there is one.
    pub(crate) async fn start(server: &str, served: &Certified, clients: Option<&Authority>) -> Self {
        let certificates = TlsFiles::certificates(&served.certificate).unwrap();
        let key = TlsFiles::key(&served.key).unwrap();
        let config = ServerConfig::builder();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(TlsFiles::certificates(&authority.file).unwrap());
                config.with_client_cert_verifier(WebPkiClientVerifier::builder(roots.into()).build().unwrap())
            }
        };
        let mut config = config.with_single_cert(certificates, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let handshakes = Arc::new(AtomicUsize::new(0));
        let (server, counted) = (server.to_owned(), handshakes.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, server, counted) = (acceptor.clone(), server.clone(), counted.clone());
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else {
                        return;
                    };
                    counted.fetch_add(1, Ordering::Relaxed);
                    let Ok(mut server) = TcpStream::connect(server).await else {
                        return;
                    };
                    let _either_has_closed = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, handshakes }
    }

    /// Connections that were taken.
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }
}
