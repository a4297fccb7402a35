//! The one loop that takes entries: own pending ones first, then claimed and fresh ones in turn.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rand::Rng;
use stream_reply::{EntryBlock, FieldTable, Limits, ReplyDecoder, ReplyEnd, ReplyKind, Step, StreamId};
use tokio::sync::mpsc;
use url::Url;

use crate::event::field::FIELDS;
use crate::runtime::gate::Gate;
use crate::runtime::pulse::Pulse;
use crate::runtime::shutdown::Shutdown;
use crate::stores::RedisConnection;

use super::claim::Claims;
use super::connection::Connection;
use super::trouble::{MOST_ERRORS, ReaderFailed, Trouble};
use super::{GROUP, Ledger, group, room, suspects};

/// Entries on their way into the pipeline, in stream order.
#[derive(Debug)]
pub struct Delivery {
    /// Index of their stream.
    pub stream: u16,
    /// Given to some consumer before.
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
        loop {
            let before = errors;
            let trouble = match self
                .session(shutdown, &mut claims, &mut errors, &mut has_read)
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
        errors: &mut u32,
        has_read: &mut bool,
    ) -> Result<(), Trouble> {
        for stream in self.streams.iter() {
            group::ensure(&mut self.redis, stream).await?;
        }
        let mut connection = Connection::open(&self.url, &self.consumer).await?;
        let again = std::mem::replace(has_read, true);
        if !self.own_pending(&mut connection, again, shutdown).await? {
            return Ok(());
        }
        loop {
            if !self.room(shutdown).await {
                return Ok(());
            }
            if claims.due() {
                self.claim(&mut connection, claims).await?;
                continue;
            }
            match self.fresh(&mut connection).await {
                Err(Trouble::NoGroup(message)) => {
                    tracing::error!(%message, "stream or group disappeared: creating it again");
                    for stream in self.streams.iter() {
                        group::ensure(&mut self.redis, stream).await?;
                    }
                    *errors += 1;
                    if *errors >= MOST_ERRORS {
                        return Err(Trouble::NoGroup(message));
                    }
                }
                Err(trouble) => return Err(trouble),
                Ok(()) => *errors = 0,
            }
            self.pulse.beat();
        }
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
                connection.send(&command, Duration::ZERO).await?;
                let received = self
                    .receive(connection, ReplyKind::Read, Some(index as u16), None)
                    .await;
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

    async fn fresh(&mut self, connection: &mut Connection) -> Result<(), Trouble> {
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
        connection.send(&command, BLOCK).await?;
        self.receive(connection, ReplyKind::Read, None, Some(asked))
            .await?;
        Ok(())
    }

    /// One bounded pass over entries that have been idle for too long.
    async fn claim(&mut self, connection: &mut Connection, claims: &mut Claims) -> Result<(), Trouble> {
        for index in 0..self.streams.len() {
            let stream = self.streams[index].clone();
            let mut cursor = claims.cursor(index);
            for _page in 0..Claims::PAGES {
                let capacity = self.ledger.capacity();
                if capacity == 0 {
                    break;
                }
                let (idle, start) = (claims.idle_ms(), cursor.to_string());
                let count = self.ledger.worth_asking_for(capacity.min(self.read_count));
                let count = count.to_string();
                let command: [&[u8]; 8] = [
                    b"XAUTOCLAIM",
                    stream.as_bytes(),
                    GROUP.as_bytes(),
                    self.consumer.as_bytes(),
                    idle.as_bytes(),
                    start.as_bytes(),
                    b"COUNT",
                    count.as_bytes(),
                ];
                connection.send(&command, Duration::ZERO).await?;
                let received = self
                    .receive(connection, ReplyKind::AutoClaim, Some(index as u16), None)
                    .await?;
                self.pulse.beat();
                cursor = received.cursor;
                if received.entries > 0 {
                    tracing::info!(stream, entries = received.entries, "took over idle entries");
                }
                if received.deleted > 0 {
                    tracing::error!(
                        stream,
                        lost = received.deleted,
                        "entries were trimmed off the stream while pending: their events are lost upstream"
                    );
                }
                if cursor == (StreamId { ms: 0, seq: 0 }) {
                    break;
                }
            }
            claims.continue_at(index, cursor);
        }
        claims.done();
        Ok(())
    }

    /// Reads one reply to its end, handing entries on as they come. `redelivered_of` names the stream of entries that
    /// were delivered before; `asked` is how many fresh ones were asked for.
    async fn receive(
        &mut self,
        connection: &mut Connection,
        kind: ReplyKind,
        redelivered_of: Option<u16>,
        asked: Option<usize>,
    ) -> Result<Received, Trouble> {
        let limits = Limits {
            block_bytes: BLOCK_BYTES,
            entry_bytes: ENTRY_BYTES,
        };
        let mut decoder = ReplyDecoder::new(kind, KEPT.clone(), limits);
        let mut received = Received::default();
        let mut first_block = None;
        loop {
            match connection.step(&mut decoder).await? {
                Step::NeedMore => {}
                Step::Block(block) => {
                    self.pulse.beat();
                    received.entries += block.len();
                    received.last = block.iter().last().map(stream_reply::Entry::id).or(received.last);
                    let stream = match redelivered_of {
                        Some(stream) => stream,
                        None => self
                            .streams
                            .iter()
                            .position(|s| s == block.stream())
                            .unwrap_or_default() as u16,
                    };
                    let began = *first_block.get_or_insert_with(Instant::now);
                    let backlog = asked.is_some_and(|asked| received.entries * 2 >= asked);
                    self.hand_on(stream, redelivered_of.is_some(), block, backlog, began)
                        .await?;
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
        redelivered: bool,
        block: EntryBlock,
        backlog: bool,
        reply_began: Instant,
    ) -> Result<(), Trouble> {
        // Asked before anything is taken: what is in the ledger is on its way, whatever fails here.
        let mut suspects = if redelivered {
            let name = self.streams[stream as usize].clone();
            suspects::among(&mut self.redis, &name, &self.consumer, &block).await?
        } else {
            Vec::new()
        };
        self.wait_for_room(&block).await;
        // What has waited in the reply for long may have been taken over by somebody else meanwhile.
        let redelivered = redelivered || reply_began.elapsed() > self.claim_idle / 2;
        let skip = self.ledger.take(stream, &block);
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

/// What one reply brought.
#[derive(Debug, Default)]
struct Received {
    entries: usize,
    last: Option<StreamId>,
    cursor: StreamId,
    deleted: usize,
}

/// The fields that are kept of an entry.
static KEPT: LazyLock<Arc<FieldTable>> = LazyLock::new(|| Arc::new(FIELDS));
