//! What a reply brings: entries are checked against what is held already and handed on as they come.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use stream_reply::{EntryBlock, FieldTable, Limits, ReplyDecoder, ReplyEnd, ReplyKind, Step, StreamId};
use tokio::sync::mpsc;

use crate::event::field::FIELDS;
use crate::intake::delivery::Delivery;
use crate::metrics;
use crate::runtime::task::Task;
use crate::runtime::work;
use crate::stores::Redis;

use super::connection::Connection;
use super::continuity::Continuity;
use super::suspects;
use super::trouble::Trouble;
use crate::intake::ledger::{Given, Ledger};

/// Entries are handed on in blocks of about this size while the rest of a reply is still on the wire.
const BLOCK_BYTES: usize = 512 * 1024;
/// A larger entry is not read into memory.
const ENTRY_BYTES: usize = 16 * 1024 * 1024;
/// Takes in what replies bring.
pub(crate) struct Receiver {
    /// Shared connection for everything that does not block.
    pub redis: Redis,
    /// Stream names, in the ledger's order.
    pub streams: Arc<[String]>,
    /// Which of them is read.
    pub index: u16,
    /// This instance's name in the group.
    pub consumer: String,
    /// How long an entry must have been idle to be taken over.
    pub claim_idle: Duration,
    /// What is held.
    pub ledger: Arc<Ledger>,
    /// Where entries go.
    pub out: mpsc::Sender<Delivery>,
    /// What the loop works under.
    pub task: Task,
}

impl Receiver {
    /// The stream that is read.
    pub(super) fn stream(&self) -> &str {
        &self.streams[self.index as usize]
    }

    /// Reads one reply to its end, handing entries on as they come. They were `given` to us then, or later.
    pub(super) async fn receive(
        &mut self,
        connection: &mut Connection,
        kind: ReplyKind,
        from: Origin<'_>,
        given: Given,
    ) -> Result<Received, Trouble> {
        let mut reply = Reply::of(kind);
        self.receive_some(connection, &mut reply, usize::MAX, (from, given))
            .await?;
        Ok(reply.received)
    }

    /// The same, but stops as soon as the reply has brought so many entries. Returns whether there may be more of it.
    pub(super) async fn receive_some(
        &mut self,
        connection: &mut Connection,
        reply: &mut Reply,
        enough: usize,
        (from, given): (Origin<'_>, Given),
    ) -> Result<bool, Trouble> {
        let Reply { decoder, received } = reply;
        while received.entries < enough {
            match connection.step(decoder).await? {
                Step::NeedMore => {}
                Step::Block(block) => {
                    self.task.pulse.beat();
                    match from {
                        Origin::New { .. } => metrics::read(block.len(), 0, block.byte_len()),
                        Origin::Redelivered => metrics::read(0, block.len(), block.byte_len()),
                    }
                    received.entries += block.len();
                    received.last = block.iter().last().map(stream_reply::Entry::id).or(received.last);
                    let backlog = matches!(from, Origin::New { asked, backlog, .. }
                        if backlog || is_backlog(received.entries, asked));
                    self.hand_on(from, block, backlog, given).await?;
                }
                Step::End(ReplyEnd::Nothing | ReplyEnd::Complete) => return Ok(false),
                Step::End(ReplyEnd::Claimed { cursor, deleted }) => {
                    received.cursor = cursor;
                    received.deleted = deleted.len();
                    return Ok(false);
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
        Ok(true)
    }

    /// Waits until the block fits into what may be held. The stages behind show life for themselves. Once the drain's time is
    /// up they let go of nothing any more.
    async fn wait_for_room(&self, block: &EntryBlock) -> Result<(), Trouble> {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                biased;
                () = self.task.shutdown.abandoned().cancelled() => return Err(Trouble::Closed),
                () = work::FULL.during(self.ledger.wait_for_room(block.byte_len())) => return Ok(()),
                _ = ticks.tick() => self.task.pulse.beat(),
            }
        }
    }

    async fn hand_on(
        &mut self,
        from: Origin<'_>,
        block: EntryBlock,
        backlog: bool,
        given: Given,
    ) -> Result<(), Trouble> {
        // Asked before anything is taken: what is in the ledger is on its way, whatever fails here.
        let mut suspects = if matches!(from, Origin::Redelivered) {
            suspects::among(&self.redis, self.stream(), &self.consumer, &block).await?
        } else {
            Vec::new()
        };
        self.wait_for_room(&block).await?;
        // What has waited in the reply for long may have been taken over by another instance meanwhile.
        let redelivered = given.elapsed() > self.claim_idle / 2
            || match from {
                Origin::Redelivered => true,
                Origin::New { known, .. } => block.iter().any(|entry| known.doubts(entry.id())),
            };
        let skip = self.ledger.take(self.index, &block, given);
        if skip.len() == block.len() {
            return Ok(());
        }
        suspects.retain(|index| !skip.contains(index));
        let delivery = Delivery {
            stream: self.index,
            redelivered,
            block,
            skip,
            suspects,
            backlog,
        };
        // The stages behind show their own life; when they have ended, so does this wait.
        let handed_on = self.task.pulse.while_waiting(self.out.send(delivery));
        handed_on.await.map_err(|_closed| Trouble::Closed)
    }
}

/// Where entries of a reply come from.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// They were delivered before.
    Redelivered,
    /// The group gives them out as new.
    New {
        /// What is known of the group.
        known: &'a Continuity,
        /// How many were asked for.
        asked: usize,
        /// The reply before had about as many as were asked for.
        backlog: bool,
    },
}

/// Whether a reply with so many entries says that more are waiting.
pub(super) fn is_backlog(entries: usize, asked: usize) -> bool {
    entries * 2 >= asked
}

/// A reply that is being read.
pub(super) struct Reply {
    decoder: ReplyDecoder,
    pub(super) received: Received,
}

impl Reply {
    pub(super) fn of(kind: ReplyKind) -> Self {
        let limits = Limits {
            block_bytes: BLOCK_BYTES,
            entry_bytes: ENTRY_BYTES,
        };
        Self {
            decoder: ReplyDecoder::new(kind, KEPT.clone(), limits),
            received: Received::default(),
        }
    }
}

/// What one reply brought.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) entries: usize,
    pub(super) last: Option<StreamId>,
    pub(super) cursor: StreamId,
    pub(super) deleted: usize,
}

/// The fields that are kept of an entry.
static KEPT: LazyLock<Arc<FieldTable>> = LazyLock::new(|| Arc::new(FIELDS));
