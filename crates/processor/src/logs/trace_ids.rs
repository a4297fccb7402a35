//! Log lines that say which trace they belong to, in OpenTelemetry's convention and in Datadog's.

use std::fmt::{self, Write};

use opentelemetry::trace::SpanContext;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::Resource;
use crate::traces;

/// Formats lines of JSON as `F` does, with the ids of the trace and the span that a line was written in, if any.
pub(super) struct WithTraceIds<F> {
    pub(super) format: F,
    /// Fields of every line: they begin with a comma.
    pub(super) always: String,
}

impl<S, N, F> FormatEvent<S, N> for WithTraceIds<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let here = traces::here();
        if here.is_none() && self.always.is_empty() {
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let Some(object) = line.trim_end().strip_suffix('}') else {
            return writer.write_str(&line);
        };
        writer.write_str(object)?;
        writer.write_str(&self.always)?;
        if let Some(here) = here {
            let Ids {
                trace,
                span,
                dd_trace,
                dd_span,
            } = Ids::of(&here);
            write!(
                writer,
                r#","trace_id":"{trace}","span_id":"{span}","dd.trace_id":"{dd_trace}","dd.span_id":"{dd_span}""#
            )?;
        }
        writer.write_str("}\n")
    }
}

/// What Datadog ties a line to its service by: fields of every line of JSON.
pub(super) fn service_fields(resource: &Resource) -> String {
    let mut fields = String::new();
    let named = [
        ("dd.service", Some(&resource.service)),
        ("dd.env", resource.environment.as_ref()),
        ("dd.version", Some(&resource.version)),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            let value = serde_json::Value::from(value.as_str());
            let _never_fails = write!(fields, r#","{name}":{value}"#);
        }
    }
    fields
}

/// A span's ids in both conventions: hexadecimal, and Datadog's decimal numbers of 64 bits.
pub(super) struct Ids {
    pub(super) trace: String,
    pub(super) span: String,
    dd_trace: u64,
    dd_span: u64,
}

impl Ids {
    pub(super) fn of(here: &SpanContext) -> Self {
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
        };
        Self {
            trace: here.trace_id().to_string(),
            span: here.span_id().to_string(),
            dd_trace: number(&here.trace_id().to_bytes()[8..]),
            dd_span: number(&here.span_id().to_bytes()),
        }
    }
}
