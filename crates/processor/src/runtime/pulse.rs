//! Liveness that means something: a loop is alive while it makes progress, is legitimately idle, or is inside an
//! operation that has a deadline of its own. A loop that spins without moving anything is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A loop that waits for others beats this often.
const BEAT: Duration = Duration::from_secs(5);

/// One loop's sign of life. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Pulse {
    name: &'static str,
    started: Instant,
    stale_after: Duration,
    /// Milliseconds after `started` until which the loop counts as alive.
    alive_until: Arc<AtomicU64>,
}

impl Pulse {
    /// A pulse that counts as fresh for `stale_after` from now.
    pub fn new(name: &'static str, stale_after: Duration) -> Self {
        let pulse = Self {
            name,
            started: Instant::now(),
            stale_after,
            alive_until: Arc::default(),
        };
        pulse.beat();
        pulse
    }

    /// The loop's name, for logs.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Something moved, or there was legitimately nothing to do.
    pub fn beat(&self) {
        self.alive_for(Duration::ZERO);
    }

    /// An operation begins that ends, one way or the other, within `deadline`.
    pub fn alive_for(&self, deadline: Duration) {
        let until = self.started.elapsed() + deadline + self.stale_after;
        self.alive_until
            .fetch_max(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// An operation with a deadline of its own has ended: from now on the loop has to show progress again.
    pub fn operation_ended(&self) {
        let until = self.started.elapsed() + self.stale_after;
        self.alive_until
            .store(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// Waits for what others have to do, and beats meanwhile: they show their own life.
    pub async fn while_waiting<T>(&self, ready: impl Future<Output = T>) -> T {
        self.beating(BEAT, ready).await
    }

    /// The same, with a beat `every` so often.
    pub async fn beating<T>(&self, every: Duration, ready: impl Future<Output = T>) -> T {
        let mut ready = std::pin::pin!(ready);
        loop {
            self.beat();
            tokio::select! {
                biased;
                ready = &mut ready => return ready,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    /// Whether the loop shows life.
    pub fn is_fresh(&self) -> bool {
        self.started.elapsed().as_millis() as u64 <= self.alive_until.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_without_progress_goes_stale() {
        let pulse = Pulse::new("test", Duration::ZERO);
        let deadline = Instant::now() + Duration::from_secs(5);
        while pulse.is_fresh() {
            assert!(Instant::now() < deadline, "a pulse that never beats stayed fresh");
        }
        pulse.alive_for(Duration::from_mins(1));
        assert!(pulse.is_fresh());
    }

    #[tokio::test]
    async fn whoever_waits_for_others_stays_fresh() {
        let pulse = Pulse::new("test", Duration::from_secs(1));
        let others = tokio::time::sleep(Duration::from_secs(3));
        pulse.beating(Duration::from_millis(10), others).await;
        assert!(pulse.is_fresh());
    }

    #[test]
    fn the_end_of_an_operation_ends_its_grace() {
        let pulse = Pulse::new("test", Duration::ZERO);
        pulse.alive_for(Duration::from_mins(1));
        pulse.operation_ended();
        let deadline = Instant::now() + Duration::from_secs(5);
        while pulse.is_fresh() {
            assert!(Instant::now() < deadline, "the grace outlived the operation");
        }
    }
}
