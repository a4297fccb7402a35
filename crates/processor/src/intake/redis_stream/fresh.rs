//! Reads of what a group gives out as new, each with a look at the group right before it.
//!
//! While more is waiting, the next read is asked for as soon as half of a reply has come: Redis makes the next reply while
//! this one is decoded. Where there is no room for both, the stages behind do not keep up, or anything else is to be done
//! first, it is not: what waits in a reply is ours already, but is not kept from being claimed.

use std::time::Duration;

use stream_reply::ReplyKind;

use crate::intake::ledger::Given;
use crate::intake::share::Turn;
use crate::runtime::gate::Gate;

use super::GROUP;
use super::before::Before;
use super::claim::Claims;
use super::connection::{Connection, ConnectionError};
use super::continuity::{Continuity, Look};
use super::receive::{Origin, Receiver, Reply, is_backlog};
use super::trouble::Trouble;

/// How long an idle read waits. Also the longest a drain waits for the reader.
const BLOCK: Duration = Duration::from_secs(1);

/// A read that Redis has been asked for.
struct Asked {
    /// Most entries.
    count: usize,
    given: Given,
}

/// What says whether a reader goes on to read.
pub(super) struct Leave<'a> {
    pub(super) read_count: usize,
    pub(super) turn: &'a Turn,
    pub(super) gate: &'a Gate,
    pub(super) before: &'a Before,
    pub(super) claims: &'a Claims,
}

impl Leave<'_> {
    /// Whether the next read may be asked for while `rest` entries of a reply are still to come: nothing else is to be done
    /// first, there is room for both, and what is handed on is taken.
    fn allows_one_ahead(&self, receiver: &Receiver, rest: usize) -> bool {
        let Receiver { ledger, out, .. } = receiver;
        let both = rest + self.read_count;
        self.turn.is_ours()
            && self.before.is_nothing()
            && !self.claims.due()
            && !self.gate.holds_reading()
            && !receiver.task.shutdown.draining().is_cancelled()
            && ledger.capacity() / receiver.streams.len() >= both
            && ledger.worth_asking_for(both) == both
            && out.capacity() * 2 >= out.max_capacity()
    }
}

/// The reads of one connection.
#[derive(Default)]
pub(super) struct Fresh {
    ahead: Option<Asked>,
    /// The read before brought about as many entries as were asked for.
    backlog: bool,
    /// A connection may lead to another server than the shared one; what the first look finds.
    has_looked: bool,
}

impl Fresh {
    /// Whether a reply is on its way, which has to be read before anything else is asked of the connection.
    pub(super) fn is_asked_for(&self) -> bool {
        self.ahead.is_some()
    }

    /// Reads once, and asks for the next read meanwhile where it may.
    pub(super) async fn read(
        &mut self,
        receiver: &mut Receiver,
        connection: &mut Connection,
        known: &mut Continuity,
        leave: &Leave<'_>,
    ) -> Result<(), Trouble> {
        let asked = if let Some(asked) = self.ahead.take() {
            asked
        } else {
            let count = receiver.ledger.capacity() / receiver.streams.len();
            let count = receiver.ledger.worth_asking_for(count.min(leave.read_count));
            ask(connection, receiver, known, (count, !self.has_looked)).await?
        };
        let look = connection.short_reply().await?;
        let look = Look::of_reply(&look).ok_or_else(|| Trouble::Refused {
            during: "a look at the group",
            message: format!("{look:?}"),
        })?;
        self.has_looked = true;
        known.note(&look, &receiver.ledger, receiver.index);
        connection.reaches_reply().await?;
        let from = Origin::New {
            known,
            asked: asked.count,
            backlog: self.backlog,
        };
        let origin = (from, asked.given);
        let mut reply = Reply::of(ReplyKind::Read);
        let more_comes = receiver
            .receive_some(connection, &mut reply, asked.count.div_ceil(2), origin)
            .await?;
        if more_comes {
            let rest = asked.count.saturating_sub(reply.received.entries);
            if !connection.is_asked() && leave.allows_one_ahead(receiver, rest) {
                self.ahead = Some(ask(connection, receiver, known, (leave.read_count, false)).await?);
            }
            receiver
                .receive_some(connection, &mut reply, usize::MAX, origin)
                .await?;
        }
        self.backlog = is_backlog(reply.received.entries, asked.count);
        Ok(())
    }
}

/// Asks for a look and for what is new. Both travel together.
async fn ask(
    connection: &mut Connection,
    receiver: &Receiver,
    known: &Continuity,
    (count, compares_server): (usize, bool),
) -> Result<Asked, ConnectionError> {
    let (most, block) = (count.to_string(), BLOCK.as_millis().to_string());
    let command: [&[u8]; 11] = [
        b"XREADGROUP",
        b"GROUP",
        GROUP.as_bytes(),
        receiver.consumer.as_bytes(),
        b"COUNT",
        most.as_bytes(),
        b"BLOCK",
        block.as_bytes(),
        b"STREAMS",
        receiver.stream().as_bytes(),
        b">",
    ];
    let look = known.command(compares_server);
    let look: Vec<&[u8]> = look.iter().map(String::as_bytes).collect();
    let given = receiver.ledger.given_from_now();
    connection.send_together(&[&look, &command], BLOCK).await?;
    Ok(Asked { count, given })
}
