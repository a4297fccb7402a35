//! A proxy in front of a service that holds back what holds some text, until it is let go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::eventually;

/// Lets everything through until told to hold.
pub(crate) struct Holding {
    pub(crate) address: SocketAddr,
    holds: watch::Sender<bool>,
    caught: Arc<AtomicUsize>,
}

impl Holding {
    /// In front of a local port; may hold requests with one of these texts.
    pub(crate) async fn before(port: u16, texts: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (holds, caught) = (watch::Sender::new(false), Arc::new(AtomicUsize::new(0)));
        let pump = Pump {
            texts,
            holds: holds.subscribe(),
            caught: caught.clone(),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let ((from_client, mut to_client), (mut from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(pump.clone().run(from_client, to_server));
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            }
        });
        Self {
            address,
            holds,
            caught,
        }
    }

    pub(crate) fn hold(&self) {
        self.caught.store(0, Ordering::SeqCst);
        self.holds.send_replace(true);
    }

    pub(crate) fn let_go(&self) {
        self.holds.send_replace(false);
    }

    /// Waits until something is held.
    pub(crate) async fn caught(&self) {
        eventually("a request is held", Duration::from_secs(20), async || {
            self.caught.load(Ordering::SeqCst) > 0
        })
        .await;
    }
}

#[derive(Clone)]
struct Pump {
    texts: &'static [&'static str],
    holds: watch::Receiver<bool>,
    caught: Arc<AtomicUsize>,
}

impl Pump {
    async fn run(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read) = from.read(&mut buffer).await {
            let piece = &buffer[..read];
            let holds = |text: &&str| piece.windows(text.len()).any(|w| w == text.as_bytes());
            if *self.holds.borrow() && self.texts.iter().any(holds) {
                self.caught.fetch_add(1, Ordering::SeqCst);
                if self.holds.wait_for(|holds| !holds).await.is_err() {
                    return;
                }
            }
            if read == 0 || to.write_all(piece).await.is_err() {
                return;
            }
        }
    }
}
