//! Inserts of large events in several bodies: what an insert takes of our memory is bounded, whatever a batch holds.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use crate::event::Batch;
use crate::runtime::retry::GaveUp;
use crate::runtime::task::Task;
use crate::stores::StoreError;

/// Most bytes of events in one insert: its body is as large again.
const MOST_BYTES: usize = 64 << 20;
/// An event of more bytes is inserted by itself.
const HEAVY: usize = 8 << 20;

/// Whose turn it is to insert a large event.
#[derive(Debug, Default)]
pub(super) struct Heavy(Mutex<()>);

impl Heavy {
    /// Waits for the others, which show life for themselves.
    ///
    /// # Errors
    /// [`GaveUp`] at the drain's limit.
    pub(super) async fn turn(&self, task: &Task) -> Result<MutexGuard<'_, ()>, GaveUp<StoreError>> {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        let turn = self.0.lock();
        tokio::pin!(turn);
        loop {
            tokio::select! {
                turn = &mut turn => return Ok(turn),
                () = task.shutdown.abandoned().cancelled() => return Err(GaveUp::Abandoned(None)),
                _ = ticks.tick() => task.pulse.beat(),
            }
        }
    }
}

/// Whether one of these rows is large.
pub(super) fn is_heavy(batch: &Batch, rows: &[usize]) -> bool {
    rows.iter().any(|row| bytes(batch, *row) > HEAVY)
}

fn bytes(batch: &Batch, row: usize) -> usize {
    batch.entry(&batch.events[row]).bytes()
}

/// Splits rows, in their order, so that no part has more bytes than one insert may, and large ones stand alone. The same
/// rows make the same parts.
pub(super) fn by_bytes(batch: &Batch, rows: Vec<usize>) -> Vec<Vec<usize>> {
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let (mut in_part, mut alone) = (0, false);
    for row in rows {
        let more = bytes(batch, row);
        let heavy = more > HEAVY;
        match parts.last_mut() {
            Some(part) if !heavy && !alone && in_part + more <= MOST_BYTES => {
                part.push(row);
                in_part += more;
            }
            _ => {
                parts.push(vec![row]);
                in_part = more;
            }
        }
        alone = heavy;
    }
    parts
}

#[cfg(test)]
mod tests {
    use stream_reply::{EntryBlock, StreamId};

    use super::*;
    use crate::event::decode;
    use crate::event::field::FIELDS;

    #[test]
    fn large_events_are_inserted_one_by_one_and_small_ones_together() {
        let sizes = [1, 1, 9, 1, 4, 4, 1].map(|megabytes| "x".repeat(megabytes << 20));
        let entries = sizes.iter().enumerate().map(|(n, text)| {
            let fields = [
                ("project_id", "11111111-1111-1111-1111-111111111111"),
                ("distinct_id", "d"),
                ("event_name", "e"),
                ("url", text.as_str()),
            ];
            (StreamId::new(n as u64 + 1, 0), fields)
        });
        let mut batch = Batch::default();
        let block = EntryBlock::of("s", &FIELDS, entries);
        decode::append(&mut batch, block, 0, "s", false, &[]);
        let parts = by_bytes(&batch, vec![0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(parts, [vec![0, 1], vec![2], vec![3, 4, 5, 6]]);
        let many = by_bytes(&batch, [4; 20].to_vec());
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [15, 5]);
        assert!(is_heavy(&batch, &[2]) && !is_heavy(&batch, &[3, 4]));
        assert_eq!(by_bytes(&batch, Vec::new()), Vec::<Vec<usize>>::new());
    }
}
