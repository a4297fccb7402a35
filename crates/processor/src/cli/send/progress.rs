//! How far sending is, and what is said of that when it ends early.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;

use crate::cli::failure::Failure;
use crate::cli::output::note;
use crate::logs::LastLines;
use crate::runtime::signals;

/// Longest that a signal waits for the terminal.
const CLEARING: Duration = Duration::from_millis(100);

/// What is in the streams of a file's events.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) events: u64,
    /// All events up to this line of the file were sent.
    pub(super) line: usize,
    /// Events behind that line that were sent, too: to one stream, before another one failed.
    pub(super) behind: u64,
    /// Events of a round trip that was begun and not answered: each may be in the stream.
    pub(super) doubtful: u64,
    /// Sending is over, and what is left is to say so.
    pub(super) is_over: bool,
}

impl Sent {
    /// What is in the streams when sending ends early.
    pub(super) fn so_far(&self) -> String {
        if self.events == 0 && self.doubtful == 0 {
            return "ended early: nothing was sent".to_owned();
        }
        let mut text = format!("ended early: {} events were sent", self.events);
        if self.line > 0 {
            text += &format!(", those up to line {}", self.line);
        }
        let (other, behind) = match (self.behind, self.line) {
            (0, _) => ("", String::new()),
            (_, 0) => ("other ", ", of the first lines".to_owned()),
            (sent, _) => ("other ", format!(", and {sent} of those behind it")),
        };
        text += &behind;
        if self.doubtful > 0 {
            let place = if self.line > 0 { " behind it" } else { "" };
            text += &format!(
                "; of the {} {other}events{place} each may have been sent or not",
                self.doubtful
            );
        }
        text += &format!("; go on with line {}", self.line + 1);
        if self.behind > 0 || self.doubtful > 0 {
            text += ": what is sent twice counts once if it has an event_id";
        }
        text
    }
}

/// How far sending is, for the thread that sends and the one that signals wake.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    sent: Arc<Mutex<Sent>>,
    pub(super) bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(bar: ProgressBar) -> Self {
        Self {
            sent: Arc::default(),
            bar,
        }
    }

    pub(super) fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bar off the screen, unless the terminal takes nothing any more.
    async fn clear(&self) {
        let bar = self.bar.clone();
        let cleared = tokio::task::spawn_blocking(move || bar.finish_and_clear());
        let _in_time = tokio::time::timeout(CLEARING, cleared).await;
    }

    /// Ends the process at a signal that asks to stop, and says how far it was. Standard input that is waited for does not
    /// hold that up.
    ///
    /// # Errors
    /// When the process cannot install signal handlers.
    pub(super) fn is_told_at_a_signal(&self) -> Result<(), Failure> {
        let progress = self.clone();
        let watched = signals::watch(async move |mut signals| {
            let signal = signals.next().await;
            if progress.sent().is_over {
                signals.next().await;
                std::process::exit(1);
            }
            progress.clear().await;
            // Nothing more is counted from here on.
            let sent = progress.sent();
            note(&format!("{signal}: {}", sent.so_far()));
            drop(LastLines);
            std::process::exit(1);
        });
        watched.map_err(|error| anyhow::Error::from(error).context("handling signals").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_said_with_the_line_to_go_on_with() {
        let of = |events, line, behind, doubtful| {
            let sent = Sent {
                events,
                line,
                behind,
                doubtful,
                is_over: false,
            };
            sent.so_far()
        };
        assert_eq!(of(0, 0, 0, 0), "ended early: nothing was sent");
        assert_eq!(
            of(2000, 2004, 0, 0),
            "ended early: 2000 events were sent, those up to line 2004; go on with line 2005"
        );
        assert_eq!(
            of(1000, 1000, 0, 1000),
            "ended early: 1000 events were sent, those up to line 1000; of the 1000 events behind it each may have been \
             sent or not; go on with line 1001: what is sent twice counts once if it has an event_id"
        );
        assert_eq!(
            of(300, 0, 300, 700),
            "ended early: 300 events were sent, of the first lines; of the 700 other events each may have been sent or \
             not; go on with line 1: what is sent twice counts once if it has an event_id"
        );
    }
}
