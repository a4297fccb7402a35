//! All at once: rates, streams, stages, stores, instances, and what waits beside the streams. Pure.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::super::facts::{Instance, Stream};
use super::super::history::Sample;
use super::super::readers::not_read;
use super::super::tables::{instances_table, ordered, pairs, streams_table, warnings};
use super::super::verdict;
use super::super::words::{count, percent};
use super::model::Model;
use super::shown::{NAME, OLD, WRONG, as_of, store_state};
use crate::cli::columns::cut;
use crate::cli::table::{Lines, Rows};
use crate::logs::harmless;
use crate::runtime::instances::Presence;
use crate::runtime::report::Reading;

/// With so many rows there is room for curves that can be read.
const ROOMY: u16 = 30;
/// Stages as an event meets them.
const STAGES: [&str; 4] = ["decode", "identity", "land", "acknowledge"];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, now: Timestamp) {
    let style = if model.redis.silent_since.is_some() {
        OLD
    } else {
        Style::new()
    };
    let tall = if area.height >= ROOMY { 2 } else { 1 };
    let width = usize::from(area.width);
    let streams = stream_lines(model, width, (area.height, style));
    let beside = beside(model, width);
    let warnings = complaints(model, width);
    let taken = 4 * tall + 1 + streams.len() as u16 + 2 + 1 + beside.len() as u16;
    let left = area.height.saturating_sub(taken);
    let warned = (warnings.len() as u16).min((left / 3).max(1));
    let parts = [
        Constraint::Length(4 * tall),
        Constraint::Length(1),
        Constraint::Length(streams.len() as u16),
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Length(left.saturating_sub(warned)),
        Constraint::Length(beside.len() as u16),
        Constraint::Length(warned),
    ];
    let [curves, _, streams_at, works, _, instances, beside_at, warnings_at] =
        Layout::vertical(parts).areas(area);
    draw_curves(frame, curves, model, tall);
    frame.render_widget(Paragraph::new(streams), streams_at);
    frame.render_widget(
        Paragraph::new(vec![stages(model, style), stores(model, now)]),
        works,
    );
    frame.render_widget(Paragraph::new(instance_lines(model, instances, style)), instances);
    frame.render_widget(Paragraph::new(beside), beside_at);
    frame.render_widget(Paragraph::new(warnings), warnings_at);
}

/// How many come and settle, and how many wait: now, at most, and before.
fn draw_curves(frame: &mut Frame<'_>, area: Rect, model: &Model, tall: u16) {
    let history = &model.history;
    let curves = [
        ("come", history.rates(|sample| sample.came), "/s", Color::Blue),
        (
            "settle",
            history.rates(|sample| sample.settled),
            "/s",
            Color::Green,
        ),
        (
            "unread",
            history.levels(|sample: &Sample| sample.unread),
            "",
            Color::Yellow,
        ),
        (
            "pending",
            history.levels(|sample: &Sample| sample.pending),
            "",
            Color::Cyan,
        ),
    ];
    let rows = Layout::vertical([Constraint::Length(tall); 4]).areas::<4>(area);
    for ((name, numbers, unit, color), row) in curves.into_iter().zip(rows) {
        let [text, curve] = Layout::horizontal([Constraint::Length(35), Constraint::Fill(1)]).areas(row);
        let last = numbers.last().copied().flatten();
        let shown = |number: Option<u64>| number.map_or("-".into(), |number| count(number) + unit);
        let shows = usize::from(curve.width);
        // Now is at the right, whether or not the past fills the rest.
        let past = std::iter::repeat_n(None, shows.saturating_sub(numbers.len()));
        let numbers = &numbers[numbers.len().saturating_sub(shows)..];
        let most = numbers.iter().copied().flatten().max();
        let words = format!(
            "{name:<8}{:>11}  most {:>8}",
            shown(last),
            most.map_or("-".into(), count)
        );
        frame.render_widget(Line::raw(words), text);
        let curve_of = Sparkline::default()
            .data(past.chain(numbers.iter().copied()))
            .max(most.unwrap_or(0).max(1))
            .style(Style::new().fg(color));
        frame.render_widget(curve_of, curve);
    }
}

/// Those that nobody reads first.
fn stream_lines(model: &Model, width: usize, (height, style): (u16, Style)) -> Vec<Line<'static>> {
    let redis = &model.redis.facts;
    let not_read = not_read(redis);
    let waits = |stream: &Stream| not_read.iter().any(|found| found.name == stream.name);
    let mut streams: Vec<&Stream> = redis.streams.iter().collect();
    streams.sort_by_key(|stream| !waits(stream));
    let lines = streams_table(streams.iter().copied()).lines(Some(width));
    let most = if height >= ROOMY { 8 } else { 3 };
    let style_of = |row: usize| {
        let is_wrong = style == Style::new() && streams.get(row).is_some_and(|stream| waits(stream));
        if is_wrong { WRONG } else { style }
    };
    table(&lines, style_of, most, "s")
}

/// Lines of a table, of which no more than `most` rows, and what shows all of them.
fn table(lines: &Lines, style: impl Fn(usize) -> Style, most: usize, key: &str) -> Vec<Line<'static>> {
    let header = lines
        .header
        .iter()
        .map(|header| Line::styled(header.clone(), NAME));
    let fits = lines.rows.len() <= most;
    let shown = if fits { most } else { most.saturating_sub(1) };
    let rows = lines.rows.iter().take(shown).enumerate();
    let rows = rows.map(|(index, row)| Line::styled(row.clone(), style(index)));
    let mut all: Vec<Line<'static>> = header.chain(rows).collect();
    if !fits {
        all.push(Line::styled(
            format!("… {} more: {key}", lines.rows.len() - shown),
            OLD,
        ));
    }
    all
}

/// The share of the time that each stage works, over all instances that say.
fn stages(model: &Model, style: Style) -> Line<'static> {
    let instances = model.redis.facts.instances.iter().flatten();
    let shares = verdict::shares(instances.filter(|instance| instance.consumes()));
    let mut spans = vec![Span::styled("stages", NAME), Span::raw("  ")];
    if shares.is_empty() {
        spans.push(Span::styled("no instance says how it works", OLD));
        return Line::from(spans);
    }
    for stage in STAGES {
        let share = shares.get(stage).copied().unwrap_or_default();
        let how = if share >= verdict::BUSY { WRONG } else { style };
        spans.push(Span::styled(format!("{stage} {}  ", percent(share)), how));
    }
    let full = shares.get("full").copied().unwrap_or_default();
    spans.push(Span::styled(format!("held back {}", percent(full)), style));
    Line::from(spans)
}

fn stores(model: &Model, now: Timestamp) -> Line<'static> {
    let silences = [
        model.redis.silent_for(now),
        model.postgres.silent_for(now),
        model.clickhouse.silent_for(now),
    ];
    let mut spans = vec![Span::styled("stores", NAME), Span::raw("  ")];
    for (store, silent) in model.stores().into_iter().zip(silences) {
        let (text, style) = store_state(store, silent);
        spans.push(Span::styled(format!("{} {text}  ", store.name), style));
    }
    Line::from(spans)
}

/// Those that need somebody first.
fn instance_lines(model: &Model, area: Rect, style: Style) -> Vec<Line<'static>> {
    let most = usize::from(area.height).saturating_sub(1);
    let instances = ordered(&model.redis.facts, needs_nobody);
    let table_of = instances_table(&model.redis.facts, &instances);
    if table_of.is_empty() {
        return vec![Line::styled("no instance has reported", style)];
    }
    let style = |row: usize| match instances.get(row) {
        Some(instance) if style == Style::new() && !needs_nobody(instance) => WRONG,
        _ => style,
    };
    table(&table_of.lines(Some(usize::from(area.width))), style, most, "i")
}

/// Whether an instance works as it should, or has ended.
fn needs_nobody(instance: &Instance) -> bool {
    let report = instance.report.as_ref();
    matches!(instance.presence, Presence::Alive | Presence::Ended)
        && report.is_some_and(|report| report.reading != Reading::Paused)
}

/// What waits beside the streams, and what was written last: each as old as the store that told it.
fn beside(model: &Model, width: usize) -> Vec<Line<'static>> {
    let redis = &model.redis.facts;
    let pairs = pairs(redis, &model.postgres.facts, &model.clickhouse.facts);
    let mut table = Rows::new(&[]);
    let mut styles = Vec::new();
    for (name, value) in pairs {
        let age = match name.as_str() {
            "cohorts" | "unpublished overrides" => as_of(&model.postgres),
            "newest row" => as_of(&model.clickhouse),
            _ => as_of(&model.redis),
        };
        // What is as it should be takes no room from what is not.
        let is_quiet = matches!((name.as_str(), value.as_str()), ("replay circuit", "closed"))
            || (name == "unpublished overrides" && value == "0")
            || name.ends_with(":lock");
        if is_quiet && age.is_none() {
            continue;
        }
        let waits = name == "dead letters" && redis.dead_letters.is_some_and(|letters| letters > 0);
        styles.push(match age {
            Some(_) => OLD,
            None if waits => Style::new().fg(Color::Yellow),
            None => Style::new(),
        });
        table.add([name, format!("{value}{}", age.unwrap_or_default())]);
    }
    let lines = table.lines(Some(width)).rows.into_iter().zip(styles);
    lines.map(|(line, style)| Line::styled(line, style)).collect()
}

/// What people should know without looking for it.
fn complaints(model: &Model, width: usize) -> Vec<Line<'static>> {
    let warnings = warnings(&model.redis.facts, model.settings).into_iter();
    let errors = [
        &model.redis.errors,
        &model.postgres.errors,
        &model.clickhouse.errors,
    ];
    let errors = errors.into_iter().flatten().cloned();
    let lines = warnings.chain(errors);
    let lines = lines.map(|line| cut(&format!("! {}", harmless::line(&line)), width));
    lines.map(|line| Line::styled(line, WRONG)).collect()
}
