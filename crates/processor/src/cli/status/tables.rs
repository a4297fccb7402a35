//! The status for people.

use super::facts::{Circuit, CircuitState, Instance, Status, StoreState, Stream};
use crate::cli::output::Rows;
use crate::intake::REFUSED_AT;
use crate::logs::harmless;
use crate::runtime::report::Reading;

/// A stream holds many entries beyond this share of what ingest refuses at: people should know.
const WARN_SHARE: f64 = 0.8;
/// An instance that has not reported for so long is probably gone, in seconds.
const SILENT_S: u64 = 60;
/// What is said of an instance whose report cannot be read.
const UNKNOWN_FORM: &str = "reports in a form this version does not know";

pub(super) fn all(status: &Status) -> String {
    let mut text = format!("{}\n", streams(&status.streams));
    if !status.instances.is_empty() {
        text.push_str(&format!("{}\n", instances(&status.instances)));
    }
    text.push_str(&rest(status).to_string());
    let full = status
        .streams
        .iter()
        .filter(|stream| stream.length as f64 > REFUSED_AT as f64 * WARN_SHARE);
    let warnings = full.map(|stream| {
        format!(
            "{} holds {} entries: the ingest service refuses events at {REFUSED_AT}",
            stream.name, stream.length
        )
    });
    for line in warnings.chain(status.errors.iter().cloned()) {
        text.push_str(&format!("\n! {}", harmless::line(&line)));
    }
    text
}

fn streams(streams: &[Stream]) -> Rows {
    let mut table = Rows::new(&["stream", "length", "lag", "pending", "consumer", "idle"]);
    for stream in streams {
        let lag = stream.lag.map_or("unknown".into(), |lag| lag.to_string());
        table.add([
            stream.name.clone(),
            stream.length.to_string(),
            lag,
            stream.pending.to_string(),
            String::new(),
            String::new(),
        ]);
        for consumer in &stream.consumers {
            table.add([
                String::new(),
                String::new(),
                String::new(),
                consumer.pending.to_string(),
                consumer.name.clone(),
                format!("{:.1} s", consumer.idle_ms as f64 / 1000.0),
            ]);
        }
    }
    table
}

fn instances(instances: &[Instance]) -> Rows {
    let mut table = Rows::new(&["instance", "version", "roles", "reading", "stores away", "held"]);
    for instance in instances {
        let silent = instance.silent_for_s.filter(|seconds| *seconds > SILENT_S);
        let silent = silent.map(|seconds| format!("silent for {seconds} s"));
        let Some(report) = &instance.report else {
            let state = silent.unwrap_or_else(|| UNKNOWN_FORM.into());
            table.add([instance.name.clone(), "unknown".into(), String::new(), state]);
            continue;
        };
        let reading = silent.unwrap_or_else(|| match report.reading {
            Reading::On => "on".into(),
            Reading::Paused => format!("paused for {} s", report.paused_for_s.unwrap_or_default()),
            Reading::Off => "off".into(),
        });
        let held = format!(
            "{} events, {:.1} MB",
            report.held_events,
            report.held_bytes as f64 / 1e6
        );
        table.add([
            instance.name.clone(),
            report.version.clone(),
            report.roles.join(", "),
            reading,
            report.stores_away.join(", "),
            held,
        ]);
    }
    table
}

fn rest(status: &Status) -> Rows {
    let mut table = Rows::new(&[]);
    let mut line = |name: &str, value: String| {
        table.add([name.to_owned(), value]);
    };
    let shown = |value: Option<String>| value.unwrap_or_else(|| "unknown".into());
    for StoreState { name, at, error, .. } in &status.stores {
        let answers = error.as_ref().map_or("answers", |_| "does not answer");
        line(name, format!("{answers}, at {at}"));
    }
    line("rejected events", shown(status.rejected.map(|n| n.to_string())));
    line("dead letters", shown(status.dead_letters.map(|n| n.to_string())));
    if let Some(age) = status.oldest_dead_letter_s {
        line("oldest dead letter", format!("{age} s"));
    }
    line("replay circuit", shown(status.circuit.as_ref().map(circuit)));
    for (lock, left) in &status.locks {
        line(lock, time_left(*left));
    }
    line(
        "newest row written",
        status.last_row.clone().unwrap_or_else(|| "none".into()),
    );
    line(
        "unpublished overrides",
        shown(status.unpublished_overrides.map(|n| n.to_string())),
    );
    line(
        "stale cohorts",
        shown(status.stale_cohorts.map(|n| n.to_string())),
    );
    let running = status
        .instances
        .iter()
        .filter_map(|instance| instance.report.as_ref()?.cohorts.as_ref());
    for run in running {
        let text = format!(
            "{} of {}, {} failed, for {} s",
            run.done, run.total, run.failed, run.running_for_s
        );
        line("cohorts being computed", text);
    }
    table
}

fn circuit(circuit: &Circuit) -> String {
    let state = match circuit.state {
        CircuitState::Closed => "closed".to_owned(),
        CircuitState::Open => format!("open, {}", time_left(circuit.seconds_left)),
    };
    match circuit.failures {
        0 => state,
        failures => format!("{state}; failures in a row: {failures}"),
    }
}

fn time_left(seconds: Option<u64>) -> String {
    seconds.map_or("no expiry".into(), |seconds| format!("{seconds} s left"))
}
