//! Traces on their way to one destination: a bounded queue, and a loop of its own that sends them.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::trouble::{LeftOut, NotSent, Trouble, dropped};
use crate::metrics;

/// Spans that are sent together, about.
const TOGETHER: usize = 512;
/// Attempts to send them…
const ATTEMPTS: u32 = 4;
/// …with a pause after the first, twice as long after each further one.
const PAUSE: Duration = Duration::from_secs(1);

/// All spans of a trace, or one that ended late.
pub(super) type Tree = Vec<SpanData>;

/// Takes traces.
pub(super) trait TakesTraces: Send + Sync + 'static {
    /// What it is called in metrics and log lines.
    const NAME: &'static str;

    /// Where it is, without secrets.
    fn address(&self) -> String;

    /// Sends some traces. Returns what was left out of them.
    ///
    /// # Errors
    /// When they were not taken.
    fn send(&self, traces: Vec<Tree>) -> impl Future<Output = Result<LeftOut, NotSent>> + Send;
}

/// Where traces are put.
#[derive(Debug)]
pub(super) struct Queue {
    destination: &'static str,
    sender: UnboundedSender<Tree>,
    spans: Arc<AtomicUsize>,
    most: usize,
}

/// Where they are taken from.
#[derive(Debug)]
pub(super) struct Waiting {
    receiver: UnboundedReceiver<Tree>,
    spans: Arc<AtomicUsize>,
}

/// A queue for so many spans.
pub(super) fn of(destination: &'static str, most: usize) -> (Queue, Waiting) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let spans = Arc::new(AtomicUsize::new(0));
    let queue = Queue {
        destination,
        sender,
        spans: spans.clone(),
        most,
    };
    (queue, Waiting { receiver, spans })
}

impl Queue {
    pub(super) fn destination(&self) -> &'static str {
        self.destination
    }

    /// Puts a trace in, or drops it when there is no room.
    pub(super) fn add(&self, tree: Tree) {
        let size = tree.len();
        let room = |waiting: usize| (waiting + size <= self.most).then_some(waiting + size);
        let has_room = self.spans.fetch_update(Relaxed, Relaxed, room).is_ok();
        if !has_room || self.sender.send(tree).is_err() {
            dropped(self.destination, "traces", size);
        }
    }
}

impl Waiting {
    /// The next trace if there is one. It gives its room back.
    pub(super) fn take_now(&mut self) -> Option<Tree> {
        let tree = self.receiver.try_recv().ok()?;
        self.spans.fetch_sub(tree.len(), Relaxed);
        Some(tree)
    }

    /// Some traces, once there are as many as are sent together, or the first has waited for `interval`. None when it has to
    /// stop and nothing waits any more.
    async fn next(&mut self, interval: Duration, stop: &CancellationToken) -> Option<Vec<Tree>> {
        let mut some = Vec::new();
        let mut spans = 0;
        let mut until = None;
        loop {
            while spans < TOGETHER
                && let Some(tree) = self.take_now()
            {
                spans += tree.len();
                some.push(tree);
            }
            if stop.is_cancelled() || spans >= TOGETHER {
                return (!some.is_empty()).then_some(some);
            }
            let due = match (&until, some.is_empty()) {
                (Some(due), _) => *due,
                (None, false) => *until.insert(Instant::now() + interval),
                (None, true) => Instant::now() + interval,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                received = self.receiver.recv() => {
                    let tree = received?;
                    self.spans.fetch_sub(tree.len(), Relaxed);
                    spans += tree.len();
                    some.push(tree);
                }
                () = tokio::time::sleep_until(due) => if !some.is_empty() {
                    return Some(some);
                }
            }
        }
    }
}

/// Sends what waits until it has to stop; then what waits still, each once.
pub(super) async fn send<D: TakesTraces>(
    destination: D,
    mut waiting: Waiting,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut trouble = Trouble::new(D::NAME, "traces", destination.address());
    while let Some(traces) = waiting.next(interval, &stop).await {
        let spans: usize = traces.iter().map(Vec::len).sum();
        let lost = send_some(&destination, traces, &mut trouble, &stop).await;
        let lost = lost.map_or(spans, |left_out| left_out.items.min(spans));
        metrics::telemetry_sent(D::NAME, "traces", spans - lost);
        dropped(D::NAME, "traces", lost);
    }
}

/// What was left out; nothing when none were taken.
async fn send_some<D: TakesTraces>(
    destination: &D,
    traces: Vec<Tree>,
    trouble: &mut Trouble,
    stop: &CancellationToken,
) -> Option<LeftOut> {
    for attempt in 1..=ATTEMPTS {
        match destination.send(traces.clone()).await {
            Ok(left_out) if left_out.items > 0 => {
                trouble.failed(&format!(
                    "{} spans were left out: {}",
                    left_out.items, left_out.said
                ));
                return Some(left_out);
            }
            Ok(left_out) => {
                trouble.succeeded();
                return Some(left_out);
            }
            Err(NotSent::Ever(error)) => {
                trouble.failed(&error);
                return None;
            }
            Err(NotSent::Now(error)) => trouble.failed(&error),
        }
        if attempt == ATTEMPTS || stop.is_cancelled() {
            break;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PAUSE * 2u32.pow(attempt - 1)) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use opentelemetry::Context;
    use opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::super::spans::{Head, Trees};
    use super::*;

    /// A trace of so many spans.
    fn tree(spans: usize) -> Tree {
        let (queue, mut waiting) = of("test", 10_000);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Head::new(1.0))
            .with_span_processor(Trees::new(vec![queue]))
            .build();
        let tracer = provider.tracer("test");
        let root = Context::new().with_span(tracer.start_with_context("root", &Context::new()));
        for _ in 1..spans {
            drop(tracer.start_with_context("child", &root));
        }
        drop(root);
        waiting.take_now().unwrap()
    }

    /// Refuses the first attempts.
    #[derive(Clone, Default)]
    struct Taker(Arc<Mutex<(u32, Vec<usize>)>>);

    impl TakesTraces for Taker {
        const NAME: &'static str = "test";

        fn address(&self) -> String {
            "a test".into()
        }

        async fn send(&self, traces: Vec<Tree>) -> Result<LeftOut, NotSent> {
            let mut taken = self.0.lock().unwrap();
            if taken.0 > 0 {
                taken.0 -= 1;
                return Err(NotSent::Now("not yet".into()));
            }
            taken.1.push(traces.iter().map(Vec::len).sum());
            Ok(LeftOut::default())
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_what_is_taken_gives_its_room_back() {
        let (queue, mut waiting) = of("test", 5);
        let three = tree(3);
        queue.add(three.clone());
        queue.add(three.clone());
        assert_eq!(waiting.take_now().map(|tree| tree.len()), Some(3));
        assert!(waiting.take_now().is_none());
        queue.add(three);
        assert!(waiting.take_now().is_some());
    }

    #[tokio::test]
    async fn traces_are_sent_together_again_after_a_failure_and_at_the_end() {
        let (queue, waiting) = of("test", 10_000);
        let (taker, stop) = (Taker::default(), CancellationToken::new());
        taker.0.lock().unwrap().0 = 1;
        queue.add(tree(2));
        queue.add(tree(1));
        let sending = tokio::spawn(send(
            taker.clone(),
            waiting,
            Duration::from_millis(50),
            stop.clone(),
        ));
        let deadline = Instant::now() + Duration::from_secs(30);
        while taker.0.lock().unwrap().1 != [3] {
            assert!(Instant::now() < deadline, "{:?}", taker.0.lock().unwrap().1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        queue.add(tree(4));
        stop.cancel();
        sending.await.unwrap();
        assert_eq!(taker.0.lock().unwrap().1, [3, 4]);
    }
}
