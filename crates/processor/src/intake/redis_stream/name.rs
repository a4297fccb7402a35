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

use stream_reply::SimpleReply;
use uuid::Uuid;

use crate::runtime::task::Task;
use crate::stores::{Dialer, Store, StoreError};

use super::GROUP;
use super::connection::{Connection, ConnectionError};
use crate::intake::ledger::Ledger;

/// Between two looks at whether the name is still ours.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest that a look takes, a new connection included.
const LONGEST_LOOK: Duration = Duration::from_mins(1);

/// Takes a name if no process has it, we have it, or it is noted as `ARGV[3]` says: by one that is dead. Returns what is
/// noted by another. The note goes a day after its process has.
///
/// Where nothing is noted, the name stays with a consumer `ARGV[6]` of the group `ARGV[4]` that has entries of one of the
/// streams, `KEYS[2]` and on, and has done something there less than `ARGV[5]` milliseconds ago.
const TAKE: &str = r"#!lua flags=allow-oom
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then redis.call('DEL', KEYS[1]) end
local noted = redis.call('GET', KEYS[1])
for i = 2, noted and 1 or #KEYS do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[i], ARGV[4])
  for _, fields in ipairs(consumers.err and {} or consumers) do
    local c = {}
    for f = 1, #fields, 2 do c[fields[f]] = fields[f + 1] end
    if c['name'] == ARGV[6] and c['pending'] > 0 and c['idle'] < tonumber(ARGV[5]) then return 'without a note' end
  end
end
if not noted or noted == ARGV[3] or noted:match('^%S+') == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'EX', 86400)
  return ''
end
return noted";

/// What the script above says of a living process that has noted nothing.
const WITHOUT_A_NOTE: &str = "without a note";

/// What is noted instead of a connection by who has let go.
const NO_CONNECTION: &str = "-";

/// Lets go of a name if it is ours: the next one of it takes at once what had to be left behind.
const LET_GO: &str = r"#!lua flags=allow-oom
local noted = redis.call('GET', KEYS[1])
if noted and noted:match('^%S+') == ARGV[1] then redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'EX', 86400) end
return ''";

/// Where it is noted who has a name.
pub(super) fn key(name: &str) -> String {
    format!("processor:consumer:{name}")
}

/// A name, held for as long as the process lives.
pub(crate) struct Holder {
    dialer: Arc<Dialer>,
    name: String,
    token: String,
    connection: Connection,
}

impl Holder {
    /// Takes the wanted name, or one made of it while a living process has that. What such a process has of these streams,
    /// it refreshes within `claim_idle`; before Redis 7.2 a read that brings nothing leaves no trace.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses.
    pub(crate) async fn take(
        dialer: &Arc<Dialer>,
        wanted: &str,
        streams: &[String],
        claim_idle: Duration,
    ) -> Result<Self, StoreError> {
        let failed = |error: ConnectionError| {
            let during = "taking the consumer's name";
            StoreError::transient(Store::Redis, during, error.to_string())
        };
        let token = Uuid::new_v4().simple().to_string();
        let mut holder = Self {
            dialer: dialer.clone(),
            name: wanted.to_owned(),
            connection: connect(dialer, &token).await.map_err(failed)?,
            token,
        };
        if holder.takes(streams, claim_idle).await.map_err(failed)? {
            return Ok(holder);
        }
        holder.name = format!("{wanted}~{}", &holder.token[..8]);
        tracing::warn!(
            wanted,
            consumer = holder.name,
            "another living process has this consumer name: working under another one, its entries stay its own"
        );
        holder.takes(&[], Duration::ZERO).await.map_err(failed)?;
        Ok(holder)
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
    async fn takes(&mut self, streams: &[String], lately: Duration) -> Result<bool, ConnectionError> {
        let noted = self.try_to_take("", streams, lately).await?;
        if noted.is_empty() {
            return Ok(true);
        }
        if self.is_alive(&noted).await {
            return Ok(false);
        }
        Ok(self.try_to_take(&noted, &[], lately).await?.is_empty())
    }

    /// Returns what is noted by another process, or nothing.
    async fn try_to_take(
        &mut self,
        dead: &str,
        streams: &[String],
        lately: Duration,
    ) -> Result<String, ConnectionError> {
        // Who may not ask is not known to be alive, and is known by its token all the same.
        let id = match self.connection.command(&[b"CLIENT", b"ID"]).await {
            Ok(SimpleReply::Integer(id)) => id,
            Ok(_) | Err(ConnectionError::Refused(_)) => 0,
            Err(error) => return Err(error),
        };
        let (id, lately, name) = (id.to_string(), lately.as_millis().to_string(), self.name.clone());
        self.script(TAKE, streams, &[&id, dead, GROUP, &lately, &name])
            .await
    }

    async fn script(
        &mut self,
        script: &str,
        streams: &[String],
        arguments: &[&str],
    ) -> Result<String, ConnectionError> {
        let key = key(&self.name);
        let keys = (1 + streams.len()).to_string();
        let mut command: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), keys.as_bytes(), key.as_bytes()];
        command.extend(streams.iter().map(String::as_bytes));
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
        if noted == WITHOUT_A_NOTE {
            return true;
        }
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
        loop {
            task.pulse.alive_for(LONGEST_LOOK);
            tokio::select! {
                () = task.shutdown.draining().cancelled() => break,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            match self.keep().await {
                Ok(true) => {}
                Ok(false) => {
                    ledger.lose_all();
                    tracing::error!(
                        consumer = self.name,
                        "another process has taken this consumer name, and what was held with it: stopping"
                    );
                    return false;
                }
                // Redis being away is no fault of this loop; the reader reports it.
                Err(error) => tracing::debug!(%error, "the consumer's name could not be looked at"),
            }
        }
        // Without this, the next process of this name finds out by itself.
        let _let_go = self.script(LET_GO, &[], &[NO_CONNECTION]).await;
        true
    }

    async fn keep(&mut self) -> Result<bool, ConnectionError> {
        let kept = self.try_to_take("", &[], Duration::ZERO).await;
        let noted = if let Ok(noted) = kept {
            noted
        } else {
            self.connection = connect(&self.dialer, &self.token).await?;
            self.try_to_take("", &[], Duration::ZERO).await?
        };
        Ok(noted.is_empty())
    }
}

/// The connection is known by the token: client ids begin anew with the server.
async fn connect(dialer: &Dialer, token: &str) -> Result<Connection, ConnectionError> {
    Connection::open(dialer, token).await
}
