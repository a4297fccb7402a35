//! Brings log lines to standard error: a bounded queue, and one thread that writes and is the only one to wait for the
//! reader.
//!
//! A caller that logs never waits and never fails: a line that finds no room, or that cannot be written, is counted and
//! lost. Once lines can be written again, one of them reports how many were lost.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Most bytes of waiting lines: about a thousand lines.
const CAPACITY: usize = 256 << 10;
/// Bytes that a waiting line takes besides its text.
const OVERHEAD: usize = 64;
/// Pause before another attempt at a non-blocking descriptor that has no room.
const NO_ROOM_YET: Duration = Duration::from_millis(10);

/// The log of this process.
pub(crate) static LOG: Log = Log::new();

thread_local! {
    /// Number of lost lines that the line being logged by this thread reports.
    static REPORTING: Cell<u64> = const { Cell::new(0) };
}

/// The queue of lines on their way to standard error.
#[derive(Debug)]
pub struct Log {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    lost: AtomicU64,
    started: Once,
}

#[derive(Debug)]
struct Waiting {
    lines: VecDeque<Line>,
    bytes: usize,
    /// A line has been taken out and is still being written.
    writing: bool,
    /// Lost lines that no line has reported yet.
    unreported: u64,
    /// A line that reports lost ones is on its way: the next report waits until it is written or lost.
    reporting: bool,
}

#[derive(Debug)]
struct Line {
    text: Vec<u8>,
    /// Number of lost lines that it reports.
    reports: u64,
}

impl Log {
    const fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                lines: VecDeque::new(),
                bytes: 0,
                writing: false,
                unreported: 0,
                reporting: false,
            }),
            changed: Condvar::new(),
            lost: AtomicU64::new(0),
            started: Once::new(),
        }
    }

    /// Takes a line, its line break included, to be written when that is possible.
    pub fn line(&'static self, text: &[u8]) {
        self.start();
        self.push(text);
    }

    /// Number of lines that were lost so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Waits until every line has been written or lost, for no longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let busy = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        let _written_or_late = self.changed.wait_timeout_while(self.lock(), limit, busy);
    }

    /// Starts the thread that writes. Without it (the system may refuse another thread) lines wait and are lost.
    fn start(&'static self) {
        self.started.call_once(|| {
            let writer = std::thread::Builder::new().name("log".into());
            let _detached = writer.spawn(|| self.write_to(io::stderr()));
        });
    }

    fn push(&self, text: &[u8]) {
        let reports = REPORTING.get();
        let mut waiting = self.lock();
        // The line that reports lost ones comes from the thread that makes room: there is at most one of them.
        if reports == 0 && waiting.bytes + text.len() + OVERHEAD > CAPACITY {
            waiting.unreported += 1;
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        waiting.bytes += text.len() + OVERHEAD;
        waiting.reporting |= reports > 0;
        waiting.lines.push_back(Line {
            text: text.to_vec(),
            reports,
        });
        self.changed.notify_all();
    }

    /// Writes lines as they come, for ever.
    fn write_to(&self, out: impl Write) -> ! {
        let mut out = Lines { out, torn: false };
        loop {
            let line = self.next();
            let written = out.write(&line.text);
            self.finish(&line, written.is_ok());
        }
    }

    fn next(&self) -> Line {
        let mut waiting = self.lock();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.text.len() + OVERHEAD;
                waiting.writing = true;
                return line;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts a line as written or lost, and logs how many were lost once lines can be written again.
    fn finish(&self, line: &Line, written: bool) {
        let mut waiting = self.lock();
        waiting.reporting &= line.reports == 0;
        if !written {
            waiting.unreported += line.reports.max(1);
            self.lost.fetch_add(u64::from(line.reports == 0), Relaxed);
        } else if waiting.unreported > 0 && !waiting.reporting {
            let lost = std::mem::take(&mut waiting.unreported);
            drop(waiting);
            REPORTING.set(lost);
            tracing::warn!(
                lost,
                "log lines were lost: they could not be written, or not as fast as they came"
            );
            REPORTING.set(0);
            waiting = self.lock();
        }
        waiting.writing = false;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes each line whole or notes that it was cut off.
struct Lines<W> {
    out: W,
    /// The last line was cut off: a line break has to come before the next one.
    torn: bool,
}

impl<W: Write> Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            write_whole(&mut self.out, b"\n").map_err(|(error, _)| error)?;
            self.torn = false;
        }
        write_whole(&mut self.out, line).map_err(|(error, written)| {
            self.torn = written > 0;
            error
        })
    }
}

/// Writes all bytes, also to a descriptor that another program has made non-blocking. A failure comes with the number of
/// bytes that were written before.
pub(crate) fn write_whole(out: &mut impl Write, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return Err((ErrorKind::WriteZero.into(), written)),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(NO_ROOM_YET),
            Err(error) => return Err((error, written)),
        }
    }
    Ok(())
}

/// What the subscriber writes to. It writes each line with one call.
#[derive(Debug, Clone, Copy)]
pub struct Writer(&'static Log);

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for &'static Log {
    type Writer = Writer;

    fn make_writer(&self) -> Writer {
        Writer(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    /// A disk, or a reader: what it is to do with what is written, and what it has received.
    #[derive(Debug, Default)]
    struct Disk {
        text: Vec<u8>,
        /// Bytes for which there is room.
        room: usize,
        /// Writes that find it busy.
        busy: usize,
    }

    #[derive(Debug, Clone, Default)]
    struct Shared(Arc<Mutex<Disk>>);

    impl Shared {
        fn has_room(&self, room: usize) {
            self.0.lock().unwrap().room = room;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().text.clone()).unwrap()
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            if disk.busy > 0 {
                disk.busy -= 1;
                return Err(ErrorKind::WouldBlock.into());
            }
            if disk.room == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(disk.room);
            disk.room -= taken;
            disk.text.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A log that is written to `out` by a thread of its own.
    fn log_to(out: impl Write + Send + 'static) -> &'static Log {
        let log: &'static Log = Box::leak(Box::new(Log::new()));
        log.started.call_once(|| {});
        std::thread::spawn(move || {
            let subscriber = tracing_subscriber::fmt().json().with_writer(log).finish();
            tracing::subscriber::with_default(subscriber, || log.write_to(out));
        });
        log
    }

    /// The numbers of lost lines that a log reports.
    fn reported(text: &str) -> Vec<u64> {
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter_map(|line: serde_json::Value| line["fields"]["lost"].as_u64())
            .collect()
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn lines_that_cannot_be_written_are_lost_and_reported_later() {
        let disk = Shared::default();
        let log = log_to(disk.clone());
        for _ in 0..7 {
            log.line(b"lost\n");
        }
        log.flush(SOON);
        assert_eq!((log.lost(), disk.text().as_str()), (7, ""));
        // The line that reports them finds no room either.
        disk.has_room(6);
        log.line(b"short\n");
        log.flush(SOON);
        assert_eq!((log.lost(), disk.text().as_str()), (7, "short\n"));
        disk.has_room(10_000);
        log.line(b"kept\n");
        log.line(b"kept, too\n");
        log.flush(SOON);
        let text = disk.text();
        assert!(
            text.starts_with("short\nkept\n") && text.contains("kept, too\n"),
            "{text}"
        );
        assert_eq!((log.lost(), reported(&text)), (7, vec![7]), "{text}");
    }

    #[test]
    fn a_line_that_was_cut_off_is_not_continued_by_the_next() {
        let disk = Shared::default();
        let log = log_to(disk.clone());
        disk.has_room(4);
        log.line(b"cut off\n");
        log.flush(SOON);
        disk.has_room(10_000);
        log.line(b"whole\n");
        log.flush(SOON);
        assert!(disk.text().starts_with("cut \nwhole\n"), "{}", disk.text());
        assert_eq!(reported(&disk.text()), [1]);
    }

    #[test]
    fn a_descriptor_that_somebody_made_non_blocking_gets_everything() {
        let disk = Shared::default();
        *disk.0.lock().unwrap() = Disk {
            room: 10_000,
            busy: 3,
            ..Disk::default()
        };
        let log = log_to(disk.clone());
        log.line(b"line\n");
        log.flush(SOON);
        assert_eq!((log.lost(), disk.text().as_str()), (0, "line\n"));
    }

    /// Blocks until a message says to go on.
    struct Still(mpsc::Receiver<()>, Shared);

    impl Write for Still {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _until_the_test_says_so = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_costs_a_bounded_memory_and_nobodys_time() {
        let (go_on, still) = mpsc::channel();
        let disk = Shared::default();
        disk.has_room(usize::MAX);
        let log = log_to(Still(still, disk.clone()));
        let line = [[b'x'; 199].as_slice(), b"\n"].concat();
        let sent = 2 * CAPACITY / line.len();
        for _ in 0..sent {
            log.line(&line);
        }
        log.flush(Duration::from_millis(1));
        let lost = log.lost();
        assert!(log.lock().bytes <= CAPACITY, "{}", log.lock().bytes);
        assert!(lost > 0 && lost < sent as u64, "{lost} of {sent}");
        drop(go_on);
        log.flush(SOON);
        let text = disk.text();
        assert_eq!(
            text.lines().filter(|line| line.starts_with('x')).count() as u64,
            sent as u64 - lost
        );
        assert_eq!(reported(&text), [lost]);
    }
}
