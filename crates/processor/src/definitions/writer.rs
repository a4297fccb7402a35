//! The task that writes waiting names. It works in rounds: names that arrive during a round wait for the next one.

use std::time::Duration;

use tokio::time::Instant;

use crate::runtime::task::Task;
use crate::stores::{Postgres, Redis, StoreError};
use crate::warehouse::warnings::WarningSink;

use super::observe::{Catalogue, hour};
use super::refused::{Refused, record};
use super::seen::Written;
use super::sightings::Sightings;
use super::upsert::{self, Changed, ROWS};

/// Pause between two rounds: new names come in waves, some with each batch.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause after a round in which names could not be written.
const PAUSE_IN_TROUBLE: Duration = Duration::from_secs(1);
/// Longest time that a round searches for names that PostgreSQL refuses.
const LONGEST_SEARCH: Duration = Duration::from_mins(1);

/// The task that writes what `catalogue` has seen, until the drain begins, and then what is left.
pub async fn writer(
    catalogue: Catalogue,
    postgres: Postgres,
    redis: Redis,
    warnings: WarningSink,
    task: Task,
) {
    let mut writer = Writer {
        catalogue,
        postgres,
        redis,
        refused: Refused::new(warnings),
        failing: false,
    };
    loop {
        task.pulse.beat();
        tokio::select! {
            biased;
            () = task.shutdown.draining().cancelled() => break,
            () = writer.catalogue.shared.something.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
        // A round may take as long as its statements; each has its own time-out.
        task.pulse.alive_for(Duration::from_mins(10));
        writer.round().await;
        task.pulse.operation_ended();
        let pause = if writer.failing { PAUSE_IN_TROUBLE } else { PAUSE };
        tokio::select! {
            () = task.shutdown.draining().cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    writer.round().await;
}

struct Writer {
    catalogue: Catalogue,
    postgres: Postgres,
    redis: Redis,
    refused: Refused,
    /// The last round failed, and the log says so.
    failing: bool,
}

impl Writer {
    /// Writes all waiting names. The three tables are independent: a failure of one does not stop the others.
    async fn round(&mut self) {
        let mut new = self.catalogue.take();
        if new.is_empty() {
            return;
        }
        if new.forgotten > 0 {
            tracing::warn!(
                names = new.forgotten,
                "more new event and property names than can wait: later events bring them again"
            );
        }
        self.refused.leave_out(&mut new);
        let mut round = Round {
            new,
            hour: hour(jiff::Timestamp::now().as_second()),
            deadline: Instant::now() + LONGEST_SEARCH,
            changed: Changed::default(),
        };
        let events = self.events(&mut round).await;
        let properties = self.properties(&mut round).await;
        let event_properties = self.event_properties(&mut round).await;
        let failed: Vec<&StoreError> = [&events, &properties, &event_properties]
            .into_iter()
            .filter_map(|result| result.as_ref().err())
            .collect();
        if let Some(error) = failed.first()
            && !self.failing
        {
            tracing::warn!(%error, "event and property names were not recorded: later events bring them again");
        }
        self.failing = !failed.is_empty();
        if let Err(error) = round.changed.forget(&self.redis).await {
            tracing::warn!(%error, "cached lists of names may be up to an hour old");
        }
    }

    async fn events(&self, round: &mut Round) -> Result<(), StoreError> {
        let mut rows: Vec<_> = round.new.events.iter().collect();
        rows.sort_unstable_by(|(_, a), (_, b)| (a.project, &a.name).cmp(&(b.project, &b.name)));
        for chunk in rows.chunks(ROWS) {
            let values: Vec<_> = chunk.iter().map(|(_, row)| *row).collect();
            let statement = |range| upsert::events(&self.postgres, &values[range]);
            let recorded = record(values.len(), round.deadline, statement).await;
            let seen = &self.catalogue.shared.seen.events;
            for range in recorded.taken.iter().cloned() {
                let names = chunk[range.clone()]
                    .iter()
                    .map(|(name, _)| (**name, Written::Done));
                seen.mark_all(names, round.hour);
                round
                    .changed
                    .events
                    .extend(values[range].iter().map(|row| row.project));
            }
            self.refused.note(chunk, recorded)?;
        }
        Ok(())
    }

    async fn properties(&self, round: &mut Round) -> Result<(), StoreError> {
        let mut rows: Vec<_> = round.new.properties.iter().collect();
        rows.sort_unstable_by(|(_, a), (_, b)| (a.project, &a.name, a.of).cmp(&(b.project, &b.name, b.of)));
        for chunk in rows.chunks(ROWS) {
            let values: Vec<_> = chunk.iter().map(|(_, row)| *row).collect();
            let statement = |range| upsert::properties(&self.postgres, &values[range]);
            let recorded = record(values.len(), round.deadline, statement).await;
            for range in recorded.taken.iter().cloned() {
                let names = chunk[range.clone()].iter().copied();
                self.catalogue.mark_properties(names, round.hour);
                round
                    .changed
                    .properties
                    .extend(values[range].iter().map(|row| row.project));
            }
            self.refused.note(chunk, recorded)?;
        }
        Ok(())
    }

    async fn event_properties(&self, round: &mut Round) -> Result<(), StoreError> {
        let mut rows: Vec<_> = round.new.event_properties.iter().collect();
        rows.sort_unstable_by(|(_, a), (_, b)| {
            (a.project, &a.event, &a.name, a.of).cmp(&(b.project, &b.event, &b.name, b.of))
        });
        for chunk in rows.chunks(ROWS) {
            let values: Vec<_> = chunk.iter().map(|(_, row)| *row).collect();
            let statement = |range| upsert::event_properties(&self.postgres, &values[range]);
            let recorded = record(values.len(), round.deadline, statement).await;
            for range in recorded.taken.iter().cloned() {
                let names = chunk[range.clone()].iter().copied();
                self.catalogue.mark_event_properties(names, round.hour);
                round
                    .changed
                    .properties
                    .extend(values[range].iter().map(|row| row.project));
            }
            self.refused.note(chunk, recorded)?;
        }
        Ok(())
    }
}

/// The names of one round, and the projects whose lists it has changed.
struct Round {
    new: Sightings,
    hour: u32,
    /// When the search for refused names ends.
    deadline: Instant,
    changed: Changed,
}
