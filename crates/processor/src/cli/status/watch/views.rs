//! One thing in full, line by line. Pure.

use jiff::Timestamp;
use ratatui::style::Style;
use ratatui::text::Line;

use super::super::facts::Instance;
use super::super::tables::{instances_table, kept_note, ordered, streams_table, warnings};
use super::super::words::{circuit, count, count_or_unknown, percent, time, time_left};
use super::model::{Model, View};
use super::shown::{NAME, OLD, WRONG, as_of, store_state};
use crate::cli::columns::wrapped;
use crate::cli::table::{Rows, UNKNOWN};
use crate::logs::harmless;
use crate::set_aside::Reasons;

/// Collects lines that fit.
struct Page {
    width: usize,
    lines: Vec<Line<'static>>,
}

impl Page {
    fn text(&mut self, text: &str, style: Style) {
        let text = harmless::line(text);
        let lines = wrapped(&text, self.width).into_iter();
        self.lines.extend(lines.map(|line| Line::styled(line, style)));
    }

    fn gap(&mut self) {
        self.lines.push(Line::default());
    }

    fn table(&mut self, table: &Rows) {
        let lines = table.lines(Some(self.width));
        self.lines
            .extend(lines.header.map(|header| Line::styled(header, NAME)));
        self.lines.extend(lines.rows.into_iter().map(Line::raw));
        self.lines.extend(lines.note.map(|note| Line::styled(note, OLD)));
    }

    fn old(&mut self, told: Option<String>) {
        if let Some(told) = told {
            self.text(&format!("old{told}: the store does not answer"), WRONG);
            self.gap();
        }
    }
}

/// The view that is open.
pub(super) fn lines(model: &Model, width: usize, now: Timestamp) -> Vec<Line<'static>> {
    let mut page = Page {
        width,
        lines: Vec::new(),
    };
    match model.view {
        View::Overview => {}
        View::Streams => streams(&mut page, model),
        View::Instances => instances(&mut page, model),
        View::Stores => stores(&mut page, model, now),
        View::Letters => letters(&mut page, model),
        View::Cohorts => cohorts(&mut page, model),
    }
    page.lines
}

fn streams(page: &mut Page, model: &Model) {
    page.old(as_of(&model.redis));
    page.table(&streams_table(&model.redis.facts.streams));
    page.text(&kept_note(model.settings), OLD);
    for stream in &model.redis.facts.streams {
        page.gap();
        let mut table = Rows::new(&["consumer", "pending", "idle"]);
        for consumer in &stream.consumers {
            // Of one that has nothing to do, Redis may say for how long it got nothing: that is nobody's worry.
            let idle = match consumer.pending {
                0 => "-".to_owned(),
                _ => time(consumer.idle_ms / 1000),
            };
            table.add([&consumer.name, &count(consumer.pending), &idle]);
        }
        page.text(&format!("consumers of {}", stream.name), NAME);
        page.table(&table);
    }
    page.gap();
    for warning in warnings(&model.redis.facts, model.settings) {
        page.text(&format!("! {warning}"), WRONG);
    }
}

fn instances(page: &mut Page, model: &Model) {
    page.old(as_of(&model.redis));
    let redis = &model.redis.facts;
    page.table(&instances_table(redis, &ordered(redis, |_| true)));
    for instance in redis.instances.iter().flatten() {
        page.gap();
        page.text(&instance.name, NAME);
        for line in described(instance) {
            page.text(&line, Style::new());
        }
    }
}

/// What an instance said last.
fn described(instance: &Instance) -> Vec<String> {
    let silent = instance.silent_for_s.map_or(UNKNOWN.into(), time);
    let mut lines = vec![format!("last report {silent} ago")];
    let Some(report) = &instance.report else {
        return lines;
    };
    lines.push(format!(
        "version {}, roles {}",
        report.version,
        report.roles.join(", ")
    ));
    lines.extend(
        report
            .streams
            .as_ref()
            .map(|streams| format!("reads {}", streams.described())),
    );
    let Some(work) = &report.work else { return lines };
    lines.push(format!(
        "up for {}; settled {} events since; holds {} of {} events",
        time(work.up_s),
        count(work.settled),
        count(report.held_events as u64),
        count(work.room as u64)
    ));
    let shares = work.shares.iter();
    let shares = shares.map(|(stage, share)| match stage.as_str() {
        "full" => format!("held back {}", percent(*share)),
        stage => format!("{stage} {}", percent(*share)),
    });
    lines.push(format!("works: {}", shares.collect::<Vec<_>>().join(", ")));
    lines
}

fn stores(page: &mut Page, model: &Model, now: Timestamp) {
    let silences = [
        (model.redis.silent_for(now), &model.redis.errors),
        (model.postgres.silent_for(now), &model.postgres.errors),
        (model.clickhouse.silent_for(now), &model.clickhouse.errors),
    ];
    for (store, (silent, errors)) in model.stores().into_iter().zip(silences) {
        let (state, style) = store_state(store, silent);
        page.text(&format!("{}  {state}", store.name), style);
        page.text(&format!("at {}", store.at), Style::new());
        for error in errors {
            page.text(&format!("! {error}"), WRONG);
        }
        page.gap();
    }
    page.text(
        "Asked by this viewer, from here: an instance may reach what this does not.",
        OLD,
    );
}

fn letters(page: &mut Page, model: &Model) {
    page.old(as_of(&model.redis));
    let redis = &model.redis.facts;
    let oldest = redis
        .oldest_dead_letter_s
        .map_or(String::new(), |age| format!("; oldest {} old", time(age)));
    page.text(
        &format!("dead letters: {}{oldest}", count_or_unknown(redis.dead_letters)),
        NAME,
    );
    reasons(page, redis.dead_letter_reasons.as_ref());
    page.gap();
    let state = redis.circuit.as_ref().map_or(UNKNOWN.into(), circuit);
    page.text(&format!("replay circuit: {state}"), Style::new());
    for (lock, left) in redis.locks.iter().flatten() {
        page.text(&format!("held: {lock}, {}", time_left(*left)), Style::new());
    }
    page.text(
        "qurvo-processor dlq list shows them, dlq replay tries them now",
        OLD,
    );
    page.gap();
    page.text(
        &format!("rejected events: {}", count_or_unknown(redis.rejected)),
        NAME,
    );
    reasons(page, redis.rejected_reasons.as_ref());
    page.text("qurvo-processor dlq list --rejected shows them", OLD);
}

fn reasons(page: &mut Page, reasons: Option<&Reasons>) {
    let Some(reasons) = reasons else { return };
    let header = format!("of the newest {}", count(reasons.newest));
    let mut table = Rows::new(&[header.as_str(), "reason"]);
    let mut counts: Vec<(&String, &u64)> = reasons.counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (reason, number) in counts {
        table.add([&count(*number), reason]);
    }
    if !table.is_empty() {
        page.table(&table);
    }
}

fn cohorts(page: &mut Page, model: &Model) {
    page.old(as_of(&model.postgres));
    let postgres = &model.postgres.facts;
    match postgres.cohorts {
        None => page.text(&format!("cohorts: {UNKNOWN}"), Style::new()),
        Some(counts) => page.text(
            &format!(
                "{} cohorts that are computed; {} stale, {} failing",
                counts.dynamic, counts.stale, counts.failing
            ),
            Style::new(),
        ),
    }
    for cohort in postgres.failing_cohorts.iter().flatten() {
        page.gap();
        page.text(&format!("{}  {}", cohort.id, cohort.name), NAME);
        page.text(
            &format!("failed {} times in a row: {}", cohort.errors, cohort.last_error),
            Style::new(),
        );
    }
    page.gap();
    page.text("qurvo-processor cohorts list shows all of them", OLD);
}
