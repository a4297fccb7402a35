//! The texts of errors: in one line, short, harmless, and with every cause.

use std::borrow::Cow;

use crate::logs::harmless;

/// What the operator is told when an answer is nothing that ClickHouse says.
pub(super) const ELSEWHERE: &str = "check CLICKHOUSE_URL: something else than ClickHouse answers";
/// Characters of a strange answer that are shown.
pub(super) const SHOWN: usize = 200;
/// Longest error text kept: the engine repeats a query's text in some errors.
pub(super) const LONGEST_MESSAGE: usize = 500;

/// The beginning of what an unknown server says, in one line.
pub(super) fn shown(text: &str) -> String {
    let line: String = text.trim().chars().take(SHOWN).collect();
    one_line(line)
}

/// In one line, without what steers a terminal: some of it comes from outside. Line breaks are common in it, so blanks
/// stand for control characters.
pub(super) fn one_line(mut text: String) -> String {
    if text.contains(char::is_control) {
        text = text.replace(char::is_control, " ");
    }
    if let Cow::Owned(shown) = harmless::line(&text) {
        return shown;
    }
    text
}

/// Short enough to be kept.
pub(super) fn cut(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        let end = (0..=LONGEST_MESSAGE)
            .rev()
            .find(|i| message.is_char_boundary(*i))
            .unwrap_or(0);
        message.truncate(end);
    }
    message
}

/// The error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Whether the other side, which had taken the connection, closed it, or answered by what is no text.
pub(super) fn is_cut(message: &str) -> bool {
    let words = [
        "reset by peer",
        "Broken pipe",
        "closed",
        "unexpected end",
        "invalid HTTP version",
    ];
    words.iter().any(|word| message.contains(word))
}
