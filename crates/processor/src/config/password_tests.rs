//! Passwords in files that change, hang and come back.

use nix::sys::stat::Mode;

use super::*;

#[tokio::test]
async fn a_password_is_what_its_file_says_or_said_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "first").unwrap();
    let password = Password::in_file(path.clone(), "first".into());
    for (written, now) in [
        ("second\n", "second"),
        (" \n", "second"),
        ("third", "third"),
        ("two\nlines", "third"),
    ] {
        std::fs::write(&path, written).unwrap();
        assert_eq!(password.renewed().await, now);
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(password.renewed().await, "third");
    assert_eq!(format!("{password:?}"), "(hidden)");
    let given = Password::from("given".to_owned());
    assert_eq!(
        (given.renewed().await, given.current()),
        ("given".into(), "given".into())
    );
}

#[tokio::test]
async fn what_a_pipe_said_is_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let password = Password::in_file(path, "once".into());
    assert_eq!(password.renewed().await, "once");
    assert!(!password.is_in_file());
}

/// A file that is opened and never read, as on a mount that hangs.
fn hang(path: &std::path::Path) {
    std::fs::remove_file(path).unwrap();
    nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
}

#[tokio::test]
async fn a_file_that_hangs_is_waited_for_once_and_holds_nobody_else_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "first").unwrap();
    let password = Password::in_file(path.clone(), "first".into());
    hang(&path);
    let ticks = tokio::spawn(async {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(50)).await;
        began.elapsed()
    });
    let began = Instant::now();
    let all = futures::future::join_all((0..10).map(|_| password.renewed())).await;
    assert!(all.iter().all(|text| text == "first"));
    assert!(began.elapsed() < LONGEST_READING * 3, "{:?}", began.elapsed());
    assert!(
        ticks.await.unwrap() < LONGEST_READING / 2,
        "the runtime's only thread stood still"
    );
    let began = Instant::now();
    assert_eq!(password.renewed().await, "first");
    assert_eq!(password.recent(), "first");
    assert!(began.elapsed() < LONGEST_READING / 2, "{:?}", began.elapsed());
    // The mount answers again.
    std::fs::write(&path, "second").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while password.current() != "second" {
        assert!(Instant::now() < deadline, "it is never read");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(password.recent(), "second");
}

#[tokio::test]
async fn a_reading_that_hangs_for_good_is_given_up_and_what_it_finds_later_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "first").unwrap();
    let password = Password::in_file(path.clone(), "first".into());
    hang(&path);
    assert_eq!(password.renewed().await, "first");
    // Another mount in its place: nothing ends the reading of the old one.
    let old = folder.path().join("old");
    std::fs::rename(&path, &old).unwrap();
    std::fs::write(&path, "second").unwrap();
    tokio::time::sleep(GIVEN_UP_AFTER / 2).await;
    assert_eq!(password.renewed().await, "first", "it is not given up yet");
    tokio::time::sleep(GIVEN_UP_AFTER / 2).await;
    assert_eq!(password.renewed().await, "second");
    std::fs::write(&old, "late").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !password.0.last().readings.is_empty() {
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(password.current(), "second");
}

#[test]
fn readings_that_hang_are_begun_ever_more_rarely_and_never_more_than_some() {
    let password = Password::from("first".to_owned());
    let mut last = password.0.last();
    let mut now = Instant::now();
    assert!(last.begin(now).is_some());
    for hanging in 1..MOST_READINGS as u32 {
        let patience = GIVEN_UP_AFTER * hanging;
        now += patience.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(last.begin(now), None, "{hanging} hang");
        now += Duration::from_millis(1);
        assert!(last.begin(now).is_some(), "{hanging} hang");
    }
    assert_eq!(last.begin(now + Duration::from_hours(24)), None);
}

#[tokio::test]
async fn a_request_looks_at_the_file_now_and_then_and_waits_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "second").unwrap();
    let password = Password::in_file(path, "first".into());
    for _request in 0..1000 {
        assert_eq!(password.recent(), "first", "the last look is new");
    }
    let deadline = Instant::now() + LOOK_EVERY + Duration::from_secs(10);
    while password.recent() != "second" {
        assert!(Instant::now() < deadline, "it is never looked at");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn no_password_that_was_used_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let password = Password::of(Some(path.clone()), "hunter".into());
    for next in ["hunter2", "", "swordfish"] {
        std::fs::write(&path, next).unwrap();
        password.renewed().await;
    }
    let said = password.hidden_in("not hunter2, not hunter, not swordfish");
    assert_eq!(said, "not ***, not ***, not ***");
    assert_eq!(Password::from(String::new()).hidden_in("nothing"), "nothing");
}
