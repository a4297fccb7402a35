//! The loop that takes one stream's entries: own pending ones first, then claimed and fresh ones in turn. Each stream has
//! its own, with a connection of its own: on a cluster each is on another server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use stream_reply::{ReplyKind, StreamId};

use crate::intake::share::Turn;
use crate::runtime::gate::Gate;

use super::before::Before;
use super::claim::Claims;
use super::connection::{Connection, ConnectionError};
use super::continuity::Continuity;
use super::fresh::{Fresh, Leave};
use super::place::Place;
use super::receive::{Origin, Receiver};
use super::trouble::{Errors, ReaderFailed, Trouble};
use super::{GROUP, group, room, suspects};

/// While streams that come before this one are being read.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// While the keys of a slot that is on its way are at two nodes.
const UNTIL_TOGETHER: Duration = Duration::from_millis(100);
/// The same where they have been for so long that somebody has to act.
const UNTIL_MENDED: Duration = Duration::from_secs(1);
/// Reads at the node that takes a slot over last so long, before the slot's owner is asked again.
const ELSEWHERE: Duration = Duration::from_secs(2);
/// Between two looks whether Redis lets a reader in again that waits for its turn.
const BETWEEN_KNOCKS: Duration = Duration::from_secs(5);
/// A read waits until at least this many entries may be taken, so that reads do not shrink to single entries.
const LEAST_READ: usize = 64;

/// What the loop is made with.
pub(crate) struct Reader {
    /// Most entries per read.
    pub read_count: usize,
    /// How often to look for entries of dead consumers.
    pub claim_interval: Duration,
    /// Whether positions are noted, by which consumed entries are trimmed.
    pub trim: bool,
    /// The warehouse had no row when this process began.
    pub was_empty: bool,
    /// Nothing is read while it is shut.
    pub gate: Arc<Gate>,
    /// Whether this instance reads the stream.
    pub turn: Turn,
    /// Whether Redis may have given to this consumer name what the reader has not seen: at first, a predecessor's.
    pub owes: bool,
    /// What has to be read before.
    pub before: Before,
    /// Takes in what is read.
    pub receiver: Receiver,
}

impl Reader {
    /// Takes entries until the drain begins. Every error is survived, with capped exponential pauses; a success resets
    /// the count.
    ///
    /// # Errors
    /// After a hundred failures in a row that are no outage, where there is no other stream.
    pub(crate) async fn run(&mut self) -> Result<(), ReaderFailed> {
        let mut errors = Errors::new(self.receiver.task.pulse.name());
        let mut has_read = false;
        let mut claims = Claims::new(self.claim_interval, self.receiver.claim_idle);
        let mut known = self.first_known().await;
        let mut place = Place::default();
        let mut told = String::new();
        loop {
            if !self.turn(&mut errors).await {
                return Ok(());
            }
            let before = errors.in_a_row;
            let session = self.session(&mut claims, &mut known, &mut place, (&mut errors, &mut has_read));
            let ended = session.await;
            self.owes |= ended.is_err();
            self.turn.stands(self.owes);
            let trouble = match ended {
                Err(Trouble::Closed) => return Ok(()),
                // The drain has begun, or the stream is another instance's now.
                Ok(()) => continue,
                Err(trouble) if place.follows(&trouble) => continue,
                Err(trouble) => trouble,
            };
            let Receiver { redis, .. } = &self.receiver;
            if place.is_on_its_way(redis, self.receiver.stream(), &trouble) {
                self.receiver.task.pulse.beat();
                let broken_off = place.is_broken_off(self.receiver.stream(), &trouble);
                let pause = match broken_off {
                    Some(error) => {
                        errors.miss(&error);
                        UNTIL_MENDED
                    }
                    None => UNTIL_TOGETHER,
                };
                tokio::time::sleep(pause).await;
                continue;
            }
            errors.count(&trouble);
            let stream = self.receiver.stream();
            let reason = trouble.to_string();
            if errors.in_a_row == 1 || before != errors.in_a_row - 1 || reason != told {
                tracing::warn!(stream, error = %trouble, "reading failed: connecting again");
                told = reason;
            } else {
                tracing::debug!(stream, error = %trouble, errors = errors.in_a_row, "reading failed again");
            }
            if errors.are_too_many() && self.receiver.streams.len() == 1 {
                return Err(ReaderFailed(trouble.to_string()));
            }
            if errors.are_many() {
                // The other streams are read.
                tracing::error!(stream, error = %trouble, errors = errors.in_a_row, "the stream cannot be read");
            }
            // Being without Redis is no dead loop: the pause is bounded and each attempt has its time-out.
            let pause = Duration::from_millis(100 << errors.in_a_row.min(6)).min(Duration::from_secs(5));
            let pause = pause.mul_f64(1.0 + rand::rng().random_range(0.0..0.25));
            self.receiver
                .task
                .pulse
                .alive_for(pause + Duration::from_secs(30));
            tokio::select! {
                () = self.receiver.task.shutdown.draining().cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// What is known of the group before the stream is ours, which may be days later: only what stood in it while the
    /// warehouse was empty has no row.
    async fn first_known(&mut self) -> Continuity {
        let was_empty = std::mem::take(&mut self.was_empty);
        let mut known = Continuity::new(self.receiver.stream(), self.trim, was_empty);
        if was_empty {
            let draining = self.receiver.task.shutdown.draining().clone();
            self.receiver.task.pulse.alive_for(Duration::from_secs(30));
            let looked = tokio::select! {
                () = draining.cancelled() => None,
                looked = self.look(&mut known) => looked.ok(),
            };
            if looked.is_none() {
                known.may_have_rows();
            }
        }
        known
    }

    /// Waits until the stream may be read by this instance. `false` when the drain has begun.
    async fn turn(&mut self, errors: &mut Errors) -> bool {
        let task = &self.receiver.task;
        let draining = task.shutdown.draining().clone();
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled() => return false,
                () = task.pulse.while_waiting(self.turn.wait()) => break,
                () = tokio::time::sleep(BETWEEN_KNOCKS), if errors.miss_redis() => {}
            }
            task.pulse.alive_for(Duration::from_secs(30));
            tokio::select! {
                () = draining.cancelled() => return false,
                is_let_in = self.knock() => errors.looked(is_let_in),
            }
        }
        self.turn.reads(self.owes);
        true
    }

    /// Whether Redis lets this reader in.
    async fn knock(&self) -> Result<(), ConnectionError> {
        let Receiver { redis, consumer, .. } = &self.receiver;
        let (socket, _node) = redis.socket_to(self.receiver.stream()).await?;
        let opened = Connection::open(redis, (socket, false), consumer).await;
        opened.map(drop)
    }

    /// One connection's life.
    async fn session(
        &mut self,
        claims: &mut Claims,
        known: &mut Continuity,
        place: &mut Place,
        (errors, has_read): (&mut Errors, &mut bool),
    ) -> Result<(), Trouble> {
        self.look(known).await?;
        let Receiver { redis, consumer, .. } = &self.receiver;
        let socket = place.socket(redis, self.receiver.stream()).await;
        let socket = socket.map_err(ConnectionError::from)?;
        let mut connection = Connection::open(redis, socket, consumer).await?;
        if self.gate.holds_reading() && errors.miss_redis() {
            // Nothing is read for now, so nothing else shows that Redis is back.
            errors.looked(Ok(()));
        }
        let began = Instant::now();
        let again = std::mem::replace(has_read, true);
        if !self.own_pending(&mut connection, again).await? {
            return Ok(());
        }
        self.owes = false;
        self.turn.reads(self.owes);
        let mut fresh = Fresh::default();
        loop {
            if !fresh.is_asked_for() {
                if !self.room().await || !self.turn.is_ours() {
                    return Ok(());
                }
                // The move may have been taken back: only the slot's owner says where the stream is.
                if connection.is_asked() && began.elapsed() > ELSEWHERE {
                    return Ok(());
                }
                if claims.due() {
                    claims
                        .pass(&mut self.receiver, &mut connection, (self.read_count, &self.turn))
                        .await?;
                    continue;
                }
                if !self.may_begin().await? || !self.turn.is_ours() {
                    continue;
                }
            }
            let leave = Leave {
                read_count: self.read_count,
                turn: &self.turn,
                gate: &self.gate,
                before: &self.before,
                claims,
            };
            let read = fresh.read(&mut self.receiver, &mut connection, known, &leave);
            match read.await {
                // The stream may have gone back to the owner of its slot.
                Err(trouble @ Trouble::NoGroup(_)) if connection.is_asked() => return Err(trouble),
                Err(Trouble::NoGroup(message)) => {
                    tracing::error!(%message, "stream or group disappeared: creating it again");
                    self.look(known).await?;
                    let trouble = Trouble::NoGroup(message);
                    errors.count(&trouble);
                    if errors.are_too_many() {
                        return Err(trouble);
                    }
                }
                Err(trouble) => return Err(trouble),
                Ok(()) => {
                    errors.end();
                    place.is_right(self.receiver.stream());
                }
            }
            self.receiver.task.pulse.beat();
        }
    }

    /// Whether what comes before this stream has been read; waits a little where it has not.
    async fn may_begin(&mut self) -> Result<bool, Trouble> {
        let (redis, stream) = (&self.receiver.redis, self.receiver.stream());
        let may_begin = self.before.are_at_their_end(redis, stream).await?;
        if !may_begin {
            self.receiver.task.pulse.beat();
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Ok(may_begin)
    }

    /// Looks at the group, and makes it when it is missing.
    async fn look(&mut self, known: &mut Continuity) -> Result<(), Trouble> {
        let look = group::look(&self.receiver.redis, known).await?;
        known.note(&look, &self.receiver.ledger, self.receiver.index);
        Ok(())
    }

    /// Waits until something may be taken. `false` when the drain has begun.
    async fn room(&self) -> bool {
        // While it waits nothing comes, and the stream may become another instance's.
        self.turn.stands(self.owes);
        let has_room = room::wait(
            &self.receiver.ledger,
            LEAST_READ.min(self.read_count),
            &self.gate,
            &self.receiver.task,
        )
        .await;
        self.turn.reads(self.owes);
        has_room
    }

    /// Entries delivered to this consumer name before and never acknowledged: a predecessor's, or those of a reply
    /// that a broken connection swallowed. Read `again`, by the same process, they count as delivered no more often than
    /// before. `false` when the drain has begun.
    async fn own_pending(&mut self, connection: &mut Connection, again: bool) -> Result<bool, Trouble> {
        let stream = self.receiver.stream().to_owned();
        let mut after = StreamId { ms: 0, seq: 0 };
        loop {
            if !self.room().await || !self.turn.is_ours() {
                return Ok(false);
            }
            let count = self.receiver.ledger.capacity().min(self.read_count).max(1);
            let count = self.receiver.ledger.worth_asking_for(count);
            let cursor = after.to_string();
            let counts = if again {
                suspects::counts_behind(
                    &self.receiver.redis,
                    &stream,
                    &self.receiver.consumer,
                    after,
                    count,
                )
                .await?
            } else {
                Vec::new()
            };
            let count = count.to_string();
            let command: [&[u8]; 9] = [
                b"XREADGROUP",
                b"GROUP",
                GROUP.as_bytes(),
                self.receiver.consumer.as_bytes(),
                b"COUNT",
                count.as_bytes(),
                b"STREAMS",
                stream.as_bytes(),
                cursor.as_bytes(),
            ];
            let given = self.receiver.ledger.given_from_now();
            connection.send(&command, Duration::ZERO).await?;
            let from = Origin::Redelivered;
            let received = self
                .receiver
                .receive(connection, ReplyKind::Read, from, given)
                .await;
            suspects::set_back(&self.receiver.redis, &stream, &self.receiver.consumer, &counts).await?;
            let received = received?;
            let Some(last) = received.last else { break };
            tracing::info!(
                stream,
                entries = received.entries,
                "took up own pending entries again"
            );
            after = last;
            self.receiver.task.pulse.beat();
        }
        Ok(true)
    }
}
