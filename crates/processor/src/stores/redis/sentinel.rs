//! Which server is the primary, as Sentinels say.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use redis::FromRedisValue;
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
            match self.ask_for_primary(sockets, sentinel).await {
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

    /// The primary, and the replicas that may take its place, where those may be asked about.
    ///
    /// # Errors
    /// As for [`Sentinels::primary`].
    pub(super) async fn named(&self, sockets: &Sockets) -> io::Result<Vec<Node>> {
        let mut named = vec![self.primary(sockets).await?];
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sentinel) = order.first() else {
            return Ok(named);
        };
        let replicas: Result<Vec<HashMap<String, String>>, String> =
            self.ask(sockets, sentinel, "REPLICAS").await;
        for replica in replicas.unwrap_or_default() {
            if let (Some(host), Some(Ok(port))) =
                (replica.get("ip"), replica.get("port").map(|port| port.parse()))
            {
                named.push(Node {
                    host: host.clone(),
                    port,
                });
            }
        }
        Ok(named)
    }

    async fn ask_for_primary(&self, sockets: &Sockets, sentinel: &Node) -> Result<Node, String> {
        let answer = self.ask(sockets, sentinel, "GET-MASTER-ADDR-BY-NAME").await?;
        match answer {
            Some((host, port)) => Ok(Node { host, port }),
            None => Err("it does not know this name: correct it behind `#` in REDIS_URL".into()),
        }
    }

    async fn ask<T: FromRedisValue>(
        &self,
        sockets: &Sockets,
        sentinel: &Node,
        question: &str,
    ) -> Result<T, String> {
        let who = match &sockets.config.at_sentinels {
            Some((user, password)) => Credentials::new(user.as_deref(), Some(password)).await,
            None => Credentials::default(),
        };
        let answer = match self.ask_as(sockets, sentinel, (&who, question)).await {
            // One password for all of them and the servers, as most set it up.
            Err(error) if error.code() == Some("NOAUTH") => {
                let who = Credentials::of(&sockets.config).await;
                self.ask_as(sockets, sentinel, (&who, question)).await
            }
            answer => answer,
        };
        answer.map_err(|error| error.to_string())
    }

    async fn ask_as<T: FromRedisValue>(
        &self,
        sockets: &Sockets,
        sentinel: &Node,
        (who, question): (&Credentials, &str),
    ) -> redis::RedisResult<T> {
        let mut connection: MultiplexedConnection = open(sockets.node(sentinel), who).await?;
        redis::cmd("SENTINEL")
            .arg(question)
            .arg(&self.primary)
            .query_async(&mut connection)
            .await
    }
}
