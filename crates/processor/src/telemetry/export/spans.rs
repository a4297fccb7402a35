//! Which traces are sent. Whether one is, is decided at its head, by chance; one with an error is sent whatever was decided.
//! So every span is kept until its trace has ended.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::trace::{Link, SpanId, SpanKind, Status, TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, SamplingResult, ShouldSample, Span, SpanData, SpanProcessor,
};

use super::queue::Queue;
use super::trouble::dropped;

/// Spans of one trace that are kept; what comes on top is dropped.
const LARGEST: usize = 512;

/// Decides at the head.
#[derive(Debug, Clone)]
pub(super) struct Head(Sampler);

impl Head {
    /// So many of all, from 0 to 1.
    pub(super) fn new(share: f64) -> Self {
        Self(Sampler::TraceIdRatioBased(share))
    }
}

impl ShouldSample for Head {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let parent = parent.filter(|parent| parent.has_active_span());
        let is_sampled = if let Some(parent) = parent {
            parent.span().span_context().is_sampled()
        } else {
            let chance = self.0.should_sample(None, trace, name, kind, attributes, links);
            chance.decision == SamplingDecision::RecordAndSample
        };
        SamplingResult {
            decision: if is_sampled {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::RecordOnly
            },
            attributes: Vec::new(),
            trace_state: TraceState::default(),
        }
    }
}

/// Keeps the spans of traces that have not ended, and hands on those that are to be sent.
#[derive(Debug)]
pub(super) struct Trees {
    open: Mutex<HashMap<TraceId, Open>>,
    queues: Vec<Queue>,
}

#[derive(Debug, Default)]
struct Open {
    spans: Vec<SpanData>,
    has_error: bool,
    left_out: usize,
}

impl Trees {
    pub(super) fn new(queues: Vec<Queue>) -> Self {
        Self {
            open: Mutex::default(),
            queues,
        }
    }

    fn hand_on(&self, spans: &[SpanData], left_out: usize) {
        for queue in &self.queues {
            queue.add(spans.to_vec());
            if left_out > 0 {
                dropped(queue.destination(), "traces", left_out);
            }
        }
    }

    /// What is to be sent now that a span has ended, and how many more spans there were.
    fn ended(&self, span: SpanData) -> Option<(Vec<SpanData>, usize)> {
        let is_root = span.parent_span_id == SpanId::INVALID;
        let has_error = matches!(span.status, Status::Error { .. });
        let is_sampled = span.span_context.is_sampled();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Occupied(mut tree) = open.entry(span.span_context.trace_id()) else {
            // Its trace has ended before it: a task went on beside it.
            return (is_sampled || has_error).then(|| (vec![span], 0));
        };
        let found = tree.get_mut();
        found.has_error |= has_error;
        // There is always room for the root, which the others hang on.
        if found.spans.len() < LARGEST || is_root {
            found.spans.push(span);
        } else {
            found.left_out += 1;
        }
        if !is_root {
            return None;
        }
        let tree = tree.remove();
        (is_sampled || tree.has_error).then_some((tree.spans, tree.left_out))
    }
}

impl SpanProcessor for Trees {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        if !parent.has_active_span() {
            let trace = opentelemetry::trace::Span::span_context(span).trace_id();
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.insert(trace, Open::default());
        }
    }

    fn on_end(&self, span: SpanData) {
        if let Some((spans, left_out)) = self.ended(span) {
            self.hand_on(&spans, left_out);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

    use super::super::queue::{self, Waiting};
    use super::*;

    fn tracer(share: f64) -> (SdkTracer, Waiting) {
        let (queue, waiting) = queue::of("test", 10_000);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Head::new(share))
            .with_span_processor(Trees::new(vec![queue]))
            .build();
        (provider.tracer("test"), waiting)
    }

    /// A trace of one root and so many children, the last of which may fail.
    fn trace(tracer: &SdkTracer, children: usize, fails: bool) {
        let root = Context::new().with_span(tracer.start_with_context("root", &Context::new()));
        for child in 1..=children {
            let span = root.with_span(tracer.start_with_context("child", &root));
            if fails && child == children {
                span.span().set_status(Status::error("no"));
            }
        }
    }

    fn sizes(mut waiting: Waiting) -> Vec<usize> {
        std::iter::from_fn(|| waiting.take_now())
            .map(|tree| tree.len())
            .collect()
    }

    #[test]
    fn a_trace_is_handed_on_whole_when_it_has_ended() {
        let (tracer, waiting) = tracer(1.0);
        trace(&tracer, 2, false);
        trace(&tracer, 0, false);
        assert_eq!(sizes(waiting), [3, 1]);
    }

    #[test]
    fn of_those_that_are_not_sampled_the_ones_with_an_error_are_sent() {
        let (tracer, waiting) = tracer(0.0);
        trace(&tracer, 2, false);
        trace(&tracer, 2, true);
        assert_eq!(sizes(waiting), [3]);
    }

    #[test]
    fn about_the_share_that_was_asked_for_is_sampled() {
        let (tracer, waiting) = tracer(0.25);
        for _ in 0..2_000 {
            trace(&tracer, 1, false);
        }
        // 500 are due; six standard deviations are 116.
        let sent = sizes(waiting).len();
        assert!((380..=620).contains(&sent), "{sent}");
    }

    #[test]
    fn a_trace_is_cut_rather_than_kept_without_end() {
        let (tracer, waiting) = tracer(1.0);
        trace(&tracer, LARGEST + 10, false);
        assert_eq!(sizes(waiting), [LARGEST + 1]);
    }
}
