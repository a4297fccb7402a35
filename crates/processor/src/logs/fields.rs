//! Log lines may contain text from outside and may be read on a terminal: what would control the terminal is escaped.

use std::fmt;
use std::io::{self, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use super::harmless;
use super::trace_ids::Ids;
use super::writer::Log;
use crate::traces;

/// Writes lines of JSON, in which some characters that control a terminal may stand unescaped.
#[derive(Debug)]
pub(super) struct HarmlessLines(pub(super) &'static Log);

impl Write for HarmlessLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.line(harmless::lines(&text).as_bytes());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Formats the message and the fields of a line for people, each value escaped.
#[derive(Debug)]
pub(super) struct HarmlessFields;

impl<'writer> FormatFields<'writer> for HarmlessFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line {
            writer,
            is_empty: true,
            result: Ok(()),
        };
        fields.record(&mut line);
        line.add_ids();
        line.result
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    is_empty: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn add(&mut self, field: &Field, value: &str) -> fmt::Result {
        let value = harmless::line(value);
        if !std::mem::take(&mut self.is_empty) {
            self.writer.write_char(' ')?;
        }
        match field.name() {
            "message" => self.writer.write_str(&value),
            name if self.writer.has_ansi_escapes() => {
                write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}")
            }
            name => write!(self.writer, "{name}={value}"),
        }
    }
}

impl Line<'_> {
    /// Says which trace the line belongs to, if it belongs to one.
    fn add_ids(&mut self) {
        if let Some(here) = traces::here()
            && self.result.is_ok()
        {
            let Ids { trace, span, .. } = Ids::of(&here);
            self.result = write!(self.writer, " trace_id={trace} span_id={span}");
        }
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Skips where a library that uses the `log` crate wrote the line.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.add(field, &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(ansi: bool, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let sink = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(HarmlessFields)
            .with_ansi(ansi)
            .without_time()
            .with_target(false)
            .with_writer(move || sink.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn values_and_messages_are_shown_harmless() {
        let evil = "a\u{1b}[31m\n\u{9b}b";
        let error = io::Error::other(evil);
        let text = logged(false, || {
            tracing::warn!(%evil, ?evil, text = evil, error = %error, count = 3, "said {evil}");
        });
        let shown = "a\\u001b[31m\\n\\u009bb";
        let debugged = r#""a\u{1b}[31m\n\u{9b}b""#;
        assert_eq!(
            text,
            format!(
                " WARN said {shown} evil={shown} evil={debugged} text={debugged} error={shown} count=3\n"
            )
        );
    }

    #[test]
    fn colours_are_ours_alone() {
        let text = logged(true, || tracing::info!(name = %"\u{1b}[0m", "text"));
        let ours = ["\x1b[32m", "\x1b[0m", "\x1b[2m", "\x1b[3m"];
        let rest = ours
            .iter()
            .fold(text.clone(), |text, colour| text.replace(colour, ""));
        assert_eq!(rest, " INFO text name=\\u001b[0m\n", "{text:?}");
    }
}
