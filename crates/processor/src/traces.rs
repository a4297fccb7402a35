//! Traces: what becomes of a batch, stage by stage and request by request, as spans. The only place that makes one.
//!
//! While nobody takes traces everything here does nothing. Spans are made per batch and per request to a store, never per
//! event.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use opentelemetry::trace::{Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SdkTracer;

/// Makes spans, once traces are taken.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// A span or an attribute as people read about it: in docs/telemetry.md.
#[cfg(test)]
struct Named {
    name: &'static str,
    meaning: &'static str,
}

/// Declares names of spans or of their attributes, and all of them as a table.
macro_rules! declare {
    ($(#[$about:meta])* $table:ident: $($constant:ident, $name:literal, $meaning:literal;)*) => {
        $(pub(crate) const $constant: &str = $name;)*
        $(#[$about])*
        #[cfg(test)]
        const $table: &[Named] = &[$(Named { name: $name, meaning: $meaning }),*];
    };
}

declare! {
    /// Every span but those of requests to stores, whose name is what was being done, as errors say it.
    SPANS:
    BATCH, "batch", "A batch, from when its first entry was read to its acknowledgement.";
    GATHER, "gather", "Entries are validated and wait for others.";
    IDENTITY, "identity", "Persons are decided, and committed in PostgreSQL.";
    LAND, "land", "Overrides and rows are inserted in ClickHouse. Where batches are inserted together it stands in the trace of one of them and is linked with the others.";
    SET_ASIDE, "set aside", "Events become dead letters, and their entries are acknowledged.";
    PERSON_KEYS, "person keys", "The batch's person keys are set in Redis.";
    ACKNOWLEDGE, "acknowledge", "Entries are acknowledged in Redis.";
    REPLAY, "replay", "One step of replaying dead letters.";
    COHORTS, "cohorts", "A run over cohorts.";
    COHORT, "cohort", "One cohort's membership is computed.";
}

declare! {
    /// Every attribute of spans.
    ATTRIBUTES:
    SYSTEM, "messaging.system", "`redis`.";
    STREAM, "messaging.destination.name", "The streams of the batch's entries, comma-separated.";
    GROUP, "messaging.consumer.group.name", "The consumer group.";
    COUNT, "messaging.batch.message_count", "Entries in the batch.";
    FIRST, "qurvo.first_entry", "The id of the batch's first entry.";
    LAST, "qurvo.last_entry", "The id of its last entry.";
    FIRST_MS, "qurvo.first_entry_ms", "When its first entry was sent: the number before the dash of its id, milliseconds since 1970.";
    LAST_MS, "qurvo.last_entry_ms", "The same of its last entry.";
    WAITED_MS, "qurvo.waited_ms", "How long its first entry had waited in the stream and for its batch when the batch was closed.";
    REDELIVERED, "qurvo.redelivered", "Whether one of its entries was delivered before.";
    REJECTED, "qurvo.rejected", "Events that were refused: on `batch`, before anything was asked of a store; on `identity` and `land`, there.";
    MOVED, "qurvo.moved", "Distinct ids that belong to another person now.";
    LANDS_IN, "qurvo.lands_in", "The trace that shows how the batch was inserted, where that is another one's.";
    ROWS, "qurvo.rows", "Rows that were inserted.";
    LETTERS, "qurvo.letters", "Dead letters in a step of their replay.";
    COHORT_ID, "qurvo.cohort", "The cohort's id.";
    STORE, "db.system.name", "The store that was asked: `redis`, `postgresql`, `clickhouse`.";
}

/// Has spans made by `tracer` from now on; `false` when another one does already.
pub(crate) fn install(tracer: SdkTracer) -> bool {
    TRACER.set(tracer).is_ok()
}

/// Which trace, and which span of it, the code that runs now belongs to.
pub(crate) fn here() -> Option<SpanContext> {
    TRACER.get()?;
    Context::map_current(|context| {
        let here = context.span().span_context().clone();
        here.is_valid().then_some(here)
    })
}

/// A trace's first span: of a batch, a step of a replay, a run over cohorts. It ends when this is dropped.
#[derive(Debug, Default)]
pub struct Trace {
    root: Option<Context>,
    /// What was joined to it: it has the same end, and its own spans until then.
    joined: Vec<Context>,
}

impl Trace {
    /// Begins one now.
    pub(crate) fn begin(name: &'static str) -> Self {
        let root = TRACER.get().map(|tracer| {
            let kind = if name == BATCH {
                SpanKind::Consumer
            } else {
                SpanKind::Internal
            };
            let span = tracer.span_builder(name).with_kind(kind);
            Context::new().with_span(span.start_with_context(tracer, &Context::new()))
        });
        Self {
            root,
            joined: Vec::new(),
        }
    }

    /// Whether anything is traced: what it costs to say something about it is spared otherwise.
    pub(crate) fn is_taken(&self) -> bool {
        self.root.is_some()
    }

    /// Does something within it, as [`Span::around`].
    pub(crate) async fn around<T>(&self, work: impl Future<Output = T>) -> T {
        within(self.root.clone(), Box::pin(work)).await
    }

    /// Notes something about it.
    pub(crate) fn note(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(root) = &self.root {
            root.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Does something within it that waits for nothing, such as writing a line of the log.
    pub(crate) fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let _attached = self.root.clone().map(Context::attach);
        work()
    }

    /// Notes that it did not end well: such a trace is sent always.
    pub(crate) fn failed(&self, error: &dyn Display) {
        for root in self.root.iter().chain(&self.joined) {
            root.span().set_status(Status::error(error.to_string()));
        }
    }

    /// Takes the trace of what is done together with this from now on.
    pub(crate) fn join(&mut self, other: Self) {
        self.joined.extend(other.root);
        self.joined.extend(other.joined);
        let is_sampled = |root: &Context| root.span().span_context().is_sampled();
        if self.root.as_ref().is_some_and(is_sampled) {
            return;
        }
        // What is done together from now on is seen in a trace that is sent, if one of them is.
        let first = self.joined.iter().position(is_sampled);
        let first = first.or_else(|| (self.root.is_none() && !self.joined.is_empty()).then_some(0));
        if let Some(first) = first {
            let other = self.root.replace(self.joined.swap_remove(first));
            self.joined.extend(other);
        }
    }

    /// Says in what was joined where to look for what was done together.
    pub(crate) fn note_where_it_lands(&self) {
        let Some(root) = &self.root else { return };
        let trace = root.span().span_context().trace_id().to_string();
        for other in &self.joined {
            other.span().set_attribute(KeyValue::new(LANDS_IN, trace.clone()));
        }
    }

    /// Begins a span below it, linked with what was joined.
    pub(crate) fn span(&self, name: &'static str) -> Span {
        let joined = self.joined.iter();
        let links = joined.map(|other| Link::with_context(other.span().span_context().clone()));
        let links: Vec<Link> = links.collect();
        self.begin_span(|tracer| tracer.span_builder(name).with_links(links))
    }

    /// A span below it that began some time ago, and ends now.
    pub(crate) fn span_since(&self, name: &'static str, began: Instant) {
        let start = SystemTime::now().checked_sub(began.elapsed());
        let start = start.unwrap_or(SystemTime::UNIX_EPOCH);
        drop(self.begin_span(|tracer| tracer.span_builder(name).with_start_time(start)));
    }

    fn begin_span(&self, build: impl FnOnce(&SdkTracer) -> SpanBuilder) -> Span {
        let begin = |root: &Context| {
            let tracer = TRACER.get()?;
            Some(root.with_span(build(tracer).start_with_context(tracer, root)))
        };
        Span(self.root.as_ref().and_then(begin))
    }
}

/// A span below a trace's first one. It ends when this is dropped.
#[derive(Debug, Default)]
#[must_use = "a span ends when this is dropped"]
pub(crate) struct Span(Option<Context>);

impl Span {
    /// Does something within it: what is asked of stores meanwhile is a span below it, and log lines have its ids.
    pub(crate) async fn around<T>(&self, work: impl Future<Output = T>) -> T {
        within(self.0.clone(), Box::pin(work)).await
    }

    /// Notes something about it.
    pub(crate) fn note(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Notes that it did not end well.
    pub(crate) fn failed(&self, error: &dyn Display) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(error.to_string()));
        }
    }
}

/// A span below the one that the code that runs now belongs to, if it belongs to one.
pub(crate) fn span(name: &'static str) -> Span {
    let Some(tracer) = TRACER.get() else {
        return Span::default();
    };
    let parent = Context::current();
    Span(parent.has_active_span().then(|| {
        let span = tracer.span_builder(name).start_with_context(tracer, &parent);
        parent.with_span(span)
    }))
}

/// A request to a store: a span below the one that it is made in, if it is made in one.
pub(crate) async fn request<T, E: Display>(
    store: &'static str,
    during: &'static str,
    work: impl Future<Output = Result<T, E>> + Unpin,
) -> Result<T, E> {
    let request = Request(begin_request(store, during));
    let done = within(request.0.clone(), work).await;
    request.ended(&done);
    done
}

/// A request that has no answer yet. One that is given up before it has one did not end well.
struct Request(Option<Context>);

impl Request {
    fn ended<T, E: Display>(mut self, done: &Result<T, E>) {
        if let (Some(context), Err(error)) = (self.0.take(), done) {
            context.span().set_status(Status::error(error.to_string()));
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(context) = self.0.take() {
            context
                .span()
                .set_status(Status::error("given up without an answer"));
        }
    }
}

fn begin_request(store: &'static str, during: &'static str) -> Option<Context> {
    let tracer = TRACER.get()?;
    let parent = Context::current();
    parent.has_active_span().then(|| {
        let span = tracer
            .span_builder(during)
            .with_kind(SpanKind::Client)
            .with_attributes([KeyValue::new(STORE, store)])
            .start_with_context(tracer, &parent);
        parent.with_span(span)
    })
}

/// Does something with a context, if there is one. What is done is behind a pointer: futures would grow with each layer.
async fn within<T>(context: Option<Context>, mut work: impl Future<Output = T> + Unpin) -> T {
    std::future::poll_fn(|wake| {
        let _attached = context.clone().map(Context::attach);
        Pin::new(&mut work).poll(wake)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_span_and_attribute_is_documented_as_it_is() {
        let page = include_str!("../../../docs/telemetry.md");
        for Named { name, meaning } in SPANS.iter().chain(ATTRIBUTES) {
            let line = format!("| `{name}` | {meaning} |");
            assert!(page.contains(&line), "docs/telemetry.md has no line\n{line}");
        }
    }
}
