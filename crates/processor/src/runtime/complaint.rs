//! What an operator has to mend is said when it is found, and again now and then, not at each attempt.

use std::time::{Duration, Instant};

/// How soon the same is said again.
const AGAIN: Duration = Duration::from_mins(5);

/// What was said last, and when.
#[derive(Debug, Default)]
pub struct Complaint {
    said: Option<(String, Instant)>,
}

impl Complaint {
    /// Nothing was said yet.
    pub const fn new() -> Self {
        Self { said: None }
    }

    /// Whether this is to be said now; then it counts as said.
    pub fn is_news(&mut self, what: &str) -> bool {
        self.is_news_at(what, Instant::now())
    }

    fn is_news_at(&mut self, what: &str, now: Instant) -> bool {
        let is_news = self
            .said
            .as_ref()
            .is_none_or(|(said, at)| said != what || now.saturating_duration_since(*at) >= AGAIN);
        if is_news {
            self.said = Some((what.to_owned(), now));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_again_after_a_while_and_something_else_at_once() {
        let (mut complaint, start) = (Complaint::default(), Instant::now());
        assert!(complaint.is_news_at("a", start));
        assert!(!complaint.is_news_at("a", start + AGAIN / 2));
        assert!(complaint.is_news_at("b", start + AGAIN / 2));
        assert!(!complaint.is_news_at("b", start + AGAIN));
        assert!(complaint.is_news_at("b", start + AGAIN * 2));
    }
}
