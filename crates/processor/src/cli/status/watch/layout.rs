//! The screen: what it says where. Pure.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Margin, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::super::facts::Level;
use super::super::words::time;
use super::keys::HELP;
use super::model::{Model, View};
use super::shown::{OLD, WRONG, clock};
use super::{overview, views};
use crate::logs::harmless;

/// Below this the screen says so instead.
const LEAST_COLUMNS: u16 = 60;
const LEAST_ROWS: u16 = 20;
/// Draws everything. A view that was scrolled beyond its end is scrolled back.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, now: Timestamp) {
    let whole = frame.area();
    if whole.width < LEAST_COLUMNS || whole.height < LEAST_ROWS {
        let text = format!(
            "This terminal has {} columns and {} rows; {LEAST_COLUMNS} by {LEAST_ROWS} are needed. q leaves.",
            whole.width, whole.height
        );
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), whole);
        return;
    }
    let parts = [
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [title, verdict, body, help] = Layout::vertical(parts).areas(whole.inner(Margin::new(1, 0)));
    draw_title(frame, title, model, now);
    draw_verdict(frame, verdict, model);
    frame.render_widget(Line::styled(HELP, OLD), help);
    match model.view {
        View::Overview => overview::draw(frame, body, model, now),
        _ => draw_view(frame, body, model, now),
    }
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, model: &Model, now: Timestamp) {
    let name = match model.view {
        View::Overview => "qurvo-processor",
        View::Streams => "qurvo-processor: streams",
        View::Instances => "qurvo-processor: instances",
        View::Stores => "qurvo-processor: stores",
        View::Letters => "qurvo-processor: dead letters and rejected events",
        View::Cohorts => "qurvo-processor: cohorts",
    };
    frame.render_widget(Line::from(name.bold()), area);
    let (text, style) = match (model.redis.at, model.redis.age(now)) {
        (None, _) => ("nothing is known yet".to_owned(), Style::new()),
        (Some(at), None) => (format!("as of {}", clock(at)), Style::new()),
        (Some(at), Some(age)) => (format!("as of {}, {} old", clock(at), time(age)), WRONG),
    };
    frame.render_widget(Line::styled(text, style).right_aligned(), area);
}

fn draw_verdict(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let said = model.verdict();
    let color = match said.level {
        Level::Fine => Color::Green,
        Level::Look => Color::Yellow,
        Level::Wrong => Color::Red,
    };
    let answer = Style::new().fg(color).add_modifier(Modifier::BOLD);
    let line = Line::from(vec![
        Span::styled(said.answer.to_uppercase(), answer),
        Span::raw(": "),
        Span::raw(harmless::line(&said.because).into_owned()),
    ]);
    frame.render_widget(Paragraph::new(line).wrap(Wrap { trim: true }), area);
}

/// A view of one thing, which may be longer than the screen.
fn draw_view(frame: &mut Frame<'_>, area: Rect, model: &mut Model, now: Timestamp) {
    let [_, area] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let lines = views::lines(model, usize::from(area.width), now);
    let room = usize::from(area.height);
    model.above = model.above.min(lines.len().saturating_sub(room));
    let below = lines.len().saturating_sub(model.above + room);
    let mut shown: Vec<Line<'_>> = lines.into_iter().skip(model.above).take(room).collect();
    if below > 0
        && let Some(last) = shown.last_mut()
    {
        *last = Line::styled(format!("… {} more lines: ↓", below + 1), OLD);
    }
    frame.render_widget(Paragraph::new(shown), area);
}
