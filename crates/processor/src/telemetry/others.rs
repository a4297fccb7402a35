//! Notices instances at work at the same time that have another list of streams, or share it differently, and says so once.

use std::time::{Duration, Instant};

use crate::runtime::instances::{self, Presence, Sign};
use crate::runtime::streams::Streams;
use crate::stores::{Redis, StoreError};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(30);
/// Before the first: who starts at the same time has reported then.
const FIRST: Duration = Duration::from_secs(8);

/// Lists that were said, of which so many are remembered.
const REMEMBERED: usize = 16;

/// What was seen of others.
#[derive(Debug)]
pub(crate) struct Others {
    next: Instant,
    /// What was said of, each once.
    said: Vec<Streams>,
}

impl Others {
    /// Nothing was looked at yet.
    pub(crate) fn new() -> Self {
        Self {
            next: Instant::now() + FIRST,
            said: Vec::new(),
        }
    }

    /// Looks, when it is time to.
    pub(super) async fn look(
        &mut self,
        redis: &Redis,
        name: &str,
        ours: Option<&Streams>,
    ) -> Result<(), StoreError> {
        let Some(ours) = ours.filter(|_| Instant::now() >= self.next) else {
            return Ok(());
        };
        self.next = Instant::now() + INTERVAL;
        let (now, all) = (redis.now_ms().await?, instances::all(redis).await?);
        for (other, instance) in all {
            let lives = instance.presence(now, Sign::Unknown) == Presence::Alive;
            let theirs = instance
                .report
                .filter(|_| lives)
                .and_then(|report| report.streams);
            let Some(theirs) = theirs.filter(|_| other != name) else {
                continue;
            };
            let differences = ours.differences((name, &other), &theirs);
            if !differences.is_empty() && !self.said.contains(&theirs) {
                tracing::warn!(
                    instance = other,
                    streams = theirs.described(),
                    ours = ours.described(),
                    differences = differences.join("; "),
                    "another instance has a different list of streams, or shares it differently: give all the same \
                     PROCESSOR_STREAM, PROCESSOR_STREAM_SHARE and PROCESSOR_STREAM_FIRST, unless they are just being restarted \
                     one after another"
                );
                if self.said.len() == REMEMBERED {
                    self.said.remove(0);
                }
                self.said.push(theirs);
            }
        }
        Ok(())
    }
}
