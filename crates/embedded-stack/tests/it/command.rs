//! The program `embedded-stack`.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{append, processes_of, stream_length};

/// A data folder whose services are stopped at the test's end, however it ends.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embedded-stack"));
        command.args([name, "--data"]).arg(self.path());
        command
            .env_remove("REDIS_URL")
            .env_remove("DATABASE_URL")
            .env_remove("CLICKHOUSE_URL");
        command
    }

    fn run(&self, name: &str) -> Output {
        self.command(name).output().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.run("down");
    }
}

fn out(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn exported(text: &str, name: &str) -> String {
    let prefix = format!("export {name}='");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(&prefix)?.strip_suffix('\''));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

#[tokio::test]
async fn up_twice_is_quick_and_down_leaves_nothing() {
    let folder = Folder::new();
    let first = out(&folder.run("up"));
    append(&exported(&first, "REDIS_URL"), "kept").await;

    let began = Instant::now();
    let second = out(&folder.run("up"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(first, second);
    assert_eq!(out(&folder.run("env")), first);
    assert!(folder.run("status").status.success());

    assert!(!processes_of(folder.path()).is_empty());
    assert!(folder.run("down").status.success());
    assert_eq!(processes_of(folder.path()), [0; 0]);
    assert!(!folder.run("status").status.success());

    let third = out(&folder.run("up"));
    assert_eq!(stream_length(&exported(&third, "REDIS_URL")).await, 1);
}

#[test]
fn a_service_whose_url_is_set_is_used_and_not_started() {
    let folder = Folder::new();
    let mut command = folder.command("up");
    command.env("DATABASE_URL", "postgresql://somebody@elsewhere/it's");
    command
        .env("CLICKHOUSE_URL", "http://elsewhere:8123")
        .env("CLICKHOUSE_DB", "theirs");
    let output = command.output().unwrap();
    let text = out(&output);
    assert!(
        text.contains(r"export DATABASE_URL='postgresql://somebody@elsewhere/it'\''s'"),
        "{text}"
    );
    assert_eq!(exported(&text, "CLICKHOUSE_DB"), "theirs");
    assert!(
        !String::from_utf8_lossy(&output.stderr).contains("somebody"),
        "a URL may hold a password"
    );
    assert_eq!(processes_of(folder.path()).len(), 1, "Redis alone");
}

#[test]
fn urls_printed_earlier_do_not_count_as_somebody_elses() {
    let folder = Folder::new();
    let elsewhere = |command: &mut Command| {
        command
            .env("DATABASE_URL", "postgresql://elsewhere/it")
            .env("CLICKHOUSE_URL", "http://elsewhere:8123");
    };
    let mut first = folder.command("up");
    elsewhere(&mut first);
    let url = exported(&out(&first.output().unwrap()), "REDIS_URL");
    assert!(folder.run("down").status.success());

    let mut second = folder.command("up");
    elsewhere(&mut second);
    assert_eq!(
        exported(
            &out(&second.env("REDIS_URL", &url).output().unwrap()),
            "REDIS_URL"
        ),
        url
    );
    assert_eq!(processes_of(folder.path()).len(), 1, "Redis runs again");
}

#[test]
fn remove_leaves_neither_processes_nor_data() {
    let folder = Folder::new();
    out(&folder.run("up"));
    assert!(folder.run("remove").status.success());
    assert_eq!(processes_of(folder.path()), [0; 0]);
    assert!(!folder.path().exists());
}

#[test]
fn with_runs_a_command_on_a_private_stack_and_ends_as_it_does() {
    let folder = Folder::new();
    let script = "test -n \"$REDIS_URL\" && test -z \"$CLICKHOUSE_URL\" && exit 7";
    let mut command = folder.command("with");
    let output = command
        .args(["--only", "redis", "--", "sh", "-c", script])
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_wrong_command_line_ends_with_code_two() {
    let folder = Folder::new();
    assert_eq!(folder.run("sideways").status.code(), Some(2));
}

#[test]
fn a_cluster_comes_up_goes_down_and_keeps_what_it_has() {
    let folder = Folder::new();
    let up = || {
        let mut command = folder.command("up");
        command.args(["--cluster", "--no-fsync", "--free-ports"]);
        // Nothing but Redis is started here.
        command
            .env("DATABASE_URL", "postgresql://elsewhere")
            .env("CLICKHOUSE_URL", "http://elsewhere");
        exported(&out(&command.output().unwrap()), "REDIS_URL")
    };
    let url = up();
    let nodes: Vec<&str> = url.strip_prefix("redis-cluster://").unwrap().split(',').collect();
    assert_eq!(nodes.len(), 6, "{url}");
    assert!(nodes.iter().all(|node| node.starts_with("127.0.0.1:")), "{url}");
    assert_eq!(up(), url, "it is there already");
    assert_eq!(processes_of(folder.path()).len(), 6);

    let said = String::from_utf8(folder.run("down").stderr).unwrap();
    assert_eq!(said, "Redis stopped\n");
    assert_eq!(processes_of(folder.path()), [0; 0]);
    assert_eq!(up(), url);
}
