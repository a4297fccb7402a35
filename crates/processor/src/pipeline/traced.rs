//! What a batch's trace says of it.

use crate::event::Batch;
use crate::intake::GROUP;
use crate::traces::{self, Trace};

/// Begins the trace of a batch whose first entry has come.
pub(super) fn begin() -> Trace {
    Trace::begin(traces::BATCH)
}

/// Says which entries a batch has, as it is handed on.
pub(super) fn describe(batch: &Batch, streams: &[String]) {
    let trace = &batch.trace;
    if !trace.is_taken() {
        return;
    }
    if let Some(since) = batch.since {
        trace.span_since(traces::GATHER, since);
    }
    let mut names: Vec<&str> = Vec::new();
    let mut is_redelivered = false;
    for source in batch.sources() {
        let name = streams.get(source.stream as usize).map_or("", String::as_str);
        if !names.contains(&name) {
            names.push(name);
        }
        is_redelivered |= source.redelivered;
    }
    let [first, last] = batch.id_range();
    trace.note(traces::SYSTEM, "redis");
    trace.note(traces::STREAM, names.join(","));
    trace.note(traces::GROUP, GROUP);
    trace.note(traces::COUNT, batch.len() as i64);
    trace.note(traces::FIRST, first);
    trace.note(traces::LAST, last);
    let now = jiff::Timestamp::now().as_millisecond();
    let sent = || batch.sources().map(|source| source.id.ms as i64);
    if let (Some(first), Some(last)) = (sent().min(), sent().max()) {
        trace.note(traces::FIRST_MS, first);
        trace.note(traces::LAST_MS, last);
        trace.note(traces::WAITED_MS, now - first);
    }
    trace.note(traces::REDELIVERED, is_redelivered);
    trace.note(traces::REJECTED, batch.rejects.len() as i64);
}
