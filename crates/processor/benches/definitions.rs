//! What the catalogue costs per event: once every name is known this hour, and when all are new.
//!
//! `cargo bench -p qurvo-processor --bench definitions`

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use qurvo_processor::definitions::Catalogue;
use qurvo_processor::event::field::FIELDS;
use qurvo_processor::event::{Batch, decode, json};
use stream_reply::{EntryBlock, StreamId};

const EVENTS: usize = 10_000;
const ROUNDS: usize = 30;

/// Events of 20 names with 8 properties each.
fn batch() -> (Batch, Vec<String>) {
    let texts: Vec<String> = (0..EVENTS)
        .map(|n| {
            format!(
                r#"{{"$lib":"web","$browser":"Chrome","price":{n}.5,"currency":"EUR","plan":"pro","created_at":"2026-01-15T10:30:00Z","items":[1,2],"is_new":true}}"#
            )
        })
        .collect();
    let names: Vec<String> = (0..20).map(|n| format!("event name {n}")).collect();
    let entries = texts.iter().enumerate().map(|(n, properties)| {
        let fields = [
            ("project_id", "11111111-1111-1111-1111-111111111111"),
            ("distinct_id", "visitor"),
            ("event_name", names[n % 20].as_str()),
            ("properties", properties.as_str()),
            ("user_properties", "{}"),
        ];
        (StreamId::new(n as u64 + 1, 0), fields)
    });
    let mut batch = Batch::default();
    decode::append(
        &mut batch,
        EntryBlock::of("s", &FIELDS, entries),
        0,
        "s",
        false,
        &[],
    );
    (batch, texts)
}

/// Nanoseconds per event, the best of several rounds.
fn best(mut round: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let started = Instant::now();
        round();
        started.elapsed()
    });
    let best: Duration = times.min().unwrap_or_default();
    best.as_nanos() as f64 / EVENTS as f64
}

fn main() {
    let (batch, texts) = batch();
    let read = best(|| {
        for text in &texts {
            let mut members = 0;
            black_box(json::members(text, |_, _| members += 1));
            black_box(members);
        }
    });
    let new = best(|| Catalogue::default().observe(black_box(&batch)));
    let catalogue = Catalogue::default();
    catalogue.observe(&batch);
    catalogue.assume_written();
    let known = best(|| catalogue.observe(black_box(&batch)));
    println!("events with 8 properties, nanoseconds per event");
    println!("  reading their members (for validation, persons and the catalogue)  {read:>7.0}");
    println!("  looking for new names, all known this hour                         {known:>7.0}");
    println!("  looking for new names, none known                                  {new:>7.0}");
    println!(
        "  in all, all known                                                  {:>7.0}",
        read + known
    );
}
