//! Since when a server has been asked something and has answered nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What is asked of one server and not answered. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Unanswered(Arc<Mutex<Asked>>);

#[derive(Debug, Default)]
struct Asked {
    /// Requests that wait.
    open: usize,
    /// The last answer, or the first request since then.
    quiet_since: Option<Instant>,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Request(Unanswered);

impl Unanswered {
    /// Something is asked.
    pub(super) fn ask(&self) -> Request {
        let mut asked = self.asked();
        asked.open += 1;
        asked.quiet_since.get_or_insert_with(Instant::now);
        drop(asked);
        Request(self.clone())
    }

    /// Since when there was no answer, although something is, or was, asked.
    pub(super) fn since(&self) -> Option<Instant> {
        self.asked().quiet_since
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    /// The server has answered, whatever it said.
    pub(super) fn answered(self) {
        let mut asked = self.0.asked();
        // This one is still counted.
        asked.quiet_since = (asked.open > 1).then(Instant::now);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.asked().open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_one_request_begins_the_wait_for_the_others_anew() {
        let unanswered = Unanswered::default();
        assert_eq!(unanswered.since(), None);
        let (first, second) = (unanswered.ask(), unanswered.ask());
        let began = unanswered.since().unwrap();
        drop(first);
        assert_eq!(unanswered.since(), Some(began), "given up is not answered");
        let third = unanswered.ask();
        third.answered();
        assert!(unanswered.since().unwrap() >= began, "the second one waits");
        second.answered();
        assert_eq!(unanswered.since(), None);
    }
}
