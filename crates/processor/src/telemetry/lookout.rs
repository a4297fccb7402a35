//! Looks whether ClickHouse answers while requests wait for it. A request may take half a minute, and a server that stands
//! still looks like one that works until then; so it is asked something small.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::runtime::outages;
use crate::stores::{ClickHouse, Store};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// Requests that wait for so long without any answer are looked into.
const SUSPECT: Duration = Duration::from_secs(3);
/// Longest that the answer to something small may take.
const SMALL: Duration = Duration::from_secs(3);
/// When it is said, some seconds before it is ten.
const SILENT: Duration = Duration::from_secs(8);
/// How often it is said again.
const AGAIN: Duration = Duration::from_mins(1);

/// Says when ClickHouse leaves requests without an answer, and when it answers again, until `stop`. Ends no request.
pub(crate) async fn look_out(clickhouse: ClickHouse, stop: CancellationToken) {
    let small = clickhouse.within(SMALL);
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut said: Option<Instant> = None;
    loop {
        tokio::select! { () = stop.cancelled() => return, _ = ticks.tick() => {} }
        if clickhouse
            .unanswered_since()
            .is_some_and(|since| since.elapsed() >= SUSPECT)
        {
            let asked = small.execute("asking for a sign of life", small.query("SELECT 1"));
            tokio::select! { () = stop.cancelled() => return, _answered = asked => {} }
        }
        let silent = clickhouse
            .unanswered_since()
            .filter(|since| since.elapsed() >= SILENT);
        outages::note_unanswered(Store::ClickHouse, silent);
        let silent_for = silent.map(|since| since.elapsed());
        metrics::store_unanswered(Store::ClickHouse.label(), silent_for);
        match silent {
            // That it is away is said elsewhere.
            Some(_) if said.is_none_or(|at| at.elapsed() >= AGAIN) && !is_known_to_be_away() => {
                said = Some(Instant::now());
                let seconds = silent_for.unwrap_or_default().as_secs();
                tracing::warn!(for_s = seconds, "ClickHouse leaves requests without an answer");
            }
            None if said.take().is_some() => tracing::info!("ClickHouse answers again"),
            _ => {}
        }
    }
}

fn is_known_to_be_away() -> bool {
    let name = Store::ClickHouse.name();
    outages::away().iter().any(|outage| outage.store == name)
}
