//! Redis for everything but the blocking reads, which have a connection of their own: the only place that sends it a
//! command.

#![allow(
    clippy::disallowed_methods,
    reason = "everything else asks through here, so that every error is classified and names what was being done"
)]

mod cluster;
mod dial;
mod greet;
mod link;
mod many;
mod nodes;
mod open_slots;
mod primary;
mod sentinel;
mod slots;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, from_redis_value};

use self::cluster::Cluster;
pub use self::dial::{NO_TLS, Socket};
use self::link::Link;
pub use self::nodes::asked_node;
pub use self::open_slots::{OpenSlot, slot_of};
pub use self::primary::Dialer;
pub(super) use self::sentinel::NO_SENTINEL;
pub(crate) use self::slots::assert_one_of_words;
use super::asked::asked;
use super::{Store, StoreError, texts};
use crate::config::{Node, RedisConfig, RedisServers};

/// Counts in a field of a hash that goes when nothing was counted in it for a week. What is no hash, or no number, begins
/// anew: no other program writes it.
const COUNT: &str = r"
local found = redis.call('TYPE', KEYS[1]).ok
if found == 'hash' then
  local count = redis.call('HGET', KEYS[1], ARGV[1])
  if count and not (string.match(count, '^%d+$') and #count < 16) then redis.call('HDEL', KEYS[1], ARGV[1]) end
elseif found ~= 'none' then
  redis.call('DEL', KEYS[1])
end
local count = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('EXPIRE', KEYS[1], 604800)
return count";

/// What only servers of a cluster answer…
const OF_A_CLUSTER: [&str; 4] = ["ASK", "CLUSTERDOWN", "CROSSSLOT", "MOVED"];
/// …and what is said then where none is known of.
const IS_A_CLUSTER: &str = " (REDIS_URL names one node of a cluster: write redis-cluster:// in it)";

/// Said where a server that has never answered closes a plain connection at its first command.
const PERHAPS_TLS: &str = " (does the port speak TLS? Then write rediss:// in REDIS_URL)";

/// When a key that is there goes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLeft {
    /// It does not.
    Forever,
    /// In so many seconds.
    Seconds(u64),
}

impl TimeLeft {
    /// Seconds; nothing where it never ends.
    pub fn seconds(self) -> Option<u64> {
        match self {
            Self::Forever => None,
            Self::Seconds(seconds) => Some(seconds),
        }
    }
}

/// The shared connections.
enum Servers {
    /// To the one server that takes writes.
    One(Link),
    /// To the nodes of a cluster.
    Cluster(Cluster),
}

/// A shared, multiplexed connection that is opened again after every loss, or one to each node of a cluster. Cloning is
/// cheap.
///
/// What is sent together names keys of one slot, also where there is one server: so it works in a cluster. Where tests run,
/// anything else ends the program. [`Redis::ask_many`] is for keys of several slots.
#[derive(Clone)]
pub struct Redis {
    servers: Arc<Servers>,
    dialer: Arc<Dialer>,
    /// Some command was answered.
    has_answered: Arc<AtomicBool>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redis({})", self.dialer.config())
    }
}

impl Redis {
    /// Connects at the first command, and again after every loss; a command during an outage fails at once, since
    /// retrying belongs to the caller.
    pub fn new(config: &RedisConfig) -> Self {
        let dialer = Arc::new(Dialer::new(config));
        let servers = match &config.servers {
            RedisServers::Cluster(nodes) => Servers::Cluster(Cluster::new(dialer.clone(), nodes)),
            _ => Servers::One(Link::new(dialer.clone())),
        };
        Self {
            servers: Arc::new(servers),
            dialer,
            has_answered: Arc::default(),
        }
    }

    /// What opens connections of one's own to the same servers.
    pub fn dialer(&self) -> &Arc<Dialer> {
        &self.dialer
    }

    /// Whether keys of different slots may be on different nodes.
    pub fn is_cluster(&self) -> bool {
        matches!(*self.servers, Servers::Cluster(_))
    }

    /// A socket of one's own to the server that has a key, and takes writes, as far as that is known. With the node's name, where
    /// there are several.
    ///
    /// # Errors
    /// When it is not known, or cannot be reached in time.
    pub async fn socket_to(&self, key: &str) -> io::Result<(Box<dyn Socket>, Option<Node>)> {
        match &*self.servers {
            Servers::One(_) => Ok((self.dialer.primary().await?, None)),
            Servers::Cluster(cluster) => {
                let owner = Box::pin(cluster.find_owner(key.as_bytes())).await;
                let owner = owner.map_err(io::Error::other)?;
                Ok((self.socket_at(&owner).await?, Some(owner)))
            }
        }
    }

    /// The same to a node of a cluster.
    ///
    /// # Errors
    /// When it cannot be reached in time.
    pub async fn socket_at(&self, node: &Node) -> io::Result<Box<dyn Socket>> {
        let socket = self.dialer.node(node).await;
        socket.map_err(|error| io::Error::new(error.kind(), format!("{node}: {error}")))
    }

    async fn command<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let link = match &*self.servers {
            Servers::One(link) => link,
            // Boxed, so that the one server's way does not carry it.
            Servers::Cluster(cluster) => {
                return Ok(from_redis_value(Box::pin(cluster.command(command)).await?)?);
            }
        };
        let (number, mut connection) = link.get().await?;
        let answer = command.query_async(&mut connection).await;
        self.look_at(link, number, answer).await
    }

    async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> RedisResult<T> {
        let link = match &*self.servers {
            Servers::One(link) => link,
            Servers::Cluster(cluster) => {
                return Ok(from_redis_value(Box::pin(cluster.pipeline(pipeline)).await?)?);
            }
        };
        let (number, mut connection) = link.get().await?;
        let answers = pipeline.query_async(&mut connection).await;
        self.look_at(link, number, answers).await
    }

    async fn look_at<T>(&self, link: &Link, number: u64, answer: RedisResult<T>) -> RedisResult<T> {
        match &answer {
            Ok(_) => self.has_answered.store(true, Ordering::Relaxed),
            Err(error) => link.look_at(number, error).await,
        }
        answer
    }

    /// Sends one command, whose keys are of one slot.
    ///
    /// # Errors
    /// When Redis cannot be reached, refuses, or answers with something else than a `T`.
    pub async fn ask<T: FromRedisValue>(&self, during: &'static str, command: &Cmd) -> Result<T, StoreError> {
        slots::assert_one(during, [command]);
        asked(Store::Redis, during, async {
            let answer = self.command(command).await;
            answer.map_err(|error| self.failed(during, &error))
        })
        .await
    }

    /// Sends several commands in one round trip. Their keys are of one slot; for others there is [`Redis::ask_many`]. A `T`
    /// has the answer of each: none is marked to be ignored.
    ///
    /// # Errors
    /// As for [`Redis::ask`], the first one; the other commands were carried out all the same.
    pub async fn ask_all<T: FromRedisValue>(
        &self,
        during: &'static str,
        pipeline: &Pipeline,
    ) -> Result<T, StoreError> {
        slots::assert_one(during, pipeline.cmd_iter());
        asked(Store::Redis, during, async {
            let answers = self.pipeline(pipeline).await;
            answers.map_err(|error| self.failed(during, &error))
        })
        .await
    }

    /// The same as [`Redis::ask`], on a key that has to be a `wanted`.
    ///
    /// # Errors
    /// As for [`Redis::ask`]; [`StoreError::wrong_type`] when the key holds something else.
    pub async fn ask_of<T: FromRedisValue>(
        &self,
        during: &'static str,
        at: (&str, &str),
        command: &Cmd,
    ) -> Result<T, StoreError> {
        slots::assert_one(during, [command]);
        self.ask_one_server_of(during, at, command).await
    }

    /// The same, with keys of any slots: only for where [`Redis::is_cluster`] is not so.
    ///
    /// # Errors
    /// As for [`Redis::ask_of`].
    pub async fn ask_one_server_of<T: FromRedisValue>(
        &self,
        during: &'static str,
        (key, wanted): (&str, &str),
        command: &Cmd,
    ) -> Result<T, StoreError> {
        asked(Store::Redis, during, async {
            match self.command(command).await {
                Ok(answer) => Ok(answer),
                Err(error) => Err(self.error_at(during, (key, wanted), &error).await),
            }
        })
        .await
    }

    /// The same as [`Redis::ask_all`], on a key that has to be a `wanted`.
    ///
    /// # Errors
    /// As for [`Redis::ask_of`].
    pub async fn ask_all_of<T: FromRedisValue>(
        &self,
        during: &'static str,
        (key, wanted): (&str, &str),
        pipeline: &Pipeline,
    ) -> Result<T, StoreError> {
        slots::assert_one(during, pipeline.cmd_iter());
        asked(Store::Redis, during, async {
            match self.pipeline(pipeline).await {
                Ok(answers) => Ok(answers),
                Err(error) => Err(self.error_at(during, (key, wanted), &error).await),
            }
        })
        .await
    }

    /// Redis's own words name neither the key nor what it holds, so these are asked for.
    async fn error_at(
        &self,
        during: &'static str,
        (key, wanted): (&str, &str),
        error: &RedisError,
    ) -> StoreError {
        if !error.is_io_error()
            && let Err(other) = self.check_type(during, key, wanted).await
            && other.is_wrong_type()
        {
            return other;
        }
        self.failed(during, error)
    }

    /// A server that does not speak TLS waits for the end of what it takes for a command, and says nothing.
    fn failed(&self, during: &'static str, error: &RedisError) -> StoreError {
        let mut failed = StoreError::redis(during, error);
        let is_silent = error.is_timeout();
        if self.dialer.config().tls.is_some() && is_silent && !failed.message.contains(NO_TLS) {
            failed.message.push_str(NO_TLS);
        }
        let is_plain = self.dialer.config().tls.is_none() && !self.has_answered.load(Ordering::Relaxed);
        if is_plain && texts::is_cut(&failed.message) {
            failed.message.push_str(PERHAPS_TLS);
        }
        if !self.is_cluster() && OF_A_CLUSTER.contains(&failed.code.as_str()) {
            failed.message.push_str(IS_A_CLUSTER);
        }
        failed
    }

    /// Checks that a key, if it is there, is a `wanted`.
    ///
    /// # Errors
    /// [`StoreError::wrong_type`] when it is not, and when Redis cannot be reached or refuses.
    pub async fn check_type(&self, during: &'static str, key: &str, wanted: &str) -> Result<(), StoreError> {
        let found = self.type_of(during, key).await?;
        if found == wanted || found == "none" {
            return Ok(());
        }
        Err(StoreError::wrong_type(during, key, &found, wanted))
    }

    /// What a key holds; `none` when it is not there.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses.
    pub async fn type_of(&self, during: &'static str, key: &str) -> Result<String, StoreError> {
        self.ask(during, redis::cmd("TYPE").arg(key)).await
    }

    /// Adds one to what a hash of ours counts in a field. Returns the count.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses.
    pub async fn count_in(&self, during: &'static str, key: &str, field: &str) -> Result<u64, StoreError> {
        self.ask(during, script(COUNT, &[key]).arg(field)).await
    }

    /// What is left of a key's time; nothing when there is no such key.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses.
    pub async fn time_left(&self, during: &'static str, key: &str) -> Result<Option<TimeLeft>, StoreError> {
        let ttl: i64 = self.ask(during, redis::cmd("TTL").arg(key)).await?;
        Ok(match ttl {
            -2 => None,
            seconds => Some(u64::try_from(seconds).map_or(TimeLeft::Forever, TimeLeft::Seconds)),
        })
    }

    /// Redis's clock in milliseconds since the epoch, by which entries and reports are stamped.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses.
    pub async fn now_ms(&self) -> Result<u64, StoreError> {
        let (seconds, micros): (u64, u64) = self.ask("reading the time", &redis::cmd("TIME")).await?;
        Ok(seconds * 1000 + micros / 1000)
    }
}

/// The command that runs a Lua script on keys; its arguments are still to be added.
pub fn script(text: &str, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(keys.len()).arg(keys);
    command
}
