//! Finding the events that PostgreSQL will never take, so that their neighbours land without them.

use crate::event::decode::refuse;
use crate::event::{Batch, Event, Reason};
use crate::runtime::pulse::Pulse;
use crate::runtime::retry::GaveUp;
use crate::runtime::shutdown::Shutdown;
use crate::stores::StoreError;

use super::overrides::Moved;
use super::stage::Identity;

/// Our own code for a person whose stored properties cannot be read.
pub(super) const UNREADABLE_PERSON: &str = "unreadable_person";

/// Whether a refusal is about data: class 22 (data exception), class 23 (integrity constraint), or a stored person that
/// nobody can read. Others are about the statement or the schema, and no event is to blame.
pub(super) fn is_about_data(error: &StoreError) -> bool {
    ["22", "23", UNREADABLE_PERSON]
        .iter()
        .any(|prefix| error.code.starts_with(prefix))
}

impl Identity {
    /// Makes rejects of the events of a batch that are refused as data. Halves that are taken on the way are committed:
    /// doing so again changes nothing. Returns the distinct ids that moved by it.
    ///
    /// # Errors
    /// [`GaveUp`], with the batch as it was.
    pub(super) async fn isolate(
        &mut self,
        batch: &mut Batch,
        pulse: &Pulse,
        shutdown: &Shutdown,
    ) -> Result<Vec<Moved>, GaveUp<StoreError>> {
        let all = std::mem::take(&mut batch.events);
        let mut moved = Vec::new();
        let mut refused: Vec<(Event, String)> = Vec::new();
        let mut waiting = vec![(0, all.len())];
        while let Some((start, end)) = waiting.pop() {
            batch.events = all[start..end].to_vec();
            match self.commit(batch, pulse, shutdown).await {
                Ok((committed, _request)) => moved.extend(committed.moved),
                Err(GaveUp::Poison(error)) if is_about_data(&error) => {
                    if end - start == 1 {
                        refused.push((all[start].clone(), error.message));
                    } else {
                        let middle = start.midpoint(end);
                        waiting.push((middle, end));
                        waiting.push((start, middle));
                    }
                }
                Err(gave_up) => {
                    batch.events = without_rejects(batch, all);
                    return Err(gave_up);
                }
            }
        }
        for (event, error) in refused {
            let reject = refuse(
                event.source,
                batch.entry(&event),
                Reason::RefusedByPostgres(error),
            );
            batch.rejects.push(reject);
        }
        batch.events = without_rejects(batch, all);
        Ok(moved)
    }
}

fn without_rejects(batch: &Batch, mut events: Vec<Event>) -> Vec<Event> {
    events.retain(|event| !batch.rejects.iter().any(|reject| reject.source == event.source));
    events
}
