//! Secrets that stand in files.

use std::time::{Duration, Instant};

use crate::support::letters::QUICK;
use crate::support::{SOON, Worker, World, ask, eventually};

#[tokio::test]
async fn urls_and_passwords_are_read_from_files_as_orchestrators_mount_them() {
    let world = World::start().await;
    let environment: std::collections::BTreeMap<String, String> = world.stack.env().into_iter().collect();
    let file = |name: &str, text: &str| {
        let path = world.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut redis = world.redis.clone();
    let user = ["ACL", "SETUSER", "worker", "on", ">hunter2", "~*", "&*", "+@all"];
    let mut command = redis::cmd(user[0]);
    command
        .arg(&user[1..])
        .query_async::<()>(&mut redis)
        .await
        .unwrap();
    let at = world
        .stack
        .redis_url()
        .unwrap()
        .replace("redis://", "redis://worker:@");
    let files = [
        ("REDIS_URL_FILE", file("redis", &format!("{at}\n"))),
        ("REDIS_PASSWORD_FILE", file("password", "hunter2\n")),
        (
            "DATABASE_URL_FILE",
            file("database", &environment["DATABASE_URL"]),
        ),
        (
            "CLICKHOUSE_URL_FILE",
            file("clickhouse", &format!("  {}\n", environment["CLICKHOUSE_URL"])),
        ),
        (
            "CLICKHOUSE_PASSWORD_FILE",
            file("engine", &environment["CLICKHOUSE_PASSWORD"]),
        ),
        ("PROCESSOR_ENV", "production".to_owned()),
    ];
    // Empty is unset: only the files are left.
    let unset = [
        "REDIS_URL",
        "DATABASE_URL",
        "CLICKHOUSE_URL",
        "CLICKHOUSE_PASSWORD",
    ];
    let mut all: Vec<(&str, &str)> = unset.iter().map(|name| (*name, "")).collect();
    all.extend(files.iter().map(|(name, value)| (*name, value.as_str())));
    let (fine, said) = world.check(&all);
    assert!(fine && !said.contains("hunter2"), "{said}");
    let worker = world.worker("a", &all);
    let sent = world.load(50, 5).await;
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    assert!(!worker.log().contains("hunter2"));
    wrong_files(&world, &all, &at);
}

fn wrong_files(world: &World, all: &[(&str, &str)], at: &str) {
    for (name, value, words) in [
        ("REDIS_URL", at, ["REDIS_URL_FILE", "only one of"]),
        (
            "CLICKHOUSE_PASSWORD",
            "x",
            ["CLICKHOUSE_PASSWORD_FILE", "only one of"],
        ),
        (
            "DATABASE_URL_FILE",
            "/does/not/exist",
            ["DATABASE_URL_FILE", "No such file"],
        ),
        (
            "REDIS_PASSWORD_FILE",
            "/dev/null",
            ["REDIS_PASSWORD_FILE", "it is empty"],
        ),
    ] {
        let mut wrong = all.to_vec();
        wrong.retain(|(other, _)| *other != name);
        wrong.push((name, value));
        let output = world.output(&["check"], &wrong);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
    }
    let both = world.path("with a password");
    std::fs::write(&both, at.replace("worker:@", "worker:hunter2@")).unwrap();
    let mut wrong = all.to_vec();
    wrong.retain(|(name, _)| *name != "REDIS_URL_FILE");
    wrong.push(("REDIS_URL_FILE", both.to_str().unwrap()));
    let output = world.output(&["check"], &wrong);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("REDIS_PASSWORD_FILE") && !said.contains("hunter2"),
        "{said}"
    );
}

#[tokio::test]
async fn a_file_that_hangs_at_the_start_is_named_after_some_seconds() {
    let world = World::start().await;
    let hanging = world.path("hanging");
    nix::unistd::mkfifo(&hanging, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let hanging = hanging.to_str().unwrap();
    for command in ["run", "check", "status"] {
        let began = Instant::now();
        let output = world.output(&[command], &[("REDIS_PASSWORD_FILE", hanging)]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(
            said.contains("REDIS_PASSWORD_FILE")
                && said.contains(hanging)
                && said.contains("is not read within"),
            "{command}: {said}"
        );
        assert!(began.elapsed() < SOON, "{command}: {:?}", began.elapsed());
    }
}

/// Waits until the log says these words.
async fn says(worker: &Worker, words: &str) {
    eventually(words, SOON, async || worker.log().contains(words)).await;
}

#[tokio::test]
async fn a_password_of_redis_that_is_replaced_is_used_without_a_restart() {
    let world = World::start().await;
    let file = world.path("password");
    let replaced = async |password: &str| {
        let reset = format!(">{password}");
        let user = [
            "SETUSER",
            "worker",
            "on",
            "resetpass",
            &reset,
            "~*",
            "&*",
            "+@all",
        ];
        let () = ask(&world, "ACL", &user).await;
        let _cut: u64 = ask(&world, "CLIENT", &["KILL", "USER", "worker"]).await;
    };
    replaced("hunter1").await;
    std::fs::write(&file, "hunter1").unwrap();
    let url = world.stack.redis_url().unwrap();
    let url = url.replace("redis://", "redis://worker:@");
    let environment = [
        ("REDIS_URL", url.as_str()),
        ("REDIS_PASSWORD_FILE", file.to_str().unwrap()),
    ];
    let mut worker = world.worker("a", &environment);
    let mut sent = world.load(50, 5).await;
    world.settled(SOON).await;
    // The server has it first: until the file has it too, nobody is let in.
    replaced("hunter2").await;
    sent.extend(world.load(50, 5).await);
    says(&worker, "reading failed").await;
    std::fs::write(&file, "hunter2\n").unwrap();
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    says(&worker, "a password has changed").await;
    assert!(
        worker.is_running() && !worker.log().contains("hunter"),
        "{}",
        worker.log()
    );
}

#[tokio::test]
async fn a_password_of_clickhouse_that_is_replaced_is_used_without_a_restart() {
    let world = World::start().await;
    let file = world.path("password");
    std::fs::write(&file, "hunter1").unwrap();
    let environment = [
        ("CLICKHOUSE_PASSWORD", ""),
        ("CLICKHOUSE_PASSWORD_FILE", file.to_str().unwrap()),
        QUICK,
    ];
    let mut worker = world.worker("a", &environment);
    says(&worker, "the file that CLICKHOUSE_PASSWORD_FILE names").await;
    // The engine at hand has one password for as long as it runs: it is the file that comes later than the server, twice.
    std::fs::write(&file, "qurvo_secret").unwrap();
    let mut sent = world.load(50, 5).await;
    world.settled(SOON).await;
    std::fs::write(&file, "hunter2").unwrap();
    // The file is looked at every few seconds.
    eventually("an insert is refused", SOON, async || {
        sent.extend(world.load(50, 5).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        worker.log().contains("inserting events")
    })
    .await;
    std::fs::write(&file, "qurvo_secret").unwrap();
    world.settled(SOON).await;
    world.holds_exactly(&sent).await;
    says(&worker, "the password that has changed was accepted").await;
    assert!(
        worker.is_running() && !worker.log().contains("hunter"),
        "{}",
        worker.log()
    );
}

#[tokio::test]
async fn advice_about_a_password_names_the_file_that_it_came_from() {
    let world = World::start().await;
    let file = |name: &str, text: &str| {
        let path = world.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let port = |service: &embedded_stack::Service| service.port().to_string();
    let redis = port(world.stack.redis().unwrap());
    let postgres = port(world.stack.postgres().unwrap());
    let database = format!("postgresql://nobody:hunter2@127.0.0.1:{postgres}/qurvo_analytics");
    for (unset, variable, value) in [
        (
            "REDIS_URL",
            "REDIS_URL_FILE",
            file("redis", &format!("redis://:hunter2@127.0.0.1:{redis}")),
        ),
        ("", "REDIS_PASSWORD_FILE", file("password", "hunter2")),
        ("DATABASE_URL", "DATABASE_URL_FILE", file("database", &database)),
        (
            "CLICKHOUSE_PASSWORD",
            "CLICKHOUSE_PASSWORD_FILE",
            file("clickhouse", "hunter2"),
        ),
    ] {
        let mut environment = vec![(variable, value.as_str())];
        environment.extend((!unset.is_empty()).then_some((unset, "")));
        let (fine, said) = world.check(&environment);
        let advice = format!("the file that {variable} names");
        assert!(!fine && said.contains(&advice), "{variable}: {said}");
        assert!(!said.contains("hunter"), "{variable}: {said}");
    }
}
