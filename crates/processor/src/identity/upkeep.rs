//! What is done beside the stream, so that the three stores come to say the same.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::runtime::pulse::Pulse;

use super::inherited::Inherited;
use super::mover::Mover;
use super::overrides::Publisher;
use super::properties::Limits;

/// How often overrides that a crash left unpublished are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// How often merges are looked for that have distinct ids left over.
const MOVE_INTERVAL: Duration = Duration::from_secs(2);

/// Publishes overrides that a crash between two stores left behind.
pub async fn sweep(publisher: Publisher, pulse: Pulse, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut heartbeats = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = heartbeats.tick() => pulse.beat(),
            _ = ticks.tick() => {
                pulse.alive_for(Duration::from_secs(90));
                match publisher.sweep().await {
                    Ok(0) => {}
                    Ok(published) => tracing::info!(published, "published overrides that were left behind"),
                    Err(error) => tracing::debug!(%error, "left-behind overrides could not be published yet"),
                }
            }
        }
    }
}

/// Moves, piece by piece, what merges have left over of persons with very many distinct ids, and takes over what the
/// predecessor has begun.
pub async fn finish_merges(publisher: Publisher, limits: Limits, pulse: Pulse, stop: CancellationToken) {
    let mut inherited = Inherited {
        postgres: publisher.postgres.clone(),
        redis: publisher.redis.clone(),
        limits,
    };
    let mover = Mover { publisher };
    let mut ticks = tokio::time::interval(MOVE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        pulse.alive_for(Duration::from_secs(90));
        if let Err(error) = inherited.step().await {
            tracing::debug!(%error, "inherited merges could not be taken over yet");
        }
        let mut moved = 0;
        while !stop.is_cancelled() {
            pulse.alive_for(Duration::from_secs(90));
            match mover.step().await {
                Ok(Some(piece)) => moved += piece,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a merge's distinct ids could not be moved yet: trying again");
                    break;
                }
            }
        }
        if moved > 0 {
            tracing::info!(moved, "moved distinct ids that merges had left over");
        }
        pulse.beat();
    }
}
