//! Logs: structured lines, one per change of state. Never a secret, never a line per event.

mod fields;
pub(crate) mod harmless;
mod trace_ids;
pub(crate) mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use fields::{HarmlessFields, HarmlessLines};
use trace_ids::{WithTraceIds, service_fields};
use writer::LOG;

use crate::config::{Config, ConfigError, ConfigErrors, LogFormat};

/// Longest that an orderly end waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Installs the process-wide log subscriber, writing to standard error; panics are logged from now on.
///
/// # Errors
/// When `LOG_LEVEL` is not a filter.
pub(crate) fn install(config: &Config) -> Result<(), ConfigErrors> {
    let filter = filter(&config.log_level).ok_or_else(|| fault_of(config.log_level.clone()))?;
    let telemetry = &config.telemetry;
    let service = telemetry
        .agent
        .is_some()
        .then(|| service_fields(&telemetry.resource));
    install_as(filter, config.log_format, service.unwrap_or_default());
    Ok(())
}

/// Installs it as it is without a configuration, unless it is installed already: what is wrong with the configuration is
/// a line of the log, too.
pub(crate) fn install_preset() {
    let format = match std::env::var("LOG_FORMAT").as_deref() {
        Ok("json") => Some(LogFormat::Json),
        Ok("pretty") => Some(LogFormat::Pretty),
        _ => None,
    };
    install_as(filter("info").unwrap_or_default(), format, String::new());
}

/// What is wrong with a value of `LOG_LEVEL`, if anything is.
pub(crate) fn fault(level: &str) -> Option<ConfigError> {
    (!level.trim().is_empty() && filter(level.trim()).is_none()).then(|| fault_of(level.trim().to_owned()))
}

fn fault_of(value: String) -> ConfigError {
    ConfigError::Invalid {
        name: "LOG_LEVEL",
        value,
        accepted:
            "error, warn, info, debug, trace, or such levels per module: `info,qurvo_processor::intake=debug`"
                .into(),
    }
}

/// `always` are fields of every line of JSON.
fn install_as(filter: Targets, format: Option<LogFormat>, always: String) {
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal {
        LogFormat::Pretty
    } else {
        LogFormat::Json
    });
    let builder = tracing_subscriber::fmt()
        // The filter decides alone.
        .with_max_level(LevelFilter::TRACE)
        .with_span_events(FmtSpan::NONE)
        // The library would write them to standard error itself, and panic where that fails.
        .log_internal_errors(false);
    // A second installation changes nothing: the first one serves.
    let _already_installed = match format {
        LogFormat::Json => builder
            .with_writer(|| HarmlessLines(&LOG))
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .map_event_format(|format| WithTraceIds { format, always })
            .finish()
            .with(filter)
            .try_init(),
        LogFormat::Pretty => builder
            .with_writer(&LOG)
            .fmt_fields(HarmlessFields)
            .with_ansi(terminal)
            .with_target(false)
            .finish()
            .with(filter)
            .try_init(),
    };
    std::panic::set_hook(Box::new(log_panic));
}

/// Logs a panic as a line. The default hook would write to standard error itself, and could block there.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("of another type than text");
    let location = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        panic = message,
        location,
        thread = thread.name(),
        backtrace,
        "a task panicked"
    );
}

/// Writes a text that is no log line to standard error, after the lines that were logged before.
pub(crate) fn say(text: &str) {
    LOG.line(format!("{}\n", harmless::lines(text)).as_bytes());
}

/// When dropped, also by a panic, waits a moment for the last lines to be written.
#[derive(Debug)]
pub(crate) struct LastLines;

impl Drop for LastLines {
    fn drop(&mut self) {
        LOG.flush(LAST_LINES);
    }
}

/// A bare level applies to this program; libraries stay at `warn` unless a filter names them. An empty part of a filter
/// would be taken for a level.
fn filter_text(level: &str) -> String {
    match level {
        "error" | "warn" | "info" | "debug" | "trace" => {
            format!("warn,qurvo_processor={level},enrichment={level}")
        }
        filter => {
            let parts = filter.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.collect::<Vec<_>>().join(",")
        }
    }
}

/// The filter that a text means. The library takes any word that is no level for the name of a module of which all is
/// shown, and of nothing else anything: `warning` would mute every line.
fn filter(text: &str) -> Option<Targets> {
    let text = filter_text(text);
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let is_module = |word: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
        !word.is_empty() && word.chars().all(is_part)
    };
    let mut parts = text.split(',').filter(|part| !part.is_empty());
    let is_known = parts.all(|part| match part.split_once('=') {
        Some((module, level)) => is_module(module) && is_level(level),
        None => is_level(part),
    });
    if is_known { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::Level;

    use super::filter;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_filter_is_by_module_and_its_empty_parts_say_nothing() {
        let filter = filter("warn, qurvo_processor::intake=debug,").unwrap();
        assert!(filter.would_enable("qurvo_processor::intake::reading", &Level::DEBUG));
        assert!(!filter.would_enable("qurvo_processor::warehouse", &Level::INFO));
        assert!(filter.would_enable("hyper", &Level::WARN));
    }

    #[test]
    fn a_word_that_is_no_level_is_no_filter() {
        for wrong in [
            "warning",
            "INFOS",
            "qurvo_processor",
            "=debug",
            "a b=debug",
            "intake=loud",
            "\u{1b}[31m",
        ] {
            assert!(filter(wrong).is_none(), "{wrong:?}");
        }
        for right in ["WARN", "off", "info,hyper=off", "trace"] {
            assert!(filter(right).is_some(), "{right:?}");
        }
    }

    #[test]
    fn a_panic_is_a_line_of_the_log() {
        let lines = Lines::default();
        let sink = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || sink.clone())
            .finish();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(super::log_panic));
        let panicked = tracing::subscriber::with_default(subscriber, || {
            std::panic::catch_unwind(|| panic!("on {}", "purpose"))
        });
        std::panic::set_hook(before);
        assert!(panicked.is_err());
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(
            (&line["level"], &line["panic"]),
            (&"ERROR".into(), &"on purpose".into())
        );
        assert!(
            line["location"].as_str().unwrap().contains("logs/mod.rs:"),
            "{line}"
        );
    }
}
