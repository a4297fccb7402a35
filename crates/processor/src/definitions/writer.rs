//! The task that writes what waits. One round at a time: while a statement runs, what comes in gathers for the next.

use std::time::Duration;

use tokio::time::Instant;

use crate::runtime::task::Task;
use crate::stores::{Postgres, Redis, StoreError};
use crate::warehouse::warnings::WarningSink;

use super::observe::{Catalogue, hour};
use super::refused::{Refused, record};
use super::seen::Known;
use super::sightings::Sightings;
use super::upsert::{self, Changed, ROWS};

/// Between two rounds: new names come in waves, each batch with some of them.
const PAUSE: Duration = Duration::from_millis(100);
/// After a round in which something could not be written.
const PAUSE_IN_TROUBLE: Duration = Duration::from_secs(1);
/// Longest that a round looks for the names that PostgreSQL refuses.
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
    /// The last round has failed, and that has been said.
    failing: bool,
}

impl Writer {
    /// Writes what waits. The three tables do not depend on each other: one's trouble is not the others'.
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
        for some in rows.chunks(ROWS) {
            let values: Vec<_> = some.iter().map(|(_, row)| *row).collect();
            let statement = |range| upsert::events(&self.postgres, &values[range]);
            let recorded = record(values.len(), round.deadline, statement).await;
            let seen = &self.catalogue.shared.seen.events;
            for range in recorded.taken.iter().cloned() {
                let names = some[range.clone()].iter().map(|(name, _)| (**name, Known::Done));
                seen.mark_all(names, round.hour);
                round
                    .changed
                    .events
                    .extend(values[range].iter().map(|row| row.project));
            }
            self.refused.note(some, recorded)?;
        }
        Ok(())
    }

    async fn properties(&self, round: &mut Round) -> Result<(), StoreError> {
        let mut rows: Vec<_> = round.new.properties.iter().collect();
        rows.sort_unstable_by(|(_, a), (_, b)| (a.project, &a.name, a.of).cmp(&(b.project, &b.name, b.of)));
        for some in rows.chunks(ROWS) {
            let values: Vec<_> = some.iter().map(|(_, row)| *row).collect();
            let statement = |range| upsert::properties(&self.postgres, &values[range]);
            let recorded = record(values.len(), round.deadline, statement).await;
            for range in recorded.taken.iter().cloned() {
                let names = some[range.clone()].iter().copied();
                self.catalogue.mark_properties(names, round.hour);
                round
                    .changed
                    .properties
                    .extend(values[range].iter().map(|row| row.project));
            }
            self.refused.note(some, recorded)?;
        }
        Ok(())
    }

    async fn event_properties(&self, round: &mut Round) -> Result<(), StoreError> {
        let mut rows: Vec<_> = round.new.event_properties.iter().collect();
        rows.sort_unstable_by(|(_, a), (_, b)| {
            (a.project, &a.event, &a.name, a.of).cmp(&(b.project, &b.event, &b.name, b.of))
        });
        for some in rows.chunks(ROWS) {
            let values: Vec<_> = some.iter().map(|(_, row)| *row).collect();
            let statement = |range| upsert::event_properties(&self.postgres, &values[range]);
            let recorded = record(values.len(), round.deadline, statement).await;
            for range in recorded.taken.iter().cloned() {
                let names = some[range.clone()].iter().copied();
                self.catalogue.mark_event_properties(names, round.hour);
                round
                    .changed
                    .properties
                    .extend(values[range].iter().map(|row| row.project));
            }
            self.refused.note(some, recorded)?;
        }
        Ok(())
    }
}

/// What one round writes, and what it has changed.
struct Round {
    new: Sightings,
    hour: u32,
    /// Until when refused names are looked for.
    deadline: Instant,
    changed: Changed,
}
