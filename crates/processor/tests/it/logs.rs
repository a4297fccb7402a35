//! A log that cannot be written, or that nobody reads, neither stops the worker nor holds it up.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::signals::AT_ONCE;
use crate::support::metrics::{address, number, scrape};
use crate::support::{BIN, SOON, Worker, World, eventually};

/// Longest that an end may take when nothing is held: the drain, and what is allowed for the log.
const AN_END: Duration = Duration::from_secs(15);

/// Starts a worker whose log goes through a pipe.
fn worker_with_pipe(world: &World, environment: &[(&str, &str)]) -> (Worker, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    // The command holds a writer until it is dropped: a reader sees the end only then.
    let mut command = world.command(&["run"], environment);
    (world.spawn("w1", command.stderr(writer)), reader)
}

/// Fills a pipe to its last byte, so that whoever writes waits for the reader.
fn fill(reader: &PipeReader) {
    let mut writer = OpenOptions::new()
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", reader.as_raw_fd()))
        .unwrap();
    for some in [&[b'\n'; 4096][..], b"\n"] {
        while writer.write(some).is_ok() {}
    }
}

/// Its log is not to be read here: what it does is seen by what lands.
async fn beats(worker: &Worker) {
    eventually("the worker lives", SOON, async || worker.lives()).await;
}

async fn lands(world: &World) {
    let sent = world.load(500, 10).await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
}

async fn ends_well(worker: &mut Worker) {
    worker.terminate();
    assert_eq!(worker.ended(AN_END).await.code(), Some(0));
}

async fn lines_lost(address: &str) -> f64 {
    // A process that waits for its log answers nobody.
    let text = tokio::time::timeout(Duration::from_secs(5), scrape(address)).await;
    number(&text.unwrap_or_default(), "log_lines_lost_total").unwrap_or(0.0)
}

/// The numbers in the lines that tell of lost lines.
fn told(log: &str) -> Vec<u64> {
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter_map(|line: serde_json::Value| line["lost"].as_u64())
        .collect()
}

#[tokio::test]
async fn a_full_disk_for_the_log_hinders_neither_the_start_nor_the_work() {
    let world = World::start().await;
    let address = address();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let environment = [("METRICS_LISTEN", address.as_str()), ("LOG_LEVEL", "debug")];
    let mut worker = world.spawn("w1", world.command(&["run"], &environment).stderr(full));
    beats(&worker).await;
    lands(&world).await;
    eventually("lost lines are counted", SOON, async || {
        lines_lost(&address).await >= 1.0
    })
    .await;
    ends_well(&mut worker).await;
}

#[tokio::test]
async fn a_standard_error_that_is_closed_is_nobodys_trouble() {
    let world = World::start().await;
    let mut command = world.program("sh", &["-c", "exec \"$0\" run 2>&-", BIN], &[]);
    let mut worker = world.spawn("w1", &mut command);
    beats(&worker).await;
    lands(&world).await;
    ends_well(&mut worker).await;
}

#[tokio::test]
async fn a_reader_of_the_log_that_goes_away_stops_nothing() {
    let world = World::start().await;
    let (mut worker, reader) = worker_with_pipe(&world, &[("LOG_LEVEL", "debug")]);
    beats(&worker).await;
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    assert!(line.contains("qurvo_processor"), "{line}");
    lands(&world).await;
    ends_well(&mut worker).await;
}

#[tokio::test]
async fn a_reader_of_the_log_that_stands_still_holds_up_neither_the_work_nor_the_end() {
    let world = World::start().await;
    let (mut worker, reader) = worker_with_pipe(&world, &[("LOG_LEVEL", "debug")]);
    beats(&worker).await;
    fill(&reader);
    lands(&world).await;
    ends_well(&mut worker).await;
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once_while_the_reader_of_its_log_stands_still() {
    let world = World::start().await;
    let (mut worker, reader) = worker_with_pipe(&world, &[("LOG_LEVEL", "debug")]);
    world.load(100, 10).await;
    world.settled(SOON).await;
    let blocker = world.pg_client().await;
    blocker.batch_execute("BEGIN; LOCK TABLE persons").await.unwrap();
    fill(&reader);
    world.load(100, 10).await;
    eventually("entries are held", SOON, async || {
        world.unsettled().await.is_some_and(|n| n >= 100)
    })
    .await;
    worker.terminate();
    worker.signal(Signal::SIGINT);
    assert_eq!(worker.ended(AT_ONCE).await.code(), Some(1));
}

#[tokio::test]
async fn a_reader_that_comes_back_is_told_how_many_lines_were_lost_meanwhile() {
    let world = World::start().await;
    let address = address();
    // The libraries' words, too, and every event a batch of its own.
    let environment = [
        ("METRICS_LISTEN", address.as_str()),
        ("LOG_LEVEL", "trace,x=trace"),
        ("PROCESSOR_FLUSH_INTERVAL_MS", "10"),
    ];
    let (mut worker, mut reader) = worker_with_pipe(&world, &environment);
    let (pass, passed) = std::sync::mpsc::channel::<()>();
    let reading = std::thread::spawn(move || {
        // As a shipper does that is held up for a while.
        passed.recv().unwrap();
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        log
    });
    eventually("more lines than are kept have come", 2 * SOON, async || {
        for _ in 0..10 {
            world.event(&uuid::Uuid::new_v4().to_string(), &[]).await;
            world.settled(SOON).await;
        }
        lines_lost(&address).await >= 1.0
    })
    .await;
    pass.send(()).unwrap();
    // What was lost is told once the reader has caught up.
    eventually("lines are read again", SOON, async || {
        let before = lines_lost(&address).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        lines_lost(&address).await <= before
    })
    .await;
    let lost = lines_lost(&address).await as u64;
    ends_well(&mut worker).await;
    let log = reading.join().unwrap();
    assert!(told(&log).iter().sum::<u64>() >= lost, "{lost} {:?}", told(&log));
    assert!(log.contains("stopped: everything held was settled"));
}

#[tokio::test]
async fn a_log_file_at_its_limit_loses_lines_until_there_is_room_again_and_says_how_many() {
    let world = World::start().await;
    let path = world.path("limited.log");
    let script = format!("ulimit -f 16; exec \"$0\" run 2>>{}", path.display());
    let mut command = world.program("sh", &["-c", &script, BIN], &[("LOG_LEVEL", "trace,x=trace")]);
    let mut worker = world.spawn("w1", &mut command);
    let size = |path: &Path| path.metadata().map_or(0, |file| file.len());
    eventually("the file is full", SOON, async || size(&path) >= 8192).await;
    beats(&worker).await;
    lands(&world).await;
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    eventually("the loss is told", SOON, async || {
        let log = std::fs::read_to_string(&path).unwrap();
        told(&log).iter().sum::<u64>() > 0
    })
    .await;
    ends_well(&mut worker).await;
}

#[tokio::test]
async fn the_last_lines_reach_a_log_that_can_be_written_whatever_the_end() {
    let world = World::start().await;
    let mut worker = world.worker("w1", &[]);
    beats(&worker).await;
    ends_well(&mut worker).await;
    let last = worker.log();
    assert!(last.trim_end().ends_with('}'), "{last}");
    assert!(
        last.lines().last().unwrap().contains("stopped: everything"),
        "{last}"
    );
    for (arguments, code, said) in [
        (&["run"][..], 2, "configuration: LOG_FORMAT=x"),
        (&["nonsense"], 2, "unrecognized subcommand"),
    ] {
        let output = world.output(arguments, &[("LOG_FORMAT", "x")]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(code) && text.contains(said),
            "{text}"
        );
    }
    let output = world.output(&["run"], &[("METRICS_LISTEN", "256.0.0.1:1")]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && text.contains("METRICS_LISTEN"),
        "{text}"
    );
}
