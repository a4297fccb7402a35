//! Which server is the primary, as Sentinels say.

use std::io;
use std::sync::{Mutex, PoisonError};

use redis::aio::MultiplexedConnection;

use super::dial::Sockets;
use super::greet::{Credentials, open};
use crate::config::Node;

/// How an error begins that they are to blame for.
pub(in crate::stores) const NO_SENTINEL: &str = "no Sentinel says which server is";

/// The Sentinels of one primary; the one that answered last is asked first.
pub(super) struct Sentinels {
    order: Mutex<Vec<Node>>,
    primary: String,
}

impl Sentinels {
    pub(super) fn new(sentinels: &[Node], primary: &str) -> Self {
        Self {
            order: Mutex::new(sentinels.to_vec()),
            primary: primary.to_owned(),
        }
    }

    /// Asks one after another.
    ///
    /// # Errors
    /// When none says it; with what each said.
    pub(super) async fn primary(&self, sockets: &Sockets) -> io::Result<Node> {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut said = Vec::new();
        for sentinel in &order {
            match self.ask(sockets, sentinel).await {
                Ok(primary) => {
                    let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
                    order.sort_by_key(|other| other != sentinel);
                    return Ok(primary);
                }
                Err(error) => said.push(format!("{sentinel}: {error}")),
            }
        }
        let message = format!("{NO_SENTINEL} {}: {}", self.primary, said.join("; "));
        Err(io::Error::new(io::ErrorKind::NotConnected, message))
    }

    async fn ask(&self, sockets: &Sockets, sentinel: &Node) -> Result<Node, String> {
        let who = match &sockets.config.at_sentinels {
            Some((user, password)) => Credentials::new(user.as_deref(), Some(password)).await,
            None => Credentials::default(),
        };
        let answer = match self.ask_as(sockets, sentinel, &who).await {
            // One password for all of them and the servers, as most set it up.
            Err(error) if error.code() == Some("NOAUTH") => {
                let who = Credentials::of(&sockets.config).await;
                self.ask_as(sockets, sentinel, &who).await
            }
            answer => answer,
        };
        match answer.map_err(|error| error.to_string())? {
            Some((host, port)) => Ok(Node { host, port }),
            None => Err("it does not know this name: correct it behind `#` in REDIS_URL".into()),
        }
    }

    async fn ask_as(
        &self,
        sockets: &Sockets,
        sentinel: &Node,
        who: &Credentials,
    ) -> redis::RedisResult<Option<(String, u16)>> {
        let mut connection: MultiplexedConnection = open(sockets.node(sentinel), who).await?;
        redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(&self.primary)
            .query_async(&mut connection)
            .await
    }
}
