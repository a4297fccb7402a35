//! Logs: structured, one line per change of state, never a secret, never a line per event.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Config, ConfigError, LogFormat};

/// Installs the process-wide log subscriber, writing to standard error.
///
/// # Errors
/// When `LOG_LEVEL` is not a filter.
pub fn install(config: &Config) -> Result<(), ConfigError> {
    let filter = EnvFilter::builder()
        .parse(filter_text(&config.log_level))
        .map_err(|_| ConfigError::Invalid {
            name: "LOG_LEVEL",
            value: config.log_level.clone(),
            accepted: "error, warn, info, debug, trace, or a per-module filter".into(),
        })?;
    let terminal = std::io::stderr().is_terminal();
    let format = config.log_format.unwrap_or(if terminal {
        LogFormat::Pretty
    } else {
        LogFormat::Json
    });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    // A second installation happens only in tests, where the first one serves.
    let _already_installed = match format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        LogFormat::Pretty => builder.with_ansi(terminal).with_target(false).try_init(),
    };
    Ok(())
}

/// A bare level speaks for this program; libraries stay at `warn` unless named.
fn filter_text(level: &str) -> String {
    match level {
        "error" | "warn" | "info" | "debug" | "trace" => {
            format!("warn,qurvo_processor={level},enrichment={level}")
        }
        filter => filter.to_owned(),
    }
}
