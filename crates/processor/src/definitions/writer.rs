//! The task that writes what waits. One round at a time: while a statement runs, what comes in gathers for the next.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::runtime::pulse::Pulse;
use crate::runtime::retry::{self, Classify, FailureKind};
use crate::stores::{Postgres, RedisConnection, StoreError};

use super::observe::{Catalogue, hour};
use super::seen::Known;
use super::sightings::Sightings;
use super::upsert::{self, Changed, ROWS};

/// Between two rounds: new names come in waves, each batch with some of them.
const PAUSE: Duration = Duration::from_millis(100);

/// The task that writes what `catalogue` has seen, until `stop`, and then what is left.
pub async fn writer(
    catalogue: Catalogue,
    postgres: Postgres,
    redis: RedisConnection,
    pulse: Pulse,
    stop: CancellationToken,
) {
    let mut writer = Writer {
        catalogue,
        postgres,
        redis,
        failing: false,
    };
    loop {
        pulse.beat();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = writer.catalogue.shared.something.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
        // A round may take as long as its statements; each has its own time-out.
        pulse.alive_for(Duration::from_mins(10));
        writer.round().await;
        pulse.operation_ended();
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    writer.round().await;
}

struct Writer {
    catalogue: Catalogue,
    postgres: Postgres,
    redis: RedisConnection,
    /// The last round has failed, and that has been said.
    failing: bool,
}

impl Writer {
    /// Writes what waits. The three tables do not depend on each other: one's trouble is not the others'.
    async fn round(&mut self) {
        let new = self.catalogue.take();
        if new.is_empty() {
            return;
        }
        if new.forgotten > 0 {
            tracing::warn!(
                names = new.forgotten,
                "more new event and property names than can wait: later events bring them again"
            );
        }
        let hour = hour(jiff::Timestamp::now().as_second());
        let mut changed = Changed::default();
        let events = self.events(&new, hour, &mut changed).await;
        let properties = self.properties(&new, hour, &mut changed).await;
        let event_properties = self.event_properties(&new, hour, &mut changed).await;
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
        if let Err(error) = changed.forget(&mut self.redis).await {
            tracing::warn!(%error, "cached lists of names may be up to an hour old");
        }
    }

    async fn events(&self, new: &Sightings, hour: u32, changed: &mut Changed) -> Result<(), StoreError> {
        let mut rows: Vec<_> = new.events.iter().collect();
        rows.sort_unstable_by(|(_, a), (_, b)| (a.project, &a.name).cmp(&(b.project, &b.name)));
        for some in rows.chunks(ROWS) {
            let values: Vec<_> = some.iter().map(|(_, row)| *row).collect();
            attempts(|| upsert::events(&self.postgres, &values)).await?;
            let seen = &self.catalogue.shared.seen.events;
            seen.mark_all(some.iter().map(|(name, _)| (**name, Known::Done)), hour);
            changed.events.extend(values.iter().map(|row| row.project));
        }
        Ok(())
    }

    async fn properties(&self, new: &Sightings, hour: u32, changed: &mut Changed) -> Result<(), StoreError> {
        let mut rows: Vec<_> = new.properties.iter().collect();
        rows.sort_unstable_by(|(_, a), (_, b)| (a.project, &a.name, a.of).cmp(&(b.project, &b.name, b.of)));
        for some in rows.chunks(ROWS) {
            let values: Vec<_> = some.iter().map(|(_, row)| *row).collect();
            attempts(|| upsert::properties(&self.postgres, &values)).await?;
            self.catalogue.mark_properties(some.iter().copied(), hour);
            changed.properties.extend(values.iter().map(|row| row.project));
        }
        Ok(())
    }

    async fn event_properties(
        &self,
        new: &Sightings,
        hour: u32,
        changed: &mut Changed,
    ) -> Result<(), StoreError> {
        let mut rows: Vec<_> = new.event_properties.iter().collect();
        rows.sort_unstable_by(|(_, a), (_, b)| {
            (a.project, &a.event, &a.name, a.of).cmp(&(b.project, &b.event, &b.name, b.of))
        });
        for some in rows.chunks(ROWS) {
            let values: Vec<_> = some.iter().map(|(_, row)| *row).collect();
            attempts(|| upsert::event_properties(&self.postgres, &values)).await?;
            self.catalogue.mark_event_properties(some.iter().copied(), hour);
            changed.properties.extend(values.iter().map(|row| row.project));
        }
        Ok(())
    }
}

/// The definitions' preset: three attempts, a short linear pause between them, and then it is the next event's turn.
async fn attempts<F: Future<Output = Result<(), StoreError>>>(
    mut statement: impl FnMut() -> F,
) -> Result<(), StoreError> {
    let preset = retry::DEFINITIONS;
    let mut failures = 0;
    loop {
        let Err(error) = statement().await else {
            return Ok(());
        };
        failures += 1;
        // A project that is deleted at this very moment fails the statement once; the next attempt leaves it out.
        let lost = error.kind() == FailureKind::Poison && error.code != "23503";
        if failures >= preset.attempts || lost {
            return Err(error);
        }
        tokio::time::sleep(retry::pause(preset, failures)).await;
    }
}
