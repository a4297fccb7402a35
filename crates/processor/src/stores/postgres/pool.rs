//! The pool of connections: which may be used again.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use futures::FutureExt;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dial::{Dialed, Dialer, Reached};
use crate::stores::StoreError;

/// A small pool. Cloning shares it.
pub(super) type Pool = managed::Pool<Manager>;
/// A connection on loan.
pub(super) type Lent = managed::Object<Manager>;

/// Makes connections, and knows which are no longer trusted.
pub(super) struct Manager {
    dialer: Dialer,
    /// Counted up when a connection is found to lead to a server that is gone, going, or no longer the one that takes
    /// writes: those that were made before lead there too.
    era: AtomicU64,
}

impl Manager {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            era: AtomicU64::new(0),
        }
    }

    /// None of the connections there are is used again.
    pub(super) fn start_anew(&self) {
        self.era.fetch_add(1, Ordering::Relaxed);
    }
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = StoreError;

    async fn create(&self) -> Result<Connection, StoreError> {
        let era = self.era.load(Ordering::Relaxed);
        let Dialed {
            client,
            task,
            tls,
            reached,
        } = self.dialer.dial().boxed().await?;
        Ok(Connection {
            client,
            task,
            tls,
            reached,
            era,
        })
    }

    async fn recycle(&self, connection: &mut Connection, _metrics: &Metrics) -> RecycleResult<StoreError> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("it is closed"));
        }
        if connection.era != self.era.load(Ordering::Relaxed) {
            return Err(RecycleError::message(
                "it may lead to another server than a new one",
            ));
        }
        Ok(())
    }
}

/// One connection. It ends when it is dropped, whatever it still has to say.
pub(super) struct Connection {
    client: Client,
    task: JoinHandle<()>,
    pub(super) tls: Option<MakeRustlsConnect>,
    pub(super) reached: Reached,
    era: u64,
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
