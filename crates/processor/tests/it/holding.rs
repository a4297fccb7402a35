//! A proxy in front of a service that holds back requests with some text, or the answers to them, until it is let go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
        Self::start(port, texts, false).await
    }

    /// In front of a local port; lets requests through, and may hold the answers to those with one of these texts.
    pub(crate) async fn answers(port: u16, texts: &'static [&'static str]) -> Self {
        Self::start(port, texts, true).await
    }

    async fn start(port: u16, texts: &'static [&'static str], answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (holds, caught) = (watch::Sender::new(false), Arc::new(AtomicUsize::new(0)));
        let pump = Pump {
            texts,
            answers,
            holds: holds.subscribe(),
            caught: caught.clone(),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                let asked = Arc::new(AtomicBool::new(false));
                tokio::spawn(pump.clone().requests(from_client, to_server, asked.clone()));
                tokio::spawn(pump.clone().answers(from_server, to_client, asked));
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
    /// Answers are held, and requests are not.
    answers: bool,
    holds: watch::Receiver<bool>,
    caught: Arc<AtomicUsize>,
}

impl Pump {
    /// Passes requests on. `asked` is set where the answer is to be held.
    async fn requests(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: Arc<AtomicBool>) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read) = from.read(&mut buffer).await {
            let piece = &buffer[..read];
            let holds = |text: &&str| piece.windows(text.len()).any(|w| w == text.as_bytes());
            let is_meant = *self.holds.borrow() && self.texts.iter().any(holds);
            if is_meant && self.answers {
                asked.store(true, Ordering::SeqCst);
            } else if is_meant && !self.let_go().await {
                return;
            }
            if read == 0 || to.write_all(piece).await.is_err() {
                return;
            }
        }
    }

    async fn answers(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: Arc<AtomicBool>) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read) = from.read(&mut buffer).await {
            if asked.swap(false, Ordering::SeqCst) && !self.let_go().await {
                return;
            }
            if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }

    /// Waits until it is let go; `false` when the proxy is gone.
    async fn let_go(&mut self) -> bool {
        self.caught.fetch_add(1, Ordering::SeqCst);
        self.holds.wait_for(|holds| !holds).await.is_ok()
    }
}
