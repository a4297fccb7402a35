//! The inserts of one writer, and whether their answers are still waited for.
//!
//! An insert whose answer did not come, or came from a proxy, may go on in the server. Its writer no longer waits for it,
//! and it writes its rows whenever it is done: before rows are looked up it has to be over, like another instance's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashSet;

/// The inserts of one writer.
#[derive(Debug)]
pub(super) struct OwnInserts {
    /// Their comments begin with this.
    prefix: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Inserts begun so far.
    begun: u64,
    /// Numbers of those whose answers are waited for.
    waited_for: FxHashSet<u64>,
    /// Inserts that ended without an answer that their rows are stored; a refusal of the engine's is counted too.
    without_answer: u64,
    /// So many of these are known to be over.
    known_to_be_over: u64,
}

impl OwnInserts {
    /// Of a writer whose comments begin with `prefix`, and no other's do.
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            state: Mutex::default(),
        }
    }

    /// One more begins.
    pub(super) fn begin(&self) -> OwnInsert<'_> {
        let mut state = self.state();
        let number = state.begun;
        state.begun += 1;
        state.waited_for.insert(number);
        OwnInsert { all: self, number }
    }

    /// What all their comments begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether the answer to the insert of this comment is waited for, by this writer.
    pub(super) fn is_waited_for(&self, comment: &str) -> bool {
        let number = comment.strip_prefix(&self.prefix);
        let number = number.and_then(|number| number.parse().ok());
        number.is_some_and(|number: u64| self.state().waited_for.contains(&number))
    }

    /// How many have ended without an answer so far, where some of them may not be over.
    pub(super) fn unanswered(&self) -> Option<u64> {
        let state = self.state();
        (state.without_answer > state.known_to_be_over).then_some(state.without_answer)
    }

    /// Those that had ended without an answer when there were so many are over.
    pub(super) fn are_over(&self, so_many: u64) {
        let mut state = self.state();
        state.known_to_be_over = state.known_to_be_over.max(so_many);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An insert whose answer is waited for, until this is dropped.
#[derive(Debug)]
pub(super) struct OwnInsert<'a> {
    all: &'a OwnInserts,
    number: u64,
}

impl OwnInsert<'_> {
    /// The comment by which the server knows it.
    pub(super) fn comment(&self) -> String {
        format!("{}{}", self.all.prefix, self.number)
    }

    /// The engine has said that its rows are stored.
    pub(super) fn answered(self) {
        self.all.state().waited_for.remove(&self.number);
    }
}

impl Drop for OwnInsert<'_> {
    fn drop(&mut self) {
        let mut state = self.all.state();
        if state.waited_for.remove(&self.number) {
            state.without_answer += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_without_an_answer_is_doubtful_until_it_is_known_to_be_over() {
        let inserts = OwnInserts::new("us/".to_owned());
        let (first, second) = (inserts.begin(), inserts.begin());
        let (of_first, of_second) = (first.comment(), second.comment());
        assert!(inserts.is_waited_for(&of_first) && inserts.is_waited_for(&of_second));
        assert!(!inserts.is_waited_for("others/0") && !inserts.is_waited_for("us/2"));
        first.answered();
        assert_eq!(inserts.unanswered(), None);
        drop(second);
        assert!(!inserts.is_waited_for(&of_first) && !inserts.is_waited_for(&of_second));
        let so_many = inserts.unanswered().unwrap();
        drop(inserts.begin());
        inserts.are_over(so_many);
        assert_eq!(
            inserts.unanswered(),
            Some(so_many + 1),
            "the third was not asked about"
        );
        inserts.are_over(so_many + 1);
        assert_eq!(inserts.unanswered(), None);
    }
}
