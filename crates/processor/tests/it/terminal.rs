//! Texts from outside, full of what steers terminals, shown by every command that shows such texts.

use std::os::unix::ffi::OsStrExt;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{GROUP, PROJECT, SOON, STATUS, STATUS_JSON, STREAM, World, ask, eventually};

/// Colour, window title, DEL, the eight-bit CSI, next line, a carriage return, a line of its own, and characters that turn
/// the direction of what follows.
const EVIL: &str = "EVIL\u{1b}[31mRED\u{1b}]0;owned\u{7}\u{7f}\u{9b}32m\u{85}\u{8}\r\nFAKE line\t\u{202e}\u{2066}\u{2069}\u{2028}end";
const COHORT: &str = "33333333-3333-3333-3333-333333333333";

fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// What is wrong with what a command printed.
fn faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let raw: Vec<char> = text.chars().filter(|c| *c != '\n' && steers(*c)).collect();
    if !raw.is_empty() {
        faults.push(format!("{name}: {} raw, {:?} in {text:?}", raw.len(), raw[0]));
    }
    if text.lines().any(|line| line.starts_with("FAKE")) {
        faults.push(format!("{name}: a line that is not ours in {text:?}"));
    }
    faults
}

fn texts(output: &Output) -> [String; 2] {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap())
}

async fn add(world: &World, stream: &str, fields: &[(&str, &str)]) -> String {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("*");
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    command.query_async(&mut world.redis.clone()).await.unwrap()
}

/// Such texts wherever a store can hold one. Returns the ids of letters.
async fn fill(world: &World) -> Vec<String> {
    let worker = world.worker("w1", &[]);
    let properties = json!({ EVIL: EVIL }).to_string();
    world
        .event(EVIL, &[("event_name", EVIL), ("user_properties", &properties)])
        .await;
    world.identify("user", EVIL).await;
    world.identify(EVIL, "user").await;
    world.event("quiet", &[]).await;
    world.settled(SOON).await;
    drop(worker);
    let client = world.pg_client().await;
    let project: Uuid = PROJECT.parse().unwrap();
    client
        .execute(
            "UPDATE processor_merges SET anonymous_id = $1::text, distinct_id = $1::text, stream_id = $1::text, consumer = $1::text",
            &[&EVIL],
        )
        .await
        .unwrap();
    client
        .execute("UPDATE projects SET name = $1::text", &[&EVIL])
        .await
        .unwrap();
    let definition = json!({"type": "AND", "values": [
        {"type": "person_property", "property": EVIL, "operator": "eq", "value": EVIL}]});
    client
        .execute(
            "INSERT INTO users (id, email, password_hash, display_name) VALUES ($1, 'a@b.example', '', '')",
            &[&project],
        )
        .await
        .unwrap();
    let cohort: Uuid = COHORT.parse().unwrap();
    client
        .execute(
            "INSERT INTO cohorts (id, project_id, created_by, name, definition, errors_calculating, last_error_message)
             VALUES ($1, $2, $2, $3::text, $4::text::jsonb, 3, $3::text)",
            &[&cohort, &project, &EVIL, &definition.to_string()],
        )
        .await
        .unwrap();
    let report = json!({
        "at": 1, "version": EVIL, "roles": [EVIL], "reading": "on", "paused_for_s": null, "stores_away": [EVIL],
        "held_events": 0, "held_bytes": 0, "cohorts": null,
    });
    ask::<redis::Value>(world, "HSET", &["processor:instances", EVIL, &report.to_string()]).await;
    ask::<redis::Value>(world, "HSET", &["processor:instances", "unreadable", EVIL]).await;
    ask::<redis::Value>(world, "XGROUP", &["CREATECONSUMER", STREAM, GROUP, EVIL]).await;
    ask::<redis::Value>(world, "SET", &[&format!("person:{PROJECT}:quiet"), EVIL]).await;
    let data = json!({
        "event_id": EVIL, "project_id": EVIL, "event_name": EVIL, "distinct_id": EVIL, "properties": properties,
    });
    let mut letters = Vec::new();
    for (queue, data) in [("events:dlq", &*data.to_string()), ("events:rejected", EVIL)] {
        let fields = [
            ("data", data),
            ("reason", EVIL),
            ("error", EVIL),
            ("stream", EVIL),
            ("failed_at", EVIL),
            ("attempts", EVIL),
            ("consumer", EVIL),
        ];
        letters.push(add(world, queue, &fields).await);
    }
    letters
}

/// What is run: its arguments, and a variable.
type Command = (Vec<String>, Option<(&'static str, &'static str)>);

/// Every command that shows texts from outside, or what it was given.
fn commands(world: &World, letters: &[String]) -> Vec<Command> {
    let absent = world.path(&EVIL.replace('/', ""));
    let lines = world.path("bad.ndjson");
    std::fs::write(&lines, format!("[[{0},{0}],{0}]\n{{{0}:\n{EVIL}\n", json!(EVIL))).unwrap();
    let (absent, lines) = (absent.display().to_string(), lines.display().to_string());
    let definition = world.path("definition.json");
    std::fs::write(&definition, json!({"type": EVIL, EVIL: 1}).to_string()).unwrap();
    let definition = definition.display().to_string();
    let unknown = format!("{EVIL}?");
    let (field, value) = (format!("{EVIL}=x"), format!("event_name={EVIL}!"));
    let (letter, rejected) = (letters[0].as_str(), letters[1].as_str());
    let plain: &[&[&str]] = &[
        &["dlq", "list"],
        &["dlq", "list", "--json"],
        &["dlq", "list", "--rejected"],
        &["dlq", "list", "--rejected", "--json"],
        &["dlq", "show", letter],
        &["dlq", "show", rejected, "--rejected"],
        &["dlq", "show", EVIL],
        &["dlq", "list", "--project", EVIL],
        &["dlq", "correct", letter, "--set", &field],
        &["dlq", "correct", letter, "--set", &value],
        &["dlq", "correct", letter, "--file", &absent],
        &["dlq", "list", "--older-than", EVIL],
        &["person", "show", PROJECT, EVIL],
        &["person", "show", PROJECT, EVIL, "--json"],
        &["person", "show", PROJECT, "quiet"],
        &["person", "show", PROJECT, "quiet", "--json"],
        &["person", "show", PROJECT, &unknown],
        &["person", "audit"],
        &["person", "audit", "--json"],
        &["cohorts", "list"],
        &["cohorts", "list", "--json"],
        &["cohorts", "sql", COHORT],
        &["cohorts", "members", COHORT],
        &["cohorts", "check", &definition],
        &["cohorts", "check", &definition, "--json"],
        &["cohorts", "check", &absent],
        &["projects", "list"],
        &["projects", "list", "--json"],
        &["projects", "add", "name", "--id", PROJECT],
        &["cohorts", "recompute", EVIL],
        &STATUS,
        &STATUS_JSON,
        &["send", &lines],
        &["send", &absent],
        &["send", &lines, "--stream", EVIL],
        &["send", &lines, "--rebase-to", EVIL],
        &[EVIL],
    ];
    let with_a_variable = [
        ("status", "PROCESSOR_STREAM"),
        ("check", "PROCESSOR_STREAM"),
        ("check", "PROCESSOR_CONSUMER_NAME"),
        ("check", "HEARTBEAT_PATH"),
        ("run", "LOG_FORMAT"),
        ("run", "LOG_LEVEL"),
        ("run", "METRICS_LISTEN"),
        ("run", "PROCESSOR_BATCH_SIZE"),
    ];
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let plain = plain.iter().map(|words| (owned(words), None));
    let with_a_variable = with_a_variable.map(|(command, name)| (owned(&[command]), Some((name, EVIL))));
    let probe = (owned(&["probe", "live"]), Some(("HEARTBEAT_PATH", EVIL)));
    plain.chain(with_a_variable).chain([probe]).collect()
}

#[tokio::test]
async fn nothing_from_outside_steers_the_terminal_of_whoever_runs_a_command() {
    let world = World::start().await;
    let letters = fill(&world).await;
    let commands = commands(&world, &letters);
    let mut wrong = Vec::new();
    for (arguments, variable) in &commands {
        let name = format!("{arguments:?} {variable:?}");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let [out, err] = texts(&world.output(&arguments, variable.as_slice()));
        wrong.extend(faults(&name, &out));
        wrong.extend(faults(&name, &err));
        if !out.contains("EVIL") && !err.contains("EVIL") {
            wrong.push(format!("{name}: shows nothing of it: {out:?} {err:?}"));
        }
        if arguments.contains(&"--json") && serde_json::from_str::<Value>(&out).is_err() {
            wrong.push(format!("{name}: no JSON: {out:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        commands.len()
    );

    // Programs get every text as it is.
    let json = |arguments: &[&str]| -> Value {
        let [out, _] = texts(&world.output(arguments, &[]));
        serde_json::from_str(&out).unwrap()
    };
    let letter = json(&["dlq", "show", &letters[0]]);
    assert_eq!(letter["data"]["event_name"], EVIL);
    assert_eq!(letter["error"], EVIL);
    assert_eq!(json(&["cohorts", "list", "--json"])["name"], EVIL);
    let person = json(&["person", "show", PROJECT, EVIL, "--json"]);
    assert_eq!(person["properties"][EVIL], EVIL);
    assert_eq!(person["distinct_id"], EVIL);
}

#[tokio::test]
async fn a_log_for_people_shows_texts_from_outside_harmless() {
    let world = World::start().await;
    // A stream that is none is complained of by name.
    ask::<redis::Value>(&world, "RPUSH", &[EVIL, "x"]).await;
    for format in ["pretty", "json"] {
        let environment = [
            ("LOG_FORMAT", format),
            ("PROCESSOR_STREAM", EVIL),
            ("LOG_LEVEL", "debug"),
        ];
        let mut worker = world.worker(&format!("w-{format}"), &environment);
        eventually("the stream is complained of", SOON, async || {
            worker.log().contains("EVIL")
        })
        .await;
        worker.terminate();
        let _code = worker.ended(Duration::from_secs(20)).await;
        assert_eq!(faults(format, &worker.log()), [""; 0]);
    }
}

#[test]
fn a_file_name_that_is_no_text_is_shown_too() {
    let name = std::ffi::OsStr::from_bytes(b"/nowhere/EVIL\xff\x1b[31m");
    let output = std::process::Command::new(crate::support::BIN)
        .arg("send")
        .arg(name)
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("EVIL"), "{text:?}");
    assert_eq!(faults("send", &text), [""; 0]);
}
