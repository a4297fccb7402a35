//! What everybody waits at while a store is away: reading stops and batches stand still until the store has proved that
//! it takes work again.
//!
//! A store that answers is not yet a store that works: it may be read-only, out of space, or refuse new parts. So the way
//! back has steps. While shut, the stores are probed with growing pauses. Once they answer, the dead letters go first,
//! being the oldest. Then a single batch is let through as a trial: when it succeeds the gate is open, when it fails it
//! is shut again, the batch is held rather than set aside, and the next pause is longer.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::pulse::Pulse;
use super::retry;
use super::shutdown::Shutdown;
use crate::stores::Store;

/// First pause between two probes; it doubles.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest that reading waits for dead letters to be replayed first.
const LETTERS_FIRST: Duration = Duration::from_mins(1);
const BEAT: Duration = Duration::from_secs(5);

/// How far the way back is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// A store is away.
    Shut,
    /// The stores answer: dead letters go first, and prove it when they land.
    Letters {
        proved: bool,
    },
    /// One batch may try; `taken` while it does.
    Trial {
        taken: bool,
    },
}

/// Open, unless a store was found to be away.
#[derive(Debug)]
pub struct Gate {
    state: watch::Sender<State>,
    /// Stores that have yet to prove themselves.
    away: Mutex<BTreeSet<Store>>,
    changed: Notify,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State::Open),
            away: Mutex::default(),
            changed: Notify::new(),
        }
    }
}

/// Who was let through says how it went. Dropped without a word, a trial is somebody else's to make.
#[derive(Debug)]
pub struct Admission<'a> {
    gate: &'a Gate,
    store: Store,
    is_trial: bool,
}

impl Gate {
    /// A store is away.
    pub fn shut(&self, store: Store) {
        self.away().insert(store);
        if self.state.send_replace(State::Shut) == State::Open {
            tracing::warn!(%store, "reading pauses until all stores take work again");
        }
    }

    /// Whether a store is away, or has yet to prove that it is back.
    pub fn is_shut(&self) -> bool {
        *self.state.borrow() != State::Open
    }

    /// Whether dead letters may be replayed: no store is known to be away.
    pub fn lets_letters(&self) -> bool {
        matches!(*self.state.borrow(), State::Open | State::Letters { .. })
    }

    /// Dead letters have landed: all stores take work.
    pub fn letters_landed(&self) {
        self.go_on(State::Letters { proved: false }, State::Letters { proved: true });
    }

    /// Dead letters are left that others have to go before.
    pub fn letters_wait(&self) {
        for proved in [false, true] {
            self.go_on(State::Letters { proved }, State::Trial { taken: false });
        }
    }

    /// Dead letters that were to go first did not land: a store has not proved itself.
    pub fn letters_failed(&self) {
        for proved in [false, true] {
            self.go_on(State::Letters { proved }, State::Shut);
        }
    }

    /// Whether reading has to wait.
    pub fn holds_reading(&self) -> bool {
        matches!(*self.state.borrow(), State::Shut | State::Letters { .. })
    }

    /// Waits until reading may go on, or the drain begins.
    pub async fn reading(&self, pulse: &Pulse, shutdown: &Shutdown) {
        self.wait_while(pulse, shutdown, |state| {
            matches!(state, State::Shut | State::Letters { .. })
        })
        .await;
    }

    /// Waits until a batch may go to `store`, or the drain begins: then there is nothing to wait for.
    pub async fn pass(&self, store: Store, pulse: &Pulse, shutdown: &Shutdown) -> Admission<'_> {
        let mut admission = Admission {
            gate: self,
            store,
            is_trial: false,
        };
        loop {
            let must_prove = self.away().contains(&store);
            self.wait_while(pulse, shutdown, |state| match state {
                State::Open => false,
                State::Shut | State::Letters { .. } => true,
                State::Trial { taken } => must_prove && taken,
            })
            .await;
            if shutdown.draining().is_cancelled() || !must_prove {
                return admission;
            }
            admission.is_trial = self.state.send_if_modified(|state| {
                let is_free = *state == State::Trial { taken: false };
                if is_free {
                    *state = State::Trial { taken: true };
                }
                is_free
            });
            if admission.is_trial || !self.is_shut() {
                return admission;
            }
        }
    }

    async fn wait_while(&self, pulse: &Pulse, shutdown: &Shutdown, waits: impl Fn(State) -> bool) {
        let mut state = self.state.subscribe();
        while waits(*state.borrow_and_update()) {
            pulse.beat();
            tokio::select! {
                () = shutdown.draining().cancelled() => return,
                _ = state.changed() => {}
                () = tokio::time::sleep(BEAT) => {}
            }
        }
    }

    /// Waits until dead letters may go first, or the gate has opened after an outage.
    pub async fn letters_wanted(&self) {
        self.changed.notified().await;
    }

    /// While the gate is shut, asks whether the stores answer; then lets the dead letters go first until `letters_done`
    /// says so, and a batch after them.
    pub async fn watch<F: Future<Output = bool>, G: Future<Output = bool>>(
        &self,
        mut probe: impl FnMut() -> F,
        mut letters_done: impl FnMut() -> G,
        pulse: &Pulse,
        stop: &CancellationToken,
    ) {
        let mut state = self.state.subscribe();
        let mut pause = SHORTEST_PAUSE;
        loop {
            pulse.alive_for(Duration::from_mins(1));
            let now = *state.borrow_and_update();
            tokio::select! {
                () = stop.cancelled() => return,
                _ = state.changed(), if now != State::Shut => {}
                () = tokio::time::sleep(if now == State::Shut { pause } else { BEAT }) => match now {
                    State::Shut => {
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        if probe().await {
                            self.letters_first(&mut letters_done, pulse).await;
                        }
                    }
                    // Nobody has anything to try with.
                    State::Trial { taken: false } => self.open(),
                    State::Open => pause = SHORTEST_PAUSE,
                    State::Letters { .. } | State::Trial { taken: true } => {}
                }
            }
        }
    }

    /// Until the letters are done, or one of them has shown that a store does not take work yet.
    async fn letters_first<G: Future<Output = bool>>(&self, done: &mut impl FnMut() -> G, pulse: &Pulse) {
        let deadline = tokio::time::Instant::now() + LETTERS_FIRST;
        self.go_on(State::Shut, State::Letters { proved: false });
        self.changed.notify_one();
        let is_waiting = || matches!(*self.state.borrow(), State::Letters { .. });
        while is_waiting() && tokio::time::Instant::now() < deadline && !done().await {
            pulse.alive_for(Duration::from_mins(1));
            tokio::time::sleep(SHORTEST_PAUSE).await;
        }
        self.go_on(State::Letters { proved: false }, State::Trial { taken: false });
        if *self.state.borrow() == (State::Letters { proved: true }) {
            self.open();
        }
    }

    fn go_on(&self, from: State, to: State) {
        self.state.send_if_modified(|state| {
            let is_there = *state == from;
            if is_there {
                *state = to;
            }
            is_there
        });
    }

    fn open(&self) {
        for store in std::mem::take(&mut *self.away()) {
            retry::is_back(store);
        }
        if self.state.send_replace(State::Open) != State::Open {
            self.changed.notify_one();
            tracing::info!("all stores take work again: reading goes on");
        }
    }

    fn away(&self) -> MutexGuard<'_, BTreeSet<Store>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission<'_> {
    /// The store took the batch.
    pub fn succeeded(mut self) {
        if !std::mem::take(&mut self.is_trial) {
            return;
        }
        let others_are_away = self.gate.away().iter().any(|store| *store != self.store);
        if others_are_away {
            self.gate.away().remove(&self.store);
            retry::is_back(self.store);
            self.gate
                .go_on(State::Trial { taken: true }, State::Trial { taken: false });
        } else {
            self.gate.open();
        }
    }

    /// The store did not take the batch. `true` when this was the trial: the batch is to be held, not set aside.
    pub fn failed(mut self) -> bool {
        let was_trial = std::mem::take(&mut self.is_trial);
        if was_trial {
            self.gate.go_on(State::Trial { taken: true }, State::Shut);
        }
        was_trial
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.is_trial {
            self.gate
                .go_on(State::Trial { taken: true }, State::Trial { taken: false });
        }
    }
}
