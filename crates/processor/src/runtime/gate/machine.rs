//! What the gate decides, and nothing else: what was seen leads from one state to the next, and to what has to be done.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::stores::Store;

/// How long a batch that is let through as a trial is held although the stores answer and nothing shows that it is at
/// fault. Then it is set aside, for the batch behind it to be tried.
const TRIAL_IS_HELD: Duration = Duration::from_secs(30);

/// How far the way back is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    #[default]
    Open,
    /// A store is away.
    Shut,
    /// The stores answer: dead letters go first, and prove it when they land.
    Letters { proved: bool },
    /// One batch may try; `taken` while it does.
    Trial { taken: bool },
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// A batch was not taken.
    StoreFailed(Store),
    /// All stores take writes of no rows.
    StoresAnswer,
    /// Dead letters have landed.
    LettersLanded,
    /// Dead letters are left that other events have to go before.
    LettersLeft,
    /// Dead letters did not land: a store has not proved itself.
    LettersFailed,
    /// No dead letter is left, or their time is up.
    LettersOver,
    /// A batch asks to be the trial.
    TrialAsked,
    /// The trial landed.
    TrialLanded(Store),
    /// The trial did not land.
    TrialFailed,
    /// The trial showed nothing of the store.
    TrialShowedNothing,
    /// For a while no batch has asked to be the trial.
    NothingToTry,
}

/// What has to be done after something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The gate has shut, for this store: say so.
    HasShut(Store),
    /// The gate has opened: say so.
    HasOpened,
    /// Dead letters may go first, or without waiting for each other: wake the replay.
    WakeReplay,
    /// A store has proved that it takes work.
    IsBack(Store),
    /// The batch that asked is the trial.
    IsTrial,
}

/// The gate's state and the stores that have yet to prove themselves.
#[derive(Debug, Default)]
pub(super) struct Machine {
    state: State,
    away: BTreeSet<Store>,
}

impl Machine {
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether a store has yet to prove that it takes work.
    pub(super) fn must_prove(&self, store: Store) -> bool {
        self.away.contains(&store)
    }

    pub(super) fn see(&mut self, seen: Seen) -> Vec<Effect> {
        let mut effects = Vec::new();
        match (seen, self.state) {
            (Seen::StoreFailed(store), state) => {
                self.away.insert(store);
                self.state = State::Shut;
                effects.extend((state == State::Open).then_some(Effect::HasShut(store)));
            }
            (Seen::StoresAnswer, State::Shut) => {
                self.state = State::Letters { proved: false };
                effects.push(Effect::WakeReplay);
            }
            (Seen::LettersLanded, State::Letters { .. }) => self.state = State::Letters { proved: true },
            (Seen::LettersFailed, State::Letters { .. })
            | (Seen::TrialFailed, State::Trial { taken: true }) => {
                self.state = State::Shut;
            }
            (Seen::LettersOver, State::Letters { proved: true })
            | (Seen::NothingToTry, State::Trial { taken: false }) => self.open(&mut effects),
            (Seen::LettersLeft, State::Letters { .. })
            | (Seen::LettersOver, State::Letters { proved: false })
            | (Seen::TrialShowedNothing, State::Trial { taken: true }) => {
                self.state = State::Trial { taken: false };
            }
            (Seen::TrialAsked, State::Trial { taken: false }) => {
                self.state = State::Trial { taken: true };
                effects.push(Effect::IsTrial);
            }
            (Seen::TrialLanded(store), State::Trial { taken: true }) => {
                self.away.remove(&store);
                effects.push(Effect::IsBack(store));
                self.state = State::Trial { taken: false };
                if self.away.is_empty() {
                    self.open(&mut effects);
                }
            }
            // Seen too late: another instance of the loop, or a newer failure, has led on meanwhile.
            _ => {}
        }
        effects
    }

    fn open(&mut self, effects: &mut Vec<Effect>) {
        effects.extend(std::mem::take(&mut self.away).into_iter().map(Effect::IsBack));
        effects.extend([Effect::HasOpened, Effect::WakeReplay]);
        self.state = State::Open;
    }
}

/// What becomes of a batch that a store did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is tried again when the gate lets it through.
    Held,
    /// It becomes dead letters.
    SetAside,
}

/// Decides what becomes of a batch that was not taken: a first failure costs the queue what was in flight, a failed trial
/// is held, as the queue has been told of the outage already. `answers`: the store takes writes of no rows, and took none
/// of the batch's events, each tried alone or nearly so; `held`: since the batch's first failure as a trial.
pub fn fate(was_trial: bool, answers: bool, held: Duration) -> Fate {
    if was_trial && (!answers || held < TRIAL_IS_HELD) {
        Fate::Held
    } else {
        Fate::SetAside
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(seen: &[Seen]) -> (State, Vec<Effect>) {
        let mut machine = Machine::default();
        let mut effects = Vec::new();
        for seen in seen {
            effects = machine.see(*seen);
        }
        (machine.state(), effects)
    }

    const FAILED: Seen = Seen::StoreFailed(Store::ClickHouse);

    #[test]
    fn an_outage_is_over_when_letters_have_landed() {
        assert_eq!(after(&[FAILED]).1, [Effect::HasShut(Store::ClickHouse)]);
        assert_eq!(after(&[FAILED, FAILED]).1, []);
        let (state, effects) = after(&[FAILED, Seen::StoresAnswer]);
        assert_eq!(state, State::Letters { proved: false });
        assert_eq!(effects, [Effect::WakeReplay]);
        let (state, effects) = after(&[FAILED, Seen::StoresAnswer, Seen::LettersLanded, Seen::LettersOver]);
        assert_eq!(state, State::Open);
        let back = Effect::IsBack(Store::ClickHouse);
        assert_eq!(effects, [back, Effect::HasOpened, Effect::WakeReplay]);
    }

    #[test]
    fn without_letters_a_trial_decides() {
        let way = [FAILED, Seen::StoresAnswer, Seen::LettersOver, Seen::TrialAsked];
        let with = |last: Seen| after(&[&way[..], &[last]].concat());
        assert_eq!(after(&way).1, [Effect::IsTrial]);
        assert_eq!(with(Seen::TrialAsked).1, [], "one at a time");
        assert_eq!(with(Seen::TrialLanded(Store::ClickHouse)).0, State::Open);
        assert_eq!(with(Seen::TrialFailed).0, State::Shut);
        assert_eq!(with(Seen::TrialShowedNothing).0, State::Trial { taken: false });
    }

    #[test]
    fn letters_that_fail_alone_let_a_batch_try() {
        let (state, _) = after(&[FAILED, Seen::StoresAnswer, Seen::LettersLeft]);
        assert_eq!(state, State::Trial { taken: false });
        let (state, _) = after(&[FAILED, Seen::StoresAnswer, Seen::LettersFailed]);
        assert_eq!(state, State::Shut);
    }

    #[test]
    fn each_store_that_was_away_has_to_prove_itself() {
        let mut machine = Machine::default();
        for seen in [
            FAILED,
            Seen::StoreFailed(Store::Postgres),
            Seen::StoresAnswer,
            Seen::LettersOver,
            Seen::TrialAsked,
        ] {
            machine.see(seen);
        }
        let effects = machine.see(Seen::TrialLanded(Store::Postgres));
        assert_eq!(effects, [Effect::IsBack(Store::Postgres)]);
        assert!(machine.must_prove(Store::ClickHouse) && !machine.must_prove(Store::Postgres));
        machine.see(Seen::TrialAsked);
        machine.see(Seen::TrialLanded(Store::ClickHouse));
        assert_eq!(machine.state(), State::Open);
    }

    #[test]
    fn a_trial_is_held_until_it_has_failed_for_long_although_the_store_answers() {
        let (short, long) = (Duration::from_secs(1), TRIAL_IS_HELD);
        assert_eq!(fate(false, false, short), Fate::SetAside);
        assert_eq!(fate(false, true, short), Fate::SetAside);
        assert_eq!(fate(true, false, long), Fate::Held);
        assert_eq!(fate(true, true, short), Fate::Held);
        assert_eq!(fate(true, true, long), Fate::SetAside);
    }

    fn any_seen() -> impl Strategy<Value = Seen> {
        prop::sample::select(vec![
            FAILED,
            Seen::StoreFailed(Store::Postgres),
            Seen::StoresAnswer,
            Seen::LettersLanded,
            Seen::LettersLeft,
            Seen::LettersFailed,
            Seen::LettersOver,
            Seen::TrialAsked,
            Seen::TrialLanded(Store::ClickHouse),
            Seen::TrialLanded(Store::Postgres),
            Seen::TrialFailed,
            Seen::TrialShowedNothing,
            Seen::NothingToTry,
        ])
    }

    proptest! {
        #[test]
        fn whatever_was_seen_stores_that_answer_open_the_gate_within_three_steps(
            seen in prop::collection::vec(any_seen(), 0..40)
        ) {
            let mut machine = Machine::default();
            for seen in seen {
                let before = machine.state();
                let effects = machine.see(seen);
                let opened = before != State::Open && machine.state() == State::Open;
                prop_assert_eq!(effects.contains(&Effect::HasOpened), opened);
                let shut = before == State::Open && machine.state() == State::Shut;
                prop_assert_eq!(effects.iter().any(|effect| matches!(effect, Effect::HasShut(_))), shut);
                prop_assert!(machine.state() != State::Open || machine.away.is_empty());
            }
            // A trial under way ends somehow; here it shows nothing.
            for seen in [Seen::TrialShowedNothing, Seen::StoresAnswer, Seen::LettersOver, Seen::NothingToTry] {
                machine.see(seen);
            }
            prop_assert_eq!(machine.state(), State::Open);
        }
    }
}
