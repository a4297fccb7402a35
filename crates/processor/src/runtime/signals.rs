//! The signals that ask this process to stop, and those that must not end it.

use std::future::poll_fn;
use std::io;
use std::sync::mpsc;
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What each asks for is the same: an orderly end, and an end at once when it is the second one.
const STOPS: [(&str, SignalKind); 4] = [
    ("SIGTERM", SignalKind::terminate()),
    ("SIGINT", SignalKind::interrupt()),
    ("SIGHUP", SignalKind::hangup()),
    ("SIGQUIT", SignalKind::quit()),
];
/// SIGXFSZ: a file has reached its limit (`ulimit -f`). The write fails, too, and the writer sees to that.
const FILE_LIMIT: SignalKind = SignalKind::from_raw(25);
/// These end a process that does not handle them, and mean nothing to this one.
const UNHEEDED: [SignalKind; 3] = [
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
    FILE_LIMIT,
];

/// The signals that ask to stop, as they come.
pub(crate) struct Signals {
    stops: Vec<(&'static str, Signal)>,
}

impl Signals {
    fn install() -> io::Result<Self> {
        for kind in UNHEEDED {
            // The handler stays when the stream is dropped.
            drop(signal(kind)?);
        }
        let mut stops = Vec::new();
        for (name, kind) in STOPS {
            // A user who starts a process with `nohup` wants it to outlive the terminal.
            if kind != SignalKind::hangup() || !is_ignored(kind) {
                stops.push((name, signal(kind)?));
            }
        }
        Ok(Self { stops })
    }

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        poll_fn(|context| {
            let came = self
                .stops
                .iter_mut()
                .find_map(|(name, stop)| match stop.poll_recv(context) {
                    Poll::Ready(Some(())) => Some(*name),
                    _ => None,
                });
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Whether the process was started with the signal ignored.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

/// Installs the handlers, and hands the signals to `handle` on a thread and a runtime of its own: no load and no wait
/// of other tasks keeps it from running.
pub(crate) fn watch(handle: impl AsyncFnOnce(Signals) + Send + 'static) -> io::Result<()> {
    let (tell, installed) = mpsc::channel();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || match start() {
            Ok((runtime, signals)) => {
                let _is_waited_for = tell.send(Ok(()));
                runtime.block_on(handle(signals));
            }
            Err(error) => {
                let _is_waited_for = tell.send(Err(error));
            }
        })?;
    installed
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread for signals has ended")))
}

fn start() -> io::Result<(Runtime, Signals)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        Signals::install()?
    };
    Ok((runtime, signals))
}
