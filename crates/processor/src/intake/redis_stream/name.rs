//! One living process per consumer name: what is pending for a name is its process's own.
//!
//! A process that starts takes what is pending for its name: its predecessor's. With a fixed name, in a rolling update for
//! instance, the predecessor may be alive and hold these entries. So an instance notes its name in Redis with a
//! connection of its own. Whether that connection still stands tells a living process from a dead one at once, a frozen
//! one included. A process whose name has a living holder works under another one, and takes nothing from it.
//!
//! Versions before this one leave no note. Where there is none, a consumer of that name that has entries and has refreshed
//! them lately counts as living.

use std::sync::Arc;
use std::time::Duration;

use redis::streams::StreamInfoConsumersReply;
use stream_reply::SimpleReply;
use uuid::Uuid;

use crate::config::Node;
use crate::runtime::attempts::Attempts;
use crate::runtime::retry;
use crate::runtime::task::Task;
use crate::stores::{Redis, Store, StoreError, asked_node};

use super::GROUP;
use super::connection::{Connection, ConnectionError};
use crate::intake::ledger::Ledger;

/// Between two looks at whether the name is still ours.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest that a look takes, a new connection included.
const LONGEST_LOOK: Duration = Duration::from_mins(1);

const DURING: &str = "taking the consumer's name";

/// Takes a name if no process has it, we have it, or it is noted as `ARGV[3]` says: by one that is dead. Returns what is
/// noted by another. The note goes a day after its process has.
const TAKE: &str = r"#!lua flags=allow-oom
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then redis.call('DEL', KEYS[1]) end
local noted = redis.call('GET', KEYS[1])
if not noted or noted == ARGV[3] or noted:match('^%S+') == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'EX', 86400)
  return ''
end
return noted";

/// What is noted instead of a connection by who has let go.
const NO_CONNECTION: &str = "-";

/// Lets go of a name if it is ours: the next one of it takes at once what had to be left behind.
const LET_GO: &str = r"#!lua flags=allow-oom
local noted = redis.call('GET', KEYS[1])
if noted and noted:match('^%S+') == ARGV[1] then redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'EX', 86400) end
return ''";

/// Where it is noted who has a name.
pub(crate) fn key(name: &str) -> String {
    format!("processor:consumer:{name}")
}

/// Whether a note is by the process that has this token.
pub(super) fn is_of(noted: &str, token: &str) -> bool {
    noted.split(' ').next() == Some(token)
}

/// A name, held for as long as the process lives.
pub(crate) struct Holder {
    redis: Redis,
    name: String,
    token: String,
    connection: Connection,
    /// Where the connection leads; nothing where there is one server.
    node: Option<Node>,
}

impl Holder {
    /// Takes the wanted name, or one made of it while a living process has that. What such a process has of these streams,
    /// it refreshes within `claim_idle`; before Redis 7.2 a read that brings nothing leaves no trace.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses.
    pub(crate) async fn take(
        redis: &Redis,
        wanted: &str,
        streams: &[String],
        claim_idle: Duration,
    ) -> Result<Self, StoreError> {
        let failed = |error: ConnectionError| StoreError::transient(Store::Redis, DURING, error.to_string());
        let token = Uuid::new_v4().simple().to_string();
        let (connection, node) = connect(redis, wanted, &token).await.map_err(failed)?;
        let mut holder = Self {
            redis: redis.clone(),
            name: wanted.to_owned(),
            connection,
            node,
            token,
        };
        let is_used = holder.is_used_without_a_note(streams, claim_idle).await?;
        if !is_used && holder.takes().await.map_err(failed)? {
            return Ok(holder);
        }
        holder.name = format!("{wanted}~{}", &holder.token[..8]);
        tracing::warn!(
            wanted,
            consumer = holder.name,
            "another living process has this consumer name: working under another one, its entries stay its own"
        );
        if redis.is_cluster() {
            // It is noted elsewhere.
            holder.reconnect().await.map_err(failed)?;
        }
        holder.takes().await.map_err(failed)?;
        Ok(holder)
    }

    /// Where nothing is noted, the name stays with a consumer of it that has entries of one of these streams, and has done
    /// something there `lately`.
    async fn is_used_without_a_note(&self, streams: &[String], lately: Duration) -> Result<bool, StoreError> {
        if self.redis.type_of(DURING, &key(&self.name)).await? == "string" {
            return Ok(false);
        }
        for stream in streams {
            let mut consumers = redis::cmd("XINFO");
            consumers.arg(&["CONSUMERS", stream, GROUP]);
            let consumers: StreamInfoConsumersReply = match self.redis.ask(DURING, &consumers).await {
                Ok(consumers) => consumers,
                // There is no group yet, or no stream.
                Err(error) if error.is_no_group() || error.code == "ERR" => continue,
                // Of a server that is away nothing is known; the next one is asked.
                Err(_) if streams.len() > 1 => continue,
                Err(error) => return Err(error),
            };
            let is_used = consumers.consumers.iter().any(|consumer| {
                let idle = Duration::from_millis(consumer.idle as u64);
                consumer.name == self.name && consumer.pending > 0 && idle < lately
            });
            if is_used {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What tells us from others who had the name.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Whether the name is ours now: no process had it, or one that is dead.
    async fn takes(&mut self) -> Result<bool, ConnectionError> {
        let noted = self.try_to_take("").await?;
        if noted.is_empty() {
            return Ok(true);
        }
        if self.is_alive(&noted).await {
            return Ok(false);
        }
        Ok(self.try_to_take(&noted).await?.is_empty())
    }

    /// Returns what is noted by another process, or nothing. While the note's slot is on its way, that is asked where its owner
    /// says.
    async fn try_to_take(&mut self, dead: &str) -> Result<String, ConnectionError> {
        let answer = self.try_here(dead).await;
        let (Err(ConnectionError::Refused(said)), Some(owner)) = (&answer, &self.node) else {
            return answer;
        };
        let Some(taker) = asked_node(said, owner) else {
            return answer;
        };
        let socket = self.redis.socket_at(&taker).await?;
        self.connection = Connection::open(&self.redis, (socket, true), &self.token).await?;
        self.node = Some(taker);
        self.try_here(dead).await
    }

    async fn try_here(&mut self, dead: &str) -> Result<String, ConnectionError> {
        // Who may not ask is not known to be alive, and is known by its token all the same.
        let id = match self.connection.command(&[b"CLIENT", b"ID"]).await {
            Ok(SimpleReply::Integer(id)) => id,
            Ok(_) | Err(ConnectionError::Refused(_)) => 0,
            Err(error) => return Err(error),
        };
        self.script(TAKE, &[&id.to_string(), dead]).await
    }

    async fn script(&mut self, script: &str, arguments: &[&str]) -> Result<String, ConnectionError> {
        let key = key(&self.name);
        let mut command: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), b"1", key.as_bytes()];
        command.push(self.token.as_bytes());
        command.extend(arguments.iter().map(|argument| argument.as_bytes()));
        match self.connection.command(&command).await? {
            SimpleReply::Bulk(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            other => Err(ConnectionError::Refused(format!(
                "an answer of another kind: {other:?}"
            ))),
        }
    }

    /// Whether the connection that is noted with a name still stands. Not knowing counts as yes.
    async fn is_alive(&mut self, noted: &str) -> bool {
        let Some((token, id)) = noted.split_once(' ').filter(|(_, id)| *id != NO_CONNECTION) else {
            return false;
        };
        let list: [&[u8]; 4] = [b"CLIENT", b"LIST", b"ID", id.as_bytes()];
        match self.connection.command(&list).await {
            Ok(SimpleReply::Bulk(bytes)) => {
                let name = format!(" name={token} ");
                bytes.windows(name.len()).any(|part| part == name.as_bytes())
            }
            _ => true,
        }
    }

    /// Keeps the name until the drain is over. `false` when another process has taken it: what is held is that one's then.
    pub(crate) async fn run(mut self, ledger: Arc<Ledger>, task: Task) -> bool {
        let mut attempts = Attempts::new(retry::REDIS, task.pulse.name());
        loop {
            task.pulse.alive_for(LONGEST_LOOK);
            tokio::select! {
                () = task.shutdown.draining().cancelled() => break,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            match self.keep().await {
                Ok(true) => attempts.succeeded(),
                Ok(false) => {
                    ledger.lose_all();
                    tracing::error!(
                        consumer = self.name,
                        "another process has taken this consumer name, and what was held with it: stopping"
                    );
                    return false;
                }
                // An instance that reads no stream now has no other connection that Redis would refuse.
                Err(error) => attempts.failed(&error.of_redis(DURING)),
            }
        }
        // Without this, the next process of this name finds out by itself.
        let _let_go = self.script(LET_GO, &[NO_CONNECTION]).await;
        true
    }

    async fn reconnect(&mut self) -> Result<(), ConnectionError> {
        (self.connection, self.node) = connect(&self.redis, &self.name, &self.token).await?;
        Ok(())
    }

    async fn keep(&mut self) -> Result<bool, ConnectionError> {
        let kept = self.try_to_take("").await;
        let noted = if let Ok(noted) = kept {
            noted
        } else {
            self.reconnect().await?;
            self.try_to_take("").await?
        };
        Ok(noted.is_empty())
    }
}

/// To where a name is noted. The connection is known by the token: client ids begin anew with the server.
async fn connect(
    redis: &Redis,
    name: &str,
    token: &str,
) -> Result<(Connection, Option<Node>), ConnectionError> {
    let (socket, node) = redis.socket_to(&key(name)).await?;
    Ok((Connection::open(redis, (socket, false), token).await?, node))
}
