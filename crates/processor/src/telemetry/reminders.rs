//! A state that lasts is said again every minute: a log may be looked at through a short window.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::runtime::life::{Life, State};
use crate::runtime::outages::{self, Outage};

/// How often.
const AGAIN: Duration = Duration::from_mins(1);
/// How often it is looked what lasts.
const LOOK: Duration = Duration::from_secs(1);

/// When something that lasts began, and when it was said last.
#[derive(Debug, Clone, Copy)]
struct Lasting {
    since: Instant,
    said: Instant,
}

impl Lasting {
    /// For how long it has lasted, if it is to be said again.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.said) < AGAIN {
            return None;
        }
        self.said = now;
        Some(now.saturating_duration_since(self.since).as_secs())
    }
}

/// Says again what lasts, until `stop`.
pub(crate) async fn remind(life: Life, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut away = BTreeMap::new();
    let (mut waiting, mut paused) = (None, None);
    loop {
        tokio::select! { () = stop.cancelled() => return, _ = ticks.tick() => {} }
        let (now, known) = (Instant::now(), outages::away());
        remind_of_outages(&mut away, &known, now);
        if life.state() == State::Waiting {
            let is_new = waiting.is_none();
            let lasting = waiting.get_or_insert(Lasting {
                since: now,
                said: now,
            });
            if let Some(for_s) = lasting.due(now).or(is_new.then_some(0)) {
                let waits_for: Vec<&str> = life.waited_for().iter().map(|store| store.name()).collect();
                let waits_for = waits_for.join(", ");
                tracing::warn!(waits_for, for_s, "nothing is read yet: stores are waited for");
            }
        } else {
            waiting = None;
        }
        if life.reading_is_paused() {
            let lasting = paused.get_or_insert(Lasting {
                since: now,
                said: now,
            });
            if let Some(for_s) = lasting.due(now) {
                let away: Vec<&str> = known.iter().map(|outage| outage.store).collect();
                tracing::warn!(away = away.join(", "), for_s, "reading is still paused");
            }
        } else {
            paused = None;
        }
    }
}

fn remind_of_outages(away: &mut BTreeMap<&'static str, Lasting>, known: &[Outage], now: Instant) {
    away.retain(|store, lasting| {
        known
            .iter()
            .any(|outage| outage.store == *store && outage.since == lasting.since)
    });
    for outage in known {
        let lasting = away.entry(outage.store).or_insert(Lasting {
            since: outage.since,
            said: outage.since,
        });
        let Some(for_s) = lasting.due(now) else { continue };
        let Outage { store, error, .. } = outage;
        if let Some(advice) = outage.advice {
            let what = "store still cannot be used: an operator has to act";
            tracing::error!(store, error, for_s, advice, "{what}");
        } else {
            tracing::warn!(store, error, for_s, "store is still away");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_due_every_minute_with_how_long_it_has_lasted() {
        let start = Instant::now();
        let mut lasting = Lasting {
            since: start,
            said: start,
        };
        let mut due = |seconds| lasting.due(start + Duration::from_secs(seconds));
        assert_eq!(
            [59, 60, 61, 119, 125, 184, 185].map(&mut due),
            [None, Some(60), None, None, Some(125), None, Some(185)]
        );
    }
}
