//! A command whose output cannot be written has failed; one whose reader has seen enough has not.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use crate::support::{PROJECT, SOON, World};

const COHORT: &str = "33333333-3333-3333-3333-333333333333";
const NO_ROOM: &str = "standard output cannot be written: No space left on device";

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe's end whose reader is gone.
fn broken() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

/// Exit code, and what was said on standard error.
fn printing_to(world: &World, arguments: &[&str], out: impl Into<Stdio>) -> (i32, String) {
    let mut child = world
        .command(arguments, &[])
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let code = ended(&mut child);
    (
        code,
        std::io::read_to_string(child.stderr.take().unwrap()).unwrap(),
    )
}

/// Exit code; -1 when it still runs at the limit.
fn ended(child: &mut Child) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    -1
}

/// Dead letters of one size. Returns their ids.
async fn letters(world: &World, count: usize, bytes: usize) -> Vec<String> {
    let mut pipeline = redis::pipe();
    for _ in 0..count {
        let data = json!({
            "event_id": Uuid::new_v4(), "project_id": PROJECT, "event_name": "e", "distinct_id": "d",
            "timestamp": "2026-11-01T10:00:00.000Z", "properties": "x".repeat(bytes),
        });
        let fields = [
            ("data", data.to_string()),
            ("reason", "clickhouse_unavailable".into()),
        ];
        pipeline.cmd("XADD").arg("events:dlq").arg("*").arg(&fields);
    }
    pipeline.query_async(&mut world.redis.clone()).await.unwrap()
}

/// A person, a cohort, a letter; and every command that prints something of them and should succeed.
async fn everything(world: &World) -> Vec<Vec<String>> {
    let worker = world.worker("w1", &[]);
    world.event("somebody", &[]).await;
    world.settled(SOON).await;
    drop(worker);
    world
        .pg(&format!(
            r#"INSERT INTO users (id, email, password_hash, display_name) VALUES ('{PROJECT}', 'a@b.example', '', '');
             INSERT INTO cohorts (id, project_id, created_by, name, definition)
             VALUES ('{COHORT}', '{PROJECT}', '{PROJECT}', 'c', '{{"type":"AND","values":[]}}')"#
        ))
        .await;
    let letter = letters(world, 1, 10).await.remove(0);
    let events = world.path("events.ndjson");
    let event = json!({"project_id": PROJECT, "event_name": "e", "distinct_id": "d"});
    std::fs::write(&events, format!("{event}\n")).unwrap();
    let definition = world.path("definition.json");
    std::fs::write(&definition, r#"{"type":"AND","values":[]}"#).unwrap();
    let lines = format!(
        "--help
         --version
         dlq list --help
         check
         check --json
         migrate
         migrate --check
         status --limit 60
         status --limit 60 --json
         status --limit 60 --watch
         status --limit 60 --watch --json
         send {events}
         dlq list
         dlq list --json
         dlq show {letter}
         dlq show {letter} --json
         dlq correct {letter} --set url=other --dry-run
         dlq correct {letter} --set url=other --dry-run --json
         dlq replay --dry-run
         dlq replay --dry-run --json
         dlq purge --id {letter} --dry-run
         dlq purge --id {letter} --dry-run --json
         dlq replay --rejected
         dlq purge --event nothing --yes --json
         cohorts list
         cohorts list --json
         cohorts sql {COHORT}
         cohorts recompute {COHORT}
         cohorts members {COHORT}
         cohorts check {definition}
         cohorts check {definition} --json
         projects list
         projects list --json
         projects add another
         person show {PROJECT} somebody
         person show {PROJECT} somebody --json
         person audit
         person audit --json",
        events = events.display(),
        definition = definition.display()
    );
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    lines.lines().map(words).collect()
}

#[tokio::test]
async fn output_that_cannot_be_written_is_a_failure_of_every_command_that_prints() {
    let world = World::start().await;
    let mut wrong = Vec::new();
    for command in everything(&world).await {
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        let (code, said) = printing_to(&world, &arguments, full());
        if code != 1 || !said.contains(NO_ROOM) {
            wrong.push(format!("{command:?}: {code} {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} {wrong:#?}", wrong.len());
}

#[tokio::test]
async fn a_reader_that_has_gone_is_no_failure_of_any_command() {
    let world = World::start().await;
    let mut wrong = Vec::new();
    for command in everything(&world).await {
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        let (code, said) = printing_to(&world, &arguments, broken());
        if code != 0 || !said.is_empty() {
            wrong.push(format!("{command:?}: {code} {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} {wrong:#?}", wrong.len());
}

#[tokio::test]
async fn letters_are_not_purged_after_a_backup_that_found_no_room() {
    let world = World::start().await;
    letters(&world, 5, 10).await;
    let script = "\"$0\" dlq list --json > /dev/full && \"$0\" dlq purge --event e --yes";
    let status = world
        .program("sh", &["-c", script, crate::support::BIN], &[])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(world.length("events:dlq").await, Some(5));
}

/// How often Redis was asked for a part of a stream.
async fn pages_read(world: &World) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut world.redis.clone())
        .await
        .unwrap();
    let calls = info.lines().find_map(|line| {
        let (calls, _) = line.strip_prefix("cmdstat_xrange:calls=")?.split_once(',')?;
        calls.parse().ok()
    });
    calls.unwrap_or(0)
}

#[tokio::test]
async fn a_list_that_is_read_in_part_ends_quietly_and_reads_no_further() {
    let world = World::start().await;
    letters(&world, 3_000, 500).await;
    let list = ["dlq", "list", "--json", "--limit", "0"];
    let none = pages_read(&world).await;
    let whole = world.output(&list, &[]);
    assert_eq!(String::from_utf8(whole.stdout).unwrap().lines().count(), 3_000);
    let all = pages_read(&world).await;
    let mut child = world
        .command(&list, &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(first.contains("event_id"), "{first}");
    assert_eq!(ended(&mut child), 0);
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(said, "");
    let (whole, part) = (all - none, pages_read(&world).await - all);
    assert!(part <= whole / 2, "{part} instead of {whole}");
}

#[tokio::test]
async fn what_a_command_found_wrong_is_its_exit_code_though_nobody_reads_or_hears_it() {
    let world = World::start().await;
    letters(&world, 60, 10).await;
    let away = [("DATABASE_URL", "postgresql://u:p@127.0.0.1:1/x")];
    for (arguments, environment, code) in [
        (&["status"][..], &away[..], 1),
        (&["check"], &away, 1),
        (&["dlq", "show", "1-1"], &[], 1),
        (&["dlq", "purge"], &[], 2),
        (&["dlq", "nonsense"], &[], 2),
        (&["run"], &[("LOG_FORMAT", "x")], 2),
        // It says beside its output that there is more.
        (&["dlq", "list", "--json"], &[], 0),
    ] {
        let status = world
            .command(arguments, environment)
            .stdout(broken())
            .stderr(full())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}: a full disk");
        let status = world
            .command(arguments, environment)
            .stdout(broken())
            .stderr(broken())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}: a reader that is gone");
    }
    let (code, said) = printing_to(&world, &["dlq", "show", "1-1"], full());
    assert!(code == 1 && said.contains("1-1 is not in events:dlq"), "{said}");
}
