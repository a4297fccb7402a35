//! What reading and batches wait at while a store is away: reading stops and batches stand still until the store has proved
//! that it takes work again.
//!
//! A store that answers is not yet a store that works: it may be read-only, out of space, or refuse new parts. So the way
//! back has steps. While shut, the stores are probed with growing pauses. Once they answer, the dead letters go first,
//! being the oldest. Then a single batch is let through as a trial: when it succeeds the gate is open, when it fails it
//! is shut again, the batch is held rather than set aside, and the next pause is longer.

mod machine;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use self::machine::{Effect, Machine, Seen, State};
pub use self::machine::{Fate, fate};
use super::outages;
use super::task::Task;
use crate::stores::Store;

/// First pause between two probes; it doubles.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest that reading waits for dead letters to be replayed first.
const LETTERS_FIRST: Duration = Duration::from_mins(1);
const BEAT: Duration = Duration::from_secs(5);

/// Open, unless a store was found to be away.
#[derive(Debug)]
pub struct Gate {
    machine: Mutex<Machine>,
    /// The machine's state, for those who wait.
    state: watch::Sender<State>,
    changed: Notify,
    /// How often PostgreSQL and ClickHouse have taken work.
    taken: [AtomicU64; 2],
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            machine: Mutex::default(),
            state: watch::Sender::new(State::Open),
            changed: Notify::new(),
            taken: Default::default(),
        }
    }
}

/// Leave to try one batch. Dropped without a word, a trial is left to the next batch.
#[derive(Debug)]
pub struct Admission<'a> {
    gate: &'a Gate,
    store: Store,
    is_trial: bool,
}

/// Since when one batch has failed as a trial.
#[derive(Debug, Default)]
pub struct Trials(Option<tokio::time::Instant>);

impl Trials {
    /// Notes a failure of the batch. Returns how long it has been failing as a trial.
    pub fn failed(&mut self, was_trial: bool) -> Duration {
        if !was_trial {
            return Duration::ZERO;
        }
        self.0.get_or_insert_with(tokio::time::Instant::now).elapsed()
    }
}

impl Gate {
    /// A store is away.
    pub fn shut(&self, store: Store) {
        self.see(Seen::StoreFailed(store));
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
        self.see(Seen::LettersLanded);
    }

    /// Dead letters are left that others have to go before, or that stores fail on alone: a batch shows whether the stores
    /// take work.
    pub fn letters_left(&self) {
        self.see(Seen::LettersLeft);
    }

    /// Dead letters that were to go first did not land: a store has not proved itself.
    pub fn letters_failed(&self) {
        self.see(Seen::LettersFailed);
    }

    /// A store has taken work of the stream's: it works, whatever it fails on, and whatever it was found to be before.
    pub fn took(&self, store: Store) {
        outages::is_back(store);
        if let Some(taken) = self.counter(store) {
            taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often PostgreSQL and ClickHouse have taken work of the stream's.
    pub fn times_taken(&self) -> [u64; 2] {
        [0, 1].map(|store: usize| self.taken[store].load(Ordering::Relaxed))
    }

    fn counter(&self, store: Store) -> Option<&AtomicU64> {
        match store {
            Store::Postgres => Some(&self.taken[0]),
            Store::ClickHouse => Some(&self.taken[1]),
            Store::Redis => None,
        }
    }

    /// Whether reading has to wait.
    pub fn holds_reading(&self) -> bool {
        matches!(*self.state.borrow(), State::Shut | State::Letters { .. })
    }

    /// Waits until reading may go on, or the drain begins.
    pub async fn reading(&self, task: &Task) {
        self.wait_while(task, |state| matches!(state, State::Shut | State::Letters { .. }))
            .await;
    }

    /// Waits until a batch may go to `store`, or the drain begins: then there is nothing to wait for.
    pub async fn pass(&self, store: Store, task: &Task) -> Admission<'_> {
        loop {
            let must_prove = self.machine().must_prove(store);
            self.wait_while(task, |state| match state {
                State::Open => false,
                State::Shut | State::Letters { .. } => true,
                State::Trial { taken } => must_prove && taken,
            })
            .await;
            let is_trial = !task.is_draining() && must_prove && self.see(Seen::TrialAsked);
            if is_trial || !must_prove || !self.is_shut() || task.is_draining() {
                return Admission {
                    gate: self,
                    store,
                    is_trial,
                };
            }
        }
    }

    async fn wait_while(&self, task: &Task, waits: impl Fn(State) -> bool) {
        let mut state = self.state.subscribe();
        while waits(*state.borrow_and_update()) {
            task.pulse.beat();
            tokio::select! {
                () = task.shutdown.draining().cancelled() => return,
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
        task: &Task,
    ) {
        let mut state = self.state.subscribe();
        let mut pause = SHORTEST_PAUSE;
        loop {
            task.pulse.alive_for(Duration::from_mins(1));
            let now = *state.borrow_and_update();
            tokio::select! {
                () = task.shutdown.draining().cancelled() => return,
                _ = state.changed(), if now != State::Shut => {}
                () = tokio::time::sleep(if now == State::Shut { pause } else { BEAT }) => match now {
                    State::Shut => {
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        if probe().await {
                            self.letters_first(&mut letters_done, task).await;
                        }
                    }
                    State::Trial { taken: false } => {
                        self.see(Seen::NothingToTry);
                    }
                    State::Open => pause = SHORTEST_PAUSE,
                    State::Letters { .. } | State::Trial { taken: true } => {}
                }
            }
        }
    }

    /// Until the letters are done, or one of them has shown that a store does not take work yet.
    async fn letters_first<G: Future<Output = bool>>(&self, done: &mut impl FnMut() -> G, task: &Task) {
        let deadline = tokio::time::Instant::now() + LETTERS_FIRST;
        self.see(Seen::StoresAnswer);
        let is_waiting = || matches!(*self.state.borrow(), State::Letters { .. });
        while is_waiting() && tokio::time::Instant::now() < deadline && !done().await {
            task.pulse.alive_for(Duration::from_mins(1));
            tokio::time::sleep(SHORTEST_PAUSE).await;
        }
        self.see(Seen::LettersOver);
    }

    /// Leads the machine on and does what follows. Returns whether the batch that asked is the trial.
    fn see(&self, seen: Seen) -> bool {
        let effects = {
            let mut machine = self.machine();
            let effects = machine.see(seen);
            self.state.send_if_modified(|state| {
                let has_changed = *state != machine.state();
                *state = machine.state();
                has_changed
            });
            effects
        };
        for effect in &effects {
            match effect {
                Effect::HasShut(store) => {
                    tracing::warn!(%store, "reading pauses until all stores take work again");
                }
                Effect::HasOpened => tracing::info!("all stores take work again: reading goes on"),
                Effect::WakeReplay => self.changed.notify_one(),
                Effect::IsBack(store) => outages::is_back(*store),
                Effect::IsTrial => {}
            }
        }
        effects.contains(&Effect::IsTrial)
    }

    fn machine(&self) -> std::sync::MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission<'_> {
    /// The store took the batch.
    pub fn succeeded(mut self) {
        if std::mem::take(&mut self.is_trial) {
            self.gate.see(Seen::TrialLanded(self.store));
        }
    }

    /// The store did not take the batch. `true` when this was the trial.
    pub fn failed(mut self) -> bool {
        let was_trial = std::mem::take(&mut self.is_trial);
        if was_trial {
            self.gate.see(Seen::TrialFailed);
        }
        was_trial
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.is_trial {
            self.gate.see(Seen::TrialShowedNothing);
        }
    }
}
