//! Taking over what dead consumers left behind: when, and from where.

use std::time::{Duration, Instant};

use stream_reply::{ReplyKind, StreamId};

use crate::intake::share::Turn;
use crate::metrics;

use super::GROUP;
use super::connection::Connection;
use super::receive::{Origin, Receiver};
use super::trouble::Trouble;

/// When the next pass is due and where it goes on.
#[derive(Debug)]
pub(super) struct Claims {
    interval: Duration,
    idle: Duration,
    next: Instant,
    cursor: StreamId,
}

impl Claims {
    /// Pages of one pass; the next pass goes on where it stopped.
    const PAGES: usize = 100;

    pub(super) fn new(interval: Duration, idle: Duration) -> Self {
        Self {
            interval,
            idle,
            next: Instant::now() + interval,
            cursor: StreamId::default(),
        }
    }

    pub(super) fn due(&self) -> bool {
        Instant::now() >= self.next
    }

    fn done(&mut self) {
        self.next = Instant::now() + self.interval;
    }

    fn idle_ms(&self) -> String {
        self.idle.as_millis().to_string()
    }

    /// One bounded pass over entries that have been idle for too long.
    pub(super) async fn pass(
        &mut self,
        receiver: &mut Receiver,
        connection: &mut Connection,
        (read_count, turn): (usize, &Turn),
    ) -> Result<(), Trouble> {
        let stream = receiver.stream().to_owned();
        let mut cursor = self.cursor;
        for _page in 0..Self::PAGES {
            let capacity = receiver.ledger.capacity();
            if capacity == 0 || !turn.is_ours() {
                break;
            }
            let (idle, start) = (self.idle_ms(), cursor.to_string());
            let count = receiver.ledger.worth_asking_for(capacity.min(read_count));
            let count = count.to_string();
            let command: [&[u8]; 8] = [
                b"XAUTOCLAIM",
                stream.as_bytes(),
                GROUP.as_bytes(),
                receiver.consumer.as_bytes(),
                idle.as_bytes(),
                start.as_bytes(),
                b"COUNT",
                count.as_bytes(),
            ];
            let given = receiver.ledger.given_from_now();
            connection.send(&command, Duration::ZERO).await?;
            let from = Origin::Redelivered;
            let received = receiver
                .receive(connection, ReplyKind::AutoClaim, from, given)
                .await?;
            receiver.task.pulse.beat();
            cursor = received.cursor;
            if received.entries > 0 {
                tracing::info!(stream, entries = received.entries, "took over idle entries");
            }
            if received.deleted > 0 {
                metrics::lost_upstream(received.deleted);
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
        self.cursor = cursor;
        self.done();
        Ok(())
    }
}
