//! The commands around the worker.

use std::io::Write;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{PROJECT, SOON, World, ask, eventually};

#[tokio::test]
async fn migrating_twice_and_two_at_once_changes_nothing_more() {
    let world = World::start().await;
    let (again, at_once) = (
        world.run(&["migrate"], &[]),
        world.run(&["migrate", "--check"], &[]),
    );
    assert!(again.0 && at_once.0, "{}{}", again.1, at_once.1);
    assert!(!again.1.contains("applied now"), "{}", again.1);
    world
        .pg("UPDATE processor_migrations SET checksum = 'other' WHERE name = '0002_identity'")
        .await;
    let changed = world.run(&["migrate"], &[]);
    assert!(!changed.0 && changed.1.contains("0002_identity"), "{}", changed.1);
}

#[tokio::test]
async fn check_says_what_is_wrong_and_what_to_do() {
    let world = World::start().await;
    let fine = world.check(&[]);
    assert!(fine.0, "{}", fine.1);
    let broken = world.run(
        &["check", "--json"],
        &[("DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/x")],
    );
    assert!(
        !broken.0 && broken.1.contains("check DATABASE_URL"),
        "{}",
        broken.1
    );
    assert!(!broken.1.contains("hunter2"), "{}", broken.1);
    world
        .pg("DELETE FROM processor_migrations WHERE name = '0002_identity'")
        .await;
    let behind = world.check(&[]);
    assert!(
        !behind.0 && behind.1.contains("qurvo-processor migrate"),
        "{}",
        behind.1
    );
}

#[tokio::test]
async fn sent_lines_arrive_as_they_stand_and_bad_ones_are_named() {
    let world = World::start().await;
    let file = world.path("events.ndjson");
    let good = format!(
        r#"{{"event_id":"0b0e5f8e-5a3c-4e2a-9c1d-3a1b2c3d4e5f","project_id":"{PROJECT}","event_name":"$pageview","distinct_id":"d","properties":{{"n":1.50}}}}"#
    );
    std::fs::write(
        &file,
        format!("{good}\nnot json\n[[\"a\",\"1\"],[\"a\",\"2\"]]\n"),
    )
    .unwrap();
    let (ok, text) = world.run(&["send", file.to_str().unwrap()], &[]);
    assert!(!ok, "a bad line makes it fail");
    assert!(
        text.contains("line 2: not a JSON object") && text.contains("sent 2 events"),
        "{text}"
    );
    let _worker = world.worker("w1", &[]);
    world.settled(SOON).await;
    assert_eq!(
        world.ch("SELECT event_type, properties FROM events").await,
        "pageview\t{\"n\":1.50}"
    );
}

#[tokio::test]
async fn a_line_that_is_no_text_is_skipped_by_its_number_and_a_mark_before_the_first_costs_nothing() {
    let world = World::start().await;
    let file = world.path("events.ndjson");
    let event = format!(r#"{{"project_id":"{PROJECT}","event_name":"e","distinct_id":"d"}}"#);
    let mut bytes = format!("\u{feff}{event}\n").into_bytes();
    bytes.extend(b"{\"event_name\":\"\xff\"}\n\n");
    bytes.extend(event.as_bytes());
    std::fs::write(&file, bytes).unwrap();
    let path = file.to_str().unwrap();
    let (ok, text) = world.run(&["send", path], &[]);
    assert!(
        !ok && text.contains("line 2: not UTF-8: skipped") && text.contains("sent 2 events"),
        "{text}"
    );
    assert_eq!(world.length("events:incoming").await, Some(2));
    let (ok, text) = world.run(&["send", path, "--rebase"], &[]);
    assert!(!ok && text.contains("sent 2 events"), "{text}");
    let output = world.output(&["send", path, "--rate", "0"], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(
        world.length("events:incoming").await,
        Some(4),
        "nothing was sent before it was refused"
    );
}

#[tokio::test]
async fn when_sending_ends_early_it_says_how_many_were_sent() {
    let world = World::start().await;
    let mut child = world
        .command(&["send", "-"], &[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let events =
        format!("{{\"project_id\":\"{PROJECT}\",\"event_name\":\"e\",\"distinct_id\":\"d\"}}\n").repeat(1000);
    input.write_all(events.as_bytes()).unwrap();
    eventually("the first thousand is there", SOON, async || {
        world.length("events:incoming").await == Some(1000)
    })
    .await;
    ask::<()>(&world, "CONFIG", &["SET", "maxmemory", "1"]).await;
    input.write_all(events.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(
            "ended early: 1000 events were sent, those up to line 1000; of the 1000 events behind it each"
        ) && said.contains("OOM"),
        "{said}"
    );
}

#[tokio::test]
async fn when_a_signal_ends_sending_it_says_with_which_line_to_go_on() {
    let world = World::start().await;
    let mut child = world
        .command(&["send", "-"], &[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let events =
        format!("{{\"project_id\":\"{PROJECT}\",\"event_name\":\"e\",\"distinct_id\":\"d\"}}\n").repeat(1500);
    input.write_all(events.as_bytes()).unwrap();
    eventually("the first thousand is there", SOON, async || {
        world.length("events:incoming").await == Some(1000)
    })
    .await;
    // What a pipe does not hold was read, after the answer to those that are there.
    input.write_all(&vec![b'\n'; 1 << 18]).unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(
            "SIGINT: ended early: 1000 events were sent, those up to line 1000; go on with line 1001"
        ),
        "{said}"
    );
    drop(input);
}
