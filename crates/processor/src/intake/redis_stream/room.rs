//! When something may be read: there is room for it, and no store is away.

use crate::runtime::gate::Gate;
use crate::runtime::task::Task;
use crate::runtime::work;

use crate::intake::ledger::Ledger;

/// Waits until `least` entries may be taken while the gate lets read: both at once, for either may have changed while the
/// other was waited for. `false` when the drain has begun.
pub(super) async fn wait(ledger: &Ledger, least: usize, gate: &Gate, task: &Task) -> bool {
    loop {
        gate.reading(task).await;
        // Holding back is legitimate for as long as the stages behind show life for themselves.
        let room = work::FULL.during(ledger.wait_for_capacity(least));
        let room = task.pulse.while_waiting(room);
        tokio::select! {
            biased;
            () = task.shutdown.draining().cancelled() => return false,
            _ = room => {}
        }
        if !gate.holds_reading() {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use stream_reply::{EntryBlock, StreamId};

    use super::*;
    use crate::event::Source;
    use crate::event::field::FIELDS;
    use crate::runtime::shutdown::Shutdown;
    use crate::stores::Store;

    const FIRST: StreamId = StreamId { ms: 1, seq: 0 };

    /// On a single thread, until every task waits for something.
    async fn everybody_runs() {
        for _turn in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_gate_is_asked_again_after_waiting_for_room() {
        let ledger = Arc::new(Ledger::new(1, 1 << 20));
        let block = EntryBlock::of("s", &FIELDS, [(FIRST, [("event_name", "x")])]);
        ledger.take(0, &block, ledger.given_from_now());
        let (gate, shutdown) = (Arc::new(Gate::default()), Shutdown::default());
        let reading = tokio::spawn({
            let (ledger, gate, shutdown) = (ledger.clone(), gate.clone(), shutdown.clone());
            async move {
                let task = Task::new("reader", Duration::from_secs(1), &shutdown);
                wait(&ledger, 1, &gate, &task).await
            }
        });
        // It waits for room; only then the store goes away, and the batch that made it known is set aside.
        everybody_runs().await;
        gate.shut(Store::ClickHouse);
        ledger.release(std::iter::once(Source {
            stream: 0,
            id: FIRST,
            redelivered: false,
        }));
        everybody_runs().await;
        assert!(!reading.is_finished(), "read while a store is away");
        shutdown.drain();
        assert!(!reading.await.unwrap(), "the drain ends the wait");
    }
}
