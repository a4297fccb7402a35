//! The one loop that takes entries: own pending ones first, then claimed and fresh ones in turn.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rand::Rng;
use stream_reply::{EntryBlock, FieldTable, Limits, ReplyDecoder, ReplyEnd, ReplyKind, Step, StreamId};
use tokio::sync::mpsc;
use url::Url;

use crate::event::field::FIELDS;
use crate::runtime::gate::Gate;
use crate::runtime::moment::Moment;
use crate::runtime::pulse::Pulse;
use crate::runtime::shutdown::Shutdown;
use crate::stores::RedisConnection;

use super::claim::Claims;
use super::connection::Connection;
use super::continuity::{Continuity, Look};
use super::trouble::{MOST_ERRORS, ReaderFailed, Trouble};
use super::{GROUP, Ledger, group, room, suspects};

/// Entries on their way into the pipeline, in stream order.
#[derive(Debug)]
pub struct Delivery {
    /// Index of their stream.
    pub stream: u16,
    /// Given to some consumer before, or perhaps: rows are looked up.
    pub redelivered: bool,
    /// The entries.
    pub block: EntryBlock,
    /// Indices of entries that we hold already, ascending: leave them alone.
    pub skip: Vec<usize>,
    /// Indices of entries delivered too often, ascending: to be processed apart, after everything before them has landed.
    pub suspects: Vec<usize>,
    /// More is waiting right behind: gather larger batches.
    pub backlog: bool,
}

/// How long an idle read waits. Also the longest a drain waits for the reader.
const BLOCK: Duration = Duration::from_secs(1);
/// Entries are handed on in blocks of about this size while the rest of a reply is still on the wire.
const BLOCK_BYTES: usize = 512 * 1024;
/// A larger entry is not read into memory.
const ENTRY_BYTES: usize = 16 * 1024 * 1024;
/// A read waits until at least this many entries may be taken, so that reads do not shrink to single entries.
const LEAST_READ: usize = 64;

/// What the loop is made with.
pub struct Reader {
    /// For the loop's own connection.
    pub url: Url,
    /// Shared connection for everything that does not block.
    pub redis: RedisConnection,
    /// Stream names, in the ledger's order.
    pub streams: Arc<[String]>,
    /// Our name in the group.
    pub consumer: String,
    /// Most entries per read.
    pub read_count: usize,
    /// How often to look for entries of dead consumers.
    pub claim_interval: Duration,
    /// How long an entry must have been idle to be taken over.
    pub claim_idle: Duration,
    /// Whether positions are noted, by which consumed entries are trimmed.
    pub trim: bool,
    /// The warehouse had no row when this process began.
    pub was_empty: bool,
    /// What is held.
    pub ledger: Arc<Ledger>,
    /// Nothing is read while it is shut.
    pub gate: Arc<Gate>,
    /// Where entries go.
    pub out: mpsc::Sender<Delivery>,
    /// Sign of life.
    pub pulse: Pulse,
}

impl Reader {
    /// Takes entries until the drain begins. Every error is survived, with capped exponential pauses; a success resets
    /// the count.
    ///
    /// # Errors
    /// After a hundred failures in a row.
    pub async fn run(mut self, shutdown: &Shutdown) -> Result<(), ReaderFailed> {
        let mut errors = 0u32;
        let mut has_read = false;
        let mut claims = Claims::new(self.claim_interval, self.claim_idle);
        let streams = self.streams.clone();
        let known = streams.iter();
        let known = known.map(|stream| Continuity::new(stream, self.trim, self.was_empty));
        let mut known: Vec<Continuity> = known.collect();
        loop {
            let before = errors;
            let trouble = match self
                .session(shutdown, &mut claims, &mut known, (&mut errors, &mut has_read))
                .await
            {
                Ok(()) | Err(Trouble::Closed) => return Ok(()),
                Err(trouble) => trouble,
            };
            errors += 1;
            if errors == 1 || before != errors - 1 {
                tracing::warn!(error = %trouble, "reading failed: connecting again");
            } else {
                tracing::debug!(error = %trouble, errors, "reading failed again");
            }
            if errors >= MOST_ERRORS {
                return Err(ReaderFailed(trouble.to_string()));
            }
            // Being without Redis is no dead loop: the pause is bounded and each attempt has its time-out.
            let pause = Duration::from_millis(100 << errors.min(6)).min(Duration::from_secs(5));
            let pause = pause.mul_f64(1.0 + rand::rng().random_range(0.0..0.25));
            self.pulse.alive_for(pause + Duration::from_secs(30));
            tokio::select! {
                () = shutdown.draining().cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One connection's life.
    async fn session(
        &mut self,
        shutdown: &Shutdown,
        claims: &mut Claims,
        known: &mut [Continuity],
        (errors, has_read): (&mut u32, &mut bool),
    ) -> Result<(), Trouble> {
        self.look(known).await?;
        let mut connection = Connection::open(&self.url, &self.consumer).await?;
        let again = std::mem::replace(has_read, true);
        if !self.own_pending(&mut connection, again, shutdown).await? {
            return Ok(());
        }
        // This connection may lead to another server than the shared one.
        let mut compares_server = true;
        loop {
            if !self.room(shutdown).await {
                return Ok(());
            }
            if claims.due() {
                self.claim(&mut connection, claims).await?;
                continue;
            }
            match self.fresh(&mut connection, known, compares_server).await {
                Err(Trouble::NoGroup(message)) => {
                    tracing::error!(%message, "stream or group disappeared: creating it again");
                    self.look(known).await?;
                    *errors += 1;
                    if *errors >= MOST_ERRORS {
                        return Err(Trouble::NoGroup(message));
                    }
                }
                Err(trouble) => return Err(trouble),
                Ok(()) => {
                    *errors = 0;
                    compares_server = false;
                }
            }
            self.pulse.beat();
        }
    }

    /// Looks at the groups, and makes those that are missing.
    async fn look(&mut self, known: &mut [Continuity]) -> Result<(), Trouble> {
        for (index, (stream, known)) in self.streams.iter().zip(known).enumerate() {
            let look = group::look(&mut self.redis, stream, known).await?;
            known.note(&look, &self.ledger, index as u16);
        }
        Ok(())
    }

    /// Waits until something may be taken. `false` when the drain has begun.
    async fn room(&self, shutdown: &Shutdown) -> bool {
        room::wait(
            &self.ledger,
            LEAST_READ.min(self.read_count),
            &self.gate,
            &self.pulse,
            shutdown,
        )
        .await
    }

    /// Entries delivered to this consumer name before and never acknowledged: a predecessor's, or those of a reply
    /// that a broken connection swallowed. Read `again`, by the same process, they count as delivered no more often than
    /// before. `false` when the drain has begun.
    async fn own_pending(
        &mut self,
        connection: &mut Connection,
        again: bool,
        shutdown: &Shutdown,
    ) -> Result<bool, Trouble> {
        for index in 0..self.streams.len() {
            let stream = self.streams[index].clone();
            let mut after = StreamId { ms: 0, seq: 0 };
            loop {
                if !self.room(shutdown).await {
                    return Ok(false);
                }
                let count = self.ledger.capacity().min(self.read_count).max(1);
                let count = self.ledger.worth_asking_for(count);
                let cursor = after.to_string();
                let counts = if again {
                    suspects::counts_behind(&mut self.redis, &stream, &self.consumer, after, count).await?
                } else {
                    Vec::new()
                };
                let count = count.to_string();
                let command: [&[u8]; 9] = [
                    b"XREADGROUP",
                    b"GROUP",
                    GROUP.as_bytes(),
                    self.consumer.as_bytes(),
                    b"COUNT",
                    count.as_bytes(),
                    b"STREAMS",
                    stream.as_bytes(),
                    cursor.as_bytes(),
                ];
                let given = Moment::now();
                connection.send(&command, Duration::ZERO).await?;
                let from = Origin::Redelivered(index as u16);
                let received = self.receive(connection, ReplyKind::Read, from, given).await;
                suspects::set_back(&mut self.redis, &stream, &self.consumer, &counts).await?;
                let received = received?;
                let Some(last) = received.last else { break };
                tracing::info!(
                    stream,
                    entries = received.entries,
                    "took up own pending entries again"
                );
                after = last;
                self.pulse.beat();
            }
        }
        Ok(true)
    }

    /// Reads what the groups give out as new, and looks at them right before: both travel together.
    async fn fresh(
        &mut self,
        connection: &mut Connection,
        known: &mut [Continuity],
        compares_server: bool,
    ) -> Result<(), Trouble> {
        let capacity = self.ledger.capacity() / self.streams.len();
        let asked = self.ledger.worth_asking_for(capacity.min(self.read_count));
        let (count, block) = (asked.to_string(), BLOCK.as_millis().to_string());
        let mut command: Vec<&[u8]> = vec![
            b"XREADGROUP",
            b"GROUP",
            GROUP.as_bytes(),
            self.consumer.as_bytes(),
            b"COUNT",
            count.as_bytes(),
            b"BLOCK",
            block.as_bytes(),
            b"STREAMS",
        ];
        let streams = self.streams.clone();
        command.extend(streams.iter().map(String::as_bytes));
        command.extend(streams.iter().map(|_| b">".as_slice()));
        let given = Moment::now();
        let looks: Vec<Vec<String>> = known.iter().map(|known| known.command(compares_server)).collect();
        let looks: Vec<Vec<&[u8]>> = looks
            .iter()
            .map(|look| look.iter().map(String::as_bytes).collect())
            .collect();
        let looks: Vec<&[&[u8]]> = looks.iter().map(Vec::as_slice).collect();
        let replies = connection.send_behind(&looks, &command, BLOCK).await?;
        for (index, (known, reply)) in known.iter_mut().zip(replies).enumerate() {
            let look = Look::of_reply(&reply).ok_or_else(|| Trouble::Refused {
                during: "a look at the group",
                message: format!("{reply:?}"),
            })?;
            known.note(&look, &self.ledger, index as u16);
        }
        self.receive(connection, ReplyKind::Read, Origin::New { known, asked }, given)
            .await?;
        Ok(())
    }

    /// Reads one reply to its end, handing entries on as they come. They were `given` to us then, or later.
    pub(super) async fn receive(
        &mut self,
        connection: &mut Connection,
        kind: ReplyKind,
        from: Origin<'_>,
        given: Moment,
    ) -> Result<Received, Trouble> {
        let limits = Limits {
            block_bytes: BLOCK_BYTES,
            entry_bytes: ENTRY_BYTES,
        };
        let mut decoder = ReplyDecoder::new(kind, KEPT.clone(), limits);
        let mut received = Received::default();
        loop {
            match connection.step(&mut decoder).await? {
                Step::NeedMore => {}
                Step::Block(block) => {
                    self.pulse.beat();
                    received.entries += block.len();
                    received.last = block.iter().last().map(stream_reply::Entry::id).or(received.last);
                    let stream = match from {
                        Origin::Redelivered(stream) => stream,
                        Origin::New { .. } => self
                            .streams
                            .iter()
                            .position(|s| s == block.stream())
                            .unwrap_or_default() as u16,
                    };
                    let backlog = matches!(from, Origin::New { asked, .. } if received.entries * 2 >= asked);
                    self.hand_on(stream, from, block, backlog, given).await?;
                }
                Step::End(ReplyEnd::Nothing | ReplyEnd::Complete) => return Ok(received),
                Step::End(ReplyEnd::Claimed { cursor, deleted }) => {
                    received.cursor = cursor;
                    received.deleted = deleted.len();
                    return Ok(received);
                }
                Step::End(ReplyEnd::Error { code, message }) if code == "NOGROUP" => {
                    return Err(Trouble::NoGroup(message));
                }
                Step::End(ReplyEnd::Error { code, message }) => {
                    return Err(Trouble::Refused {
                        during: "a read",
                        message: format!("{code} {message}"),
                    });
                }
            }
        }
    }

    /// Waits until the block fits into what may be held. The stages behind show life for themselves.
    async fn wait_for_room(&self, block: &EntryBlock) {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                biased;
                () = self.ledger.wait_for_room(block.byte_len()) => return,
                _ = ticks.tick() => self.pulse.beat(),
            }
        }
    }

    async fn hand_on(
        &mut self,
        stream: u16,
        from: Origin<'_>,
        block: EntryBlock,
        backlog: bool,
        given: Moment,
    ) -> Result<(), Trouble> {
        // Asked before anything is taken: what is in the ledger is on its way, whatever fails here.
        let mut suspects = if matches!(from, Origin::Redelivered(_)) {
            let name = self.streams[stream as usize].clone();
            suspects::among(&mut self.redis, &name, &self.consumer, &block).await?
        } else {
            Vec::new()
        };
        self.wait_for_room(&block).await;
        // What has waited in the reply for long may have been taken over by somebody else meanwhile.
        let redelivered = given.elapsed() > self.claim_idle / 2
            || match from {
                Origin::Redelivered(_) => true,
                Origin::New { known, .. } => {
                    let known = &known[stream as usize];
                    block.iter().any(|entry| known.doubts(entry.id()))
                }
            };
        let skip = self.ledger.take(stream, &block, given);
        if skip.len() == block.len() {
            return Ok(());
        }
        suspects.retain(|index| !skip.contains(index));
        let delivery = Delivery {
            stream,
            redelivered,
            block,
            skip,
            suspects,
            backlog,
        };
        // The stages behind show their own life; when they have ended, so does this wait.
        let handed_on = self.pulse.while_waiting(self.out.send(delivery));
        handed_on.await.map_err(|_closed| Trouble::Closed)
    }
}

/// Where entries of a reply come from.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// They were delivered before, and are of this stream.
    Redelivered(u16),
    /// The groups give them out as new.
    New {
        /// What is known of the groups.
        known: &'a [Continuity],
        /// How many were asked for.
        asked: usize,
    },
}

/// What one reply brought.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) entries: usize,
    last: Option<StreamId>,
    pub(super) cursor: StreamId,
    pub(super) deleted: usize,
}

/// The fields that are kept of an entry.
static KEPT: LazyLock<Arc<FieldTable>> = LazyLock::new(|| Arc::new(FIELDS));
