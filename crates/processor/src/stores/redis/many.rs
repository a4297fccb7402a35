//! Commands that need not go together: each names keys of one slot, and they are independent of one another. One server
//! gets them in one round trip; in a cluster each node gets its own.

use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value, from_redis_value};

use super::nodes::Map;
use super::open_slots::{OpenSlot, open};
use super::{Redis, Servers, slots};
use crate::config::Node;
use crate::stores::asked::asked;
use crate::stores::{Store, StoreError};

impl Redis {
    /// Sends commands that are independent of one another. In a cluster they are not carried out in order.
    ///
    /// # Errors
    /// As for [`Redis::ask`], the first one; the other commands were carried out all the same, or may have been.
    pub async fn ask_many<T: FromRedisValue>(
        &self,
        during: &'static str,
        pipeline: &Pipeline,
    ) -> Result<T, StoreError> {
        asked(Store::Redis, during, async {
            let answers = self.many(during, pipeline).await;
            answers.map_err(|error| self.failed(during, &error))
        })
        .await
    }

    async fn many<T: FromRedisValue>(&self, during: &str, pipeline: &Pipeline) -> RedisResult<T> {
        assert_each(during, pipeline);
        let Servers::Cluster(cluster) = &*self.servers else {
            return self.pipeline(pipeline).await;
        };
        let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
        let answers = Box::pin(cluster.many(&commands)).await?.into_iter();
        let answers: RedisResult<Vec<Value>> = answers.collect();
        Ok(from_redis_value(Value::Array(answers?))?)
    }

    /// The same, where each command has an answer of its own: an error of one says nothing of the others.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn ask_each<T: FromRedisValue>(
        &self,
        during: &'static str,
        mut pipeline: Pipeline,
    ) -> Result<Vec<RedisResult<T>>, StoreError> {
        pipeline.ignore_errors();
        asked(Store::Redis, during, async {
            let answers = self.each(during, &pipeline).await;
            answers.map_err(|error| self.failed(during, &error))
        })
        .await
    }

    async fn each<T: FromRedisValue>(
        &self,
        during: &str,
        pipeline: &Pipeline,
    ) -> RedisResult<Vec<RedisResult<T>>> {
        assert_each(during, pipeline);
        let Servers::Cluster(cluster) = &*self.servers else {
            return self.pipeline(pipeline).await;
        };
        let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
        let answers = Box::pin(cluster.many(&commands)).await?.into_iter();
        Ok(answers.map(|answer| Ok(from_redis_value(answer?)?)).collect())
    }

    /// Sends a command that is about the server itself to each one that takes writes. Returns what each is called in a
    /// cluster, and its answer.
    ///
    /// # Errors
    /// As for [`Redis::ask`], of any of them.
    pub async fn ask_every_server<T: FromRedisValue>(
        &self,
        during: &'static str,
        command: &Cmd,
    ) -> Result<Vec<(Option<String>, T)>, StoreError> {
        asked(Store::Redis, during, async {
            let answers = match &*self.servers {
                Servers::One(_) => self.command(command).await.map(|answer| vec![(None, answer)]),
                Servers::Cluster(cluster) => {
                    Box::pin(cluster.every_master(command)).await.and_then(|answers| {
                        let answers = answers.into_iter();
                        answers
                            .map(|(node, answer)| Ok((Some(node.to_string()), from_redis_value(answer)?)))
                            .collect()
                    })
                }
            };
            answers.map_err(|error| self.failed(during, &error))
        })
        .await
    }

    /// Slots that are on their way from one node to another; none where there is no cluster.
    ///
    /// # Errors
    /// As for [`Redis::ask_every_server`].
    pub async fn open_slots(&self) -> Result<Vec<OpenSlot>, StoreError> {
        if !self.is_cluster() {
            return Ok(Vec::new());
        }
        let mut nodes = redis::cmd("CLUSTER");
        nodes.arg("NODES");
        let answers = self.ask_every_server::<String>("looking for open slots", &nodes);
        Ok(open(&answers.await?))
    }

    /// The servers that are named by a cluster's nodes or by Sentinels, those included that may become primaries: whoever
    /// connects is sent to them. None where there are neither.
    ///
    /// # Errors
    /// When none of them says.
    pub async fn named_servers(&self) -> Result<Vec<Node>, StoreError> {
        let during = "looking for the servers there are";
        asked(Store::Redis, during, async {
            let named = match &*self.servers {
                Servers::One(_) => {
                    let named = self.dialer().named().await;
                    named.map_err(Into::into)
                }
                Servers::Cluster(cluster) => {
                    let mut slots = redis::cmd("CLUSTER");
                    slots.arg("SLOTS");
                    let answers = Box::pin(cluster.every_master(&slots)).await;
                    answers.and_then(named_by)
                }
            };
            named.map_err(|error: RedisError| self.failed(during, &error))
        })
        .await
    }

    /// The slot of a key in a cluster, and the node that has it; nothing where there is no cluster.
    ///
    /// # Errors
    /// When no node says, or no node has the slot.
    pub async fn place_of(&self, key: &str) -> Result<Option<(u16, String)>, StoreError> {
        let during = "looking for a slot's node";
        let Servers::Cluster(cluster) = &*self.servers else {
            return Ok(None);
        };
        asked(Store::Redis, during, async {
            let owner = Box::pin(cluster.find_owner(key.as_bytes())).await;
            let owner = owner.map_err(|error| self.failed(during, &error))?;
            Ok(Some((slots::of_key(key.as_bytes()), owner.to_string())))
        })
        .await
    }

    /// What keys hold; nothing where that is no text.
    ///
    /// # Errors
    /// As for [`Redis::ask`].
    pub async fn texts(
        &self,
        during: &'static str,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let (_, texts) = self.ask_many_and_read(during, redis::pipe(), keys).await?;
        Ok(texts)
    }

    /// Sends commands that are independent of one another, and then reads what keys hold: nothing where that is no text.
    ///
    /// # Errors
    /// As for [`Redis::ask_many`].
    pub async fn ask_many_and_read(
        &self,
        during: &'static str,
        mut pipeline: Pipeline,
        keys: &[String],
    ) -> Result<(Vec<Value>, Vec<Option<Vec<u8>>>), StoreError> {
        assert_each(during, &pipeline);
        asked(Store::Redis, during, async {
            let answers = match &*self.servers {
                Servers::One(_) => {
                    pipeline.cmd("MGET").arg(keys);
                    let answers = self.pipeline::<Vec<Value>>(&pipeline).await;
                    answers.and_then(|mut answers| {
                        let texts = answers.pop().unwrap_or(Value::Nil);
                        Ok((answers, from_redis_value(texts)?))
                    })
                }
                Servers::Cluster(_) => Box::pin(self.many_and_read(during, &pipeline, keys)).await,
            };
            answers.map_err(|error| self.failed(during, &error))
        })
        .await
    }

    async fn many_and_read(
        &self,
        during: &str,
        pipeline: &Pipeline,
        keys: &[String],
    ) -> RedisResult<(Vec<Value>, Vec<Option<Vec<u8>>>)> {
        let answers = if pipeline.is_empty() {
            Vec::new()
        } else {
            self.many(during, pipeline).await?
        };
        let mut read = Pipeline::with_capacity(keys.len());
        for key in keys {
            read.cmd("MGET").arg(key);
        }
        let texts: Vec<[Option<Vec<u8>>; 1]> = self.many(during, &read).await?;
        Ok((answers, texts.into_iter().map(|[text]| text).collect()))
    }

    /// Deletes keys.
    ///
    /// # Errors
    /// As for [`Redis::ask_many`].
    pub async fn delete(&self, during: &'static str, keys: &[impl AsRef<str>]) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        match &*self.servers {
            Servers::One(_) => {
                let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
                let mut delete = redis::cmd("DEL");
                delete.arg(keys);
                asked(Store::Redis, during, async {
                    let answer = self.command(&delete).await;
                    answer.map_err(|error| self.failed(during, &error))
                })
                .await
            }
            Servers::Cluster(_) => {
                for key in keys {
                    pipeline.cmd("DEL").arg(key.as_ref());
                }
                self.ask_many::<Vec<u64>>(during, &pipeline).await.map(drop)
            }
        }
    }
}

/// Whom each of the nodes names, each once.
fn named_by(answers: Vec<(Node, Value)>) -> RedisResult<Vec<Node>> {
    let mut named = Vec::new();
    for (asked, answer) in answers {
        let map = Map::of(from_redis_value(answer)?, &asked).unwrap_or_default();
        for node in map.nodes() {
            if !named.contains(node) {
                named.push(node.clone());
            }
        }
    }
    Ok(named)
}

/// Each command's keys are of one slot.
fn assert_each(during: &str, pipeline: &Pipeline) {
    if cfg!(debug_assertions) {
        pipeline
            .cmd_iter()
            .for_each(|command| slots::assert_one(during, [command]));
    }
}
