//! How correcting a letter ended, in words, and what there is to do.

use stream_reply::StreamId;

use crate::cli::sentences::quoted;
use crate::replay::{Ended, Outcome, Stopped};
use crate::set_aside::letter::CORRECTED;
use crate::set_aside::{Letter, QUEUE, REJECTED};
use crate::stores::Store;

/// A command about one letter of a queue.
pub(super) fn command(verb: &str, queue: &str, id: StreamId) -> String {
    let option = if queue == REJECTED { " --rejected" } else { "" };
    format!("`dlq {verb}{option} --id {id}`")
}

/// Why a letter of a queue was left as it was.
pub(super) fn hindrance(ended: &Ended, queue: &str, id: StreamId) -> String {
    match ended {
        Ended::Landed => format!(
            "as it was, it has landed already; {} takes it off the queue",
            command("replay", queue, id)
        ),
        Ended::IdLanded(row) => format!(
            "an event with its event_id, {}, has landed already, as {} of {}: corrected, it would be there twice; {} takes it \
             off the queue",
            row.event_id,
            quoted(&row.event_name),
            row.time,
            command("purge", queue, id)
        ),
        Ended::IdNotLookedUp(error) => format!(
            "whether an event with its event_id has landed already could not be found out: {error}. All rows of its project \
             are looked through for it; if that takes too long, allow more time, with \
             `CLICKHOUSE_REQUEST_TIMEOUT_MS=600000` before the command"
        ),
        Ended::Pending => "the entry that it came from is still pending: an instance has to bring that to its end first; see \
                           `status`, and correct it then"
            .to_owned(),
        Ended::Twin { queue: other, id: twin } => format!(
            "{twin} in {other} is of the same entry: the event was corrected before, or set aside twice; keep one of the two: \
             {} or {}",
            command("purge", queue, id),
            command("purge", other, *twin)
        ),
        Ended::Full => format!(
            "corrected, it would go to {QUEUE}, which is full; correct it when dead letters have landed, or with a larger \
             DLQ_MAXLEN"
        ),
        Ended::Unchanged(stopped) => stopped.to_string(),
        Ended::Gone | Ended::Replayed { .. } => format!("it is not in {queue} any more"),
    }
}

/// What became of a corrected event.
#[derive(Debug)]
pub(super) struct Fate {
    /// Whether it has landed.
    pub(super) landed: bool,
    /// Why it has not: a code, and the words of what is in its way.
    why: Option<(String, String)>,
    /// Its id, where it stands in a queue now.
    pub(super) stands: Option<StreamId>,
    /// What is said where it has not landed.
    pub(super) sentence: String,
}

impl Fate {
    /// Of an event that stood among the dead letters under `id`; `refused` is where it stands among the rejected ones.
    pub(super) fn of(id: StreamId, outcome: Outcome, refused: Option<&Letter>) -> Self {
        if outcome.left_queue > outcome.rejected {
            return Self {
                landed: true,
                why: None,
                stands: None,
                sentence: String::new(),
            };
        }
        if outcome.rejected > 0 {
            return Self::refused(refused);
        }
        let goes_on = format!(
            "an instance replays it from there, and so does {}",
            command("replay", QUEUE, id)
        );
        let stays = |why: String| {
            let sentence = format!(
                "it is corrected and has not landed yet ({why}); it stands in {QUEUE} as {id}, and {goes_on}"
            );
            (why, Some(id), sentence)
        };
        let (why, stands, sentence) = match outcome.stopped {
            Some(Stopped::Away(error)) if error.store == Store::Redis => {
                let sentence = format!(
                    "it is corrected, and it is not known whether it has landed ({error}); if not, it stands in {QUEUE} as {id}, \
                     and {goes_on}"
                );
                (error.to_string(), Some(id), sentence)
            }
            Some(stopped) => stays(stopped.to_string()),
            None if outcome.pending > 0 => {
                stays("the entry that it came from is pending again, and comes to its end first".to_owned())
            }
            None if outcome.failing > 0 => stays("a store fails on it".to_owned()),
            None => {
                let why = "it was removed meanwhile, as by `dlq purge`".to_owned();
                let sentence =
                    format!("it was corrected and has not landed: it stood in {QUEUE} as {id}, and {why}");
                (why, None, sentence)
            }
        };
        Self {
            landed: false,
            why: Some((CORRECTED.to_owned(), why)),
            stands,
            sentence,
        }
    }

    /// Why it has not landed, as far as that is known: the code, and the words.
    pub(super) fn why(&self) -> (Option<&str>, Option<&str>) {
        self.why
            .as_ref()
            .map(|(code, words)| (code.as_str(), words.as_str()))
            .unzip()
    }

    /// Of an event that was refused as corrected.
    fn refused(letter: Option<&Letter>) -> Self {
        let (why, stands, sentence) = match letter {
            Some(Letter {
                id, reason, error, ..
            }) => (
                Some((reason.clone(), error.clone())),
                Some(*id),
                format!(
                    "it was sent as corrected and refused as {reason}: {error}; it stands in {REJECTED} as {id}"
                ),
            ),
            None => (
                None,
                None,
                format!(
                    "it was sent as corrected and refused; where it stands in {REJECTED}, and why, could not be read: see \
                     `dlq list --rejected`"
                ),
            ),
        };
        Self {
            landed: false,
            why,
            stands,
            sentence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::StoreError;

    const ID: StreamId = StreamId::new(9, 1);

    fn sentence(outcome: Outcome, stands: Option<StreamId>) -> String {
        let fate = Fate::of(ID, outcome, None);
        assert!(!fate.landed);
        assert_eq!(fate.stands, stands, "{fate:?}");
        fate.sentence
    }

    fn away(store: Store) -> Outcome {
        Outcome {
            stopped: Some(Stopped::Away(StoreError::transient(
                store,
                "testing",
                "no answer".to_owned(),
            ))),
            ..Outcome::default()
        }
    }

    #[test]
    fn what_has_not_landed_is_said_to_stand_only_where_it_does() {
        let waits = sentence(away(Store::ClickHouse), Some(ID));
        assert!(
            waits.contains("has not landed yet (ClickHouse: testing: no answer)")
                && waits.contains("`dlq replay --id 9-1`"),
            "{waits}"
        );
        let pending = Outcome {
            pending: 1,
            ..Outcome::default()
        };
        assert!(
            sentence(pending, Some(ID)).contains("not landed yet (the entry that it came from is pending")
        );
        let failing = Outcome {
            failing: 1,
            ..Outcome::default()
        };
        assert!(sentence(failing, Some(ID)).contains("not landed yet (a store fails on it)"));
        let unknown = sentence(away(Store::Redis), Some(ID));
        assert!(
            unknown.contains("not known whether it has landed") && unknown.contains("if not, it stands"),
            "{unknown}"
        );
        let gone = sentence(Outcome::default(), None);
        assert!(
            gone.contains("it was removed meanwhile") && !gone.contains("it stands"),
            "{gone}"
        );
        let refused = Outcome {
            left_queue: 1,
            rejected: 1,
            ..Outcome::default()
        };
        let refused = sentence(refused, None);
        assert!(
            refused.contains("refused") && refused.contains("`dlq list --rejected`"),
            "{refused}"
        );
        let landed = Outcome {
            left_queue: 1,
            ..Outcome::default()
        };
        assert!(Fate::of(ID, landed, None).landed);
    }

    #[test]
    fn what_is_left_as_it_was_says_what_to_do_with_it() {
        let twin = Ended::Twin {
            queue: QUEUE,
            id: StreamId::new(3, 0),
        };
        let text = hindrance(&twin, REJECTED, ID);
        assert!(
            text.contains("`dlq purge --rejected --id 9-1`") && text.contains("`dlq purge --id 3-0`"),
            "{text}"
        );
        let late = StoreError::transient(Store::ClickHouse, "testing", "no answer within 5 ms".to_owned());
        let text = hindrance(&Ended::IdNotLookedUp(late), REJECTED, ID);
        assert!(
            text.contains("no answer within 5 ms") && text.contains("CLICKHOUSE_REQUEST_TIMEOUT_MS="),
            "{text}"
        );
        assert!(hindrance(&Ended::Full, REJECTED, ID).contains("DLQ_MAXLEN"));
    }
}
