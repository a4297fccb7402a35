//! The shared connections to the masters of a cluster: each command goes to the node that has its key's slot.
//!
//! A node that does not have a slot, or not any more, says so and does nothing: such a command is sent again, where it is to
//! go. Whatever else fails may have been done; trying again belongs to the caller.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::future::{join_all, select_ok};
use futures::{StreamExt, stream};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, from_redis_value};

use super::dial::CONNECT_TIMEOUT;
use super::link::Link;
use super::nodes::Map;
use super::primary::Dialer;
use super::slots;
use crate::config::Node;

/// How often a command is sent in all that no node takes.
const TRIES: u32 = 5;
/// Between two tries while a slot moves or a master is replaced; twice as long each time.
const PAUSE: Duration = Duration::from_millis(20);
/// When the next node is asked for the map too, while those before say nothing.
const NEXT_NODE: Duration = Duration::from_millis(100);
/// Commands that are sent one by one at the same time, because their slots are moving.
const AT_ONCE: usize = 16;

/// Connections to the nodes, and which of them has which slot.
pub(super) struct Cluster {
    dialer: Arc<Dialer>,
    /// The nodes that are configured.
    seeds: Vec<Node>,
    map: RwLock<Arc<Map>>,
    /// The map is to be asked for before it is used again.
    is_stale: AtomicBool,
    links: Mutex<HashMap<Node, Arc<Link>>>,
    looked: tokio::sync::Mutex<Looked>,
}

/// What came of asking for the map last, and when that began. Who waited for it takes the same.
#[derive(Default)]
struct Looked {
    last: Option<(Instant, RedisResult<Arc<Map>>)>,
    turn: usize,
}

/// What is to be done after an error.
enum Next {
    /// The command goes to the owner of its slot…
    Owner,
    /// …to the node that was named…
    Moved(Node),
    /// …or to the one that is taking the slot over, which takes only what says that it was sent there.
    Asked(Node),
    GiveUp,
}

impl Cluster {
    pub(super) fn new(dialer: Arc<Dialer>, seeds: &[Node]) -> Self {
        Self {
            dialer,
            seeds: seeds.to_vec(),
            map: RwLock::default(),
            is_stale: AtomicBool::new(true),
            links: Mutex::default(),
            looked: tokio::sync::Mutex::default(),
        }
    }

    /// Sends a command to the node that has its keys; one without keys to any master, always the same as long as it is one.
    pub(super) async fn command(&self, command: &Cmd) -> RedisResult<Value> {
        let slot = slots::of(command);
        let mut next = Next::Owner;
        let mut attempt = 0;
        loop {
            let asked = Instant::now();
            let (node, is_asking) = match next {
                Next::Moved(node) => (node, false),
                Next::Asked(node) => (node, true),
                Next::Owner | Next::GiveUp => (self.owner(slot).await?, false),
            };
            let error = match self.send(&node, command, is_asking).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            attempt += 1;
            next = self.after(&node, &error, asked, attempt).await;
            if matches!(next, Next::GiveUp) {
                return Err(error);
            }
        }
    }

    /// Sends a command to every master. Returns each one's answer.
    pub(super) async fn every_master(&self, command: &Cmd) -> RedisResult<Vec<(Node, Value)>> {
        let map = self.look(Instant::now()).await?;
        let answers = map.masters().into_iter().map(async |node| {
            let answer = self.send(node, command, false).await?;
            Ok((node.clone(), answer))
        });
        join_all(answers).await.into_iter().collect()
    }

    /// Sends commands of one slot together. Those that the node refuses, because the slot is on its way, are sent again one
    /// by one, in their order; a transaction is not: nothing of it is done then.
    pub(super) async fn pipeline(&self, pipeline: &Pipeline) -> RedisResult<Value> {
        if pipeline.is_transaction() {
            return self.transaction(pipeline).await;
        }
        let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
        let mut answers: Vec<Option<RedisResult<Value>>> = commands.iter().map(|_| None).collect();
        let all: Vec<usize> = (0..commands.len()).collect();
        self.send_by_node(&commands, &all, &mut answers).await?;
        for (command, answer) in commands.iter().zip(&mut answers) {
            if matches!(answer, Some(Err(error)) if is_refused(error)) {
                *answer = Some(self.command(command).await);
            }
        }
        let answers: RedisResult<Vec<Value>> = answers.into_iter().flatten().collect();
        Ok(Value::Array(answers?))
    }

    async fn transaction(&self, pipeline: &Pipeline) -> RedisResult<Value> {
        let node = self.owner(pipeline.cmd_iter().find_map(slots::of)).await?;
        let answers = self
            .on(&node, async |mut connection| {
                pipeline.query_async(&mut connection).await
            })
            .await;
        if answers.is_err() {
            // The error of several commands does not plainly say whether the slot is elsewhere.
            self.is_stale.store(true, Ordering::Relaxed);
        }
        answers
    }

    /// Sends commands that are independent of one another, those of one node together.
    pub(super) async fn many(&self, commands: &[&Cmd]) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut answers: Vec<Option<RedisResult<Value>>> = commands.iter().map(|_| None).collect();
        let mut left: Vec<usize> = (0..commands.len()).collect();
        // A look at the map sends what has moved to where it is. What moves just now goes one by one.
        for _round in 0..2 {
            let asked = Instant::now();
            self.send_by_node(commands, &left, &mut answers).await?;
            left.retain(|place| matches!(&answers[*place], Some(Err(error)) if is_refused(error)));
            if left.is_empty() {
                break;
            }
            self.look(asked).await?;
        }
        let alone = stream::iter(left).map(async |place| (place, self.command(commands[place]).await));
        let mut alone = std::pin::pin!(alone.buffer_unordered(AT_ONCE));
        while let Some((place, answer)) = alone.next().await {
            answers[place] = Some(answer);
        }
        Ok(answers.into_iter().flatten().collect())
    }

    async fn send_by_node(
        &self,
        commands: &[&Cmd],
        places: &[usize],
        answers: &mut [Option<RedisResult<Value>>],
    ) -> RedisResult<()> {
        let mut by_node: HashMap<Node, Vec<usize>> = HashMap::new();
        for place in places {
            let owner = self.owner(slots::of(commands[*place])).await?;
            by_node.entry(owner).or_default().push(*place);
        }
        let groups = by_node.into_iter().map(async |(node, places)| {
            let mut pipeline = Pipeline::with_capacity(places.len());
            for place in &places {
                pipeline.add_command(commands[*place].clone());
            }
            pipeline.ignore_errors();
            let sent = self
                .on(&node, async |mut connection| {
                    pipeline.query_async(&mut connection).await
                })
                .await;
            (places, sent)
        });
        // None is given up because another has failed: what it was sent is done, and said so, or not.
        let mut failed = Ok(());
        for (places, sent) in join_all(groups).await {
            match sent {
                Ok(all) => {
                    let all: Vec<RedisResult<Value>> = all;
                    for (place, answer) in places.into_iter().zip(all) {
                        answers[place] = Some(answer);
                    }
                }
                Err(error) => failed = Err(error),
            }
        }
        failed
    }

    /// The node that has a key, as the cluster says now.
    pub(super) async fn find_owner(&self, key: &[u8]) -> RedisResult<Node> {
        let map = self.look(Instant::now()).await?;
        let owner = map.owner(slots::of_key(key)).cloned();
        owner.ok_or_else(nobody)
    }

    async fn owner(&self, slot: Option<u16>) -> RedisResult<Node> {
        let map = if self.is_stale.load(Ordering::Relaxed) {
            self.look(Instant::now()).await?
        } else {
            self.map.read().unwrap_or_else(PoisonError::into_inner).clone()
        };
        let owner = map.owner(slot.unwrap_or(0)).cloned();
        if owner.is_none() {
            self.is_stale.store(true, Ordering::Relaxed);
        }
        owner.ok_or_else(nobody)
    }

    async fn send(&self, node: &Node, command: &Cmd, is_asking: bool) -> RedisResult<Value> {
        self.on(node, async |mut connection| {
            if !is_asking {
                return command.query_async(&mut connection).await;
            }
            let mut pipeline = redis::pipe();
            pipeline
                .cmd("ASKING")
                .add_command(command.clone())
                .ignore_errors();
            let mut answers: Vec<RedisResult<Value>> = pipeline.query_async(&mut connection).await?;
            answers.pop().unwrap_or(Ok(Value::Nil))
        })
        .await
    }

    /// Does something with the connection to a node. Where that is lost, the slots of the node may have gone to another one.
    async fn on<T>(
        &self,
        node: &Node,
        ask: impl AsyncFnOnce(redis::aio::MultiplexedConnection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let link = self.link(node);
        let answer = match link.get().await {
            Ok((number, connection)) => {
                let answer = ask(connection).await;
                if let Err(error) = &answer {
                    link.look_at(number, error).await;
                }
                answer
            }
            Err(error) if error.is_io_error() => {
                let why = format!("{node}: {error}");
                Err(RedisError::from((
                    ErrorKind::Io,
                    "a node of the cluster cannot be reached",
                    why,
                )))
            }
            Err(error) => Err(error),
        };
        if answer
            .as_ref()
            .is_err_and(|error| error.is_unrecoverable_error() || error.is_io_error())
        {
            self.is_stale.store(true, Ordering::Relaxed);
        }
        answer
    }

    async fn after(&self, node: &Node, error: &RedisError, asked: Instant, attempt: u32) -> Next {
        if attempt >= TRIES || !is_refused(error) {
            return Next::GiveUp;
        }
        let named = error
            .redirect_node()
            .and_then(|(address, _slot)| Map::node_of(address, node));
        match (error.kind(), named) {
            (ErrorKind::Server(ServerErrorKind::Ask), Some(named)) => return Next::Asked(named),
            (ErrorKind::Server(ServerErrorKind::Moved), Some(named)) => {
                // Others have moved with it, perhaps. Where nobody can be asked, this much is known.
                let _map = self.look(asked).await;
                return Next::Moved(named);
            }
            _ => {}
        }
        tokio::time::sleep(PAUSE * (1 << attempt.min(5))).await;
        match self.look(asked).await {
            Ok(_) => Next::Owner,
            Err(_) => Next::GiveUp,
        }
    }

    fn link(&self, node: &Node) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let link = links.entry(node.clone());
        link.or_insert_with(|| Arc::new(Link::to(self.dialer.clone(), node.clone())))
            .clone()
    }

    /// Asks for the map, unless somebody has since `asked`.
    async fn look(&self, asked: Instant) -> RedisResult<Arc<Map>> {
        let mut looked = self.looked.lock().await;
        if let Some((at, map)) = &looked.last
            && *at >= asked
        {
            return map.clone();
        }
        let began = Instant::now();
        // What is found out from here on counts for the next look.
        self.is_stale.store(false, Ordering::Relaxed);
        looked.turn += 1;
        let map = self.ask_for_map(looked.turn).await.map(Arc::new);
        match &map {
            Ok(map) => self.take(map),
            Err(_) => self.is_stale.store(true, Ordering::Relaxed),
        }
        looked.last = Some((began, map.clone()));
        map
    }

    fn take(&self, map: &Arc<Map>) {
        *self.map.write().unwrap_or_else(PoisonError::into_inner) = map.clone();
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|node, _| map.nodes().contains(node) || self.seeds.contains(node));
    }

    /// Asks one node after another, each time beginning with the next one: a node that is cut off from the others does not
    /// know what has moved.
    async fn ask_for_map(&self, turn: usize) -> RedisResult<Map> {
        let known = self.map.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut nodes: Vec<Node> = known.nodes().to_vec();
        nodes.extend(
            self.seeds
                .iter()
                .filter(|seed| !known.nodes().contains(seed))
                .cloned(),
        );
        if nodes.is_empty() {
            return Err(nobody());
        }
        let first = turn % nodes.len();
        nodes.rotate_left(first);
        let asking = nodes.iter().zip(0..).map(|(node, before)| {
            Box::pin(async move {
                tokio::time::sleep(NEXT_NODE * before).await;
                self.map_of(node).await
            })
        });
        let limit = CONNECT_TIMEOUT + NEXT_NODE * nodes.len() as u32;
        match tokio::time::timeout(limit, select_ok(asking)).await {
            Ok(found) => found.map(|(map, _others)| map),
            Err(_elapsed) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }

    async fn map_of(&self, node: &Node) -> RedisResult<Map> {
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("SLOTS");
        let answer = self.send(node, &slots, false).await?;
        let map = Map::of(from_redis_value(answer)?, node);
        map.ok_or_else(|| {
            let why = format!("{node} knows no node that has slots");
            RedisError::from((ErrorKind::Io, "the cluster is not formed", why))
        })
    }
}

/// Whether a node has done nothing, because it does not have the slot, or cannot serve it now.
fn is_refused(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
        )
    )
}

fn nobody() -> RedisError {
    RedisError::from((ErrorKind::Io, "no node of the cluster has the key's slot"))
}
