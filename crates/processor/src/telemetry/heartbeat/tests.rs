//! What stands in the heartbeat's folder, and whose it is.

use std::sync::Arc;

use super::*;
use crate::runtime::gate::Gate;
use crate::runtime::shutdown::Shutdown;

async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A heartbeat every 10 ms, its only pulse, and what keeps that pulse in its list.
fn heartbeat(path: &Path) -> (Heartbeat, Pulse, watch::Sender<Vec<Pulse>>) {
    let pulse = Pulse::new("loop", Duration::ZERO);
    pulse.alive_for(Duration::from_mins(1));
    let (pulses, watched) = watch::channel(vec![pulse.clone()]);
    let life = Life::new(Arc::new(Gate::default()), &Shutdown::default());
    let every = (path.to_owned(), Duration::from_millis(10));
    (Heartbeat::new(every, "w1".into(), watched, life), pulse, pulses)
}

fn beat(path: &Path) -> Option<u128> {
    std::fs::read_to_string(path).ok()?.parse().ok()
}

/// The note of another process, as it stands beside a file.
fn put_note(path: &Path, change: impl FnOnce(&mut Note)) {
    let (heartbeat, _pulse, _pulses) = heartbeat(path);
    let mut note = heartbeat.note();
    note.consumer = "other".into();
    change(&mut note);
    std::fs::write(path_beside(path), serde_json::to_vec(&note).unwrap()).unwrap();
    std::fs::write(path, "5").unwrap();
}

#[tokio::test]
async fn links_that_others_have_put_there_are_replaced_and_never_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("beat");
    let precious = folder.path().join("precious");
    std::fs::write(&precious, "theirs").unwrap();
    for link in ["beat", "beat.tmp"] {
        std::os::unix::fs::symlink(&precious, folder.path().join(link)).unwrap();
    }
    replace(&path, b"ours").await.unwrap();
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "theirs");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "ours");
    assert!(path.symlink_metadata().unwrap().is_file());
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files(), 3, "no draft is left");
    // A folder cannot be replaced by a file.
    let busy = folder.path().join("busy");
    std::fs::create_dir(&busy).unwrap();
    assert!(replace(&busy, b"ours").await.is_err());
    assert_eq!(files(), 4, "no draft is left");
}

#[tokio::test]
async fn beats_while_fresh_stops_while_stale_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("beat");
    std::fs::write(&path, "0").unwrap();
    let (heartbeat, pulse, _pulses) = heartbeat(&path);
    assert!(!path.exists(), "the file of an earlier run must go");
    let stop = CancellationToken::new();
    let task = tokio::spawn(heartbeat.run(stop.clone()));
    wait_for("a first beat", || path.exists()).await;
    pulse.operation_ended();
    wait_for("the note names the loop", || {
        let note = read(&path).unwrap();
        note.is_some_and(|(note, _)| note.silent_loops == ["loop"])
    })
    .await;
    let last = beat(&path).unwrap();
    pulse.alive_for(Duration::from_mins(1));
    wait_for("beats to resume", || beat(&path).is_some_and(|beat| beat > last)).await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_living_neighbours_file_is_left_to_it_until_it_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("beat");
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let neighbour = Process {
        pid: child.id(),
        began: process::began(child.id()),
        ..Process::current()
    };
    put_note(&path, |note| note.process = neighbour);
    let (heartbeat, _pulse, _pulses) = heartbeat(&path);
    let last = heartbeat.last();
    let stop = CancellationToken::new();
    let task = tokio::spawn(heartbeat.run(stop.clone()));
    // It has looked several times by then.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(beat(&path), Some(5), "not refreshed");
    assert_eq!(last.age(), None);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("it is taken over", || beat(&path).is_some_and(|beat| beat > 5)).await;
    wait_for("it knows that it beat", || last.age().is_some()).await;
    stop.cancel();
    task.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_living_neighbours_file_is_not_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("beat");
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let (heartbeat, _pulse, _pulses) = heartbeat(&path);
    let stop = CancellationToken::new();
    let task = tokio::spawn(heartbeat.run(stop.clone()));
    wait_for("a first beat", || path.exists()).await;
    let (mut note, _) = read(&path).unwrap().unwrap();
    note.process.pid = child.id();
    note.process.began = process::began(child.id());
    let theirs = serde_json::to_vec(&note).unwrap();
    // One beat of ours may be under way while it is put there.
    for _try in 0..100 {
        std::fs::write(path_beside(&path), &theirs).unwrap();
        std::fs::write(&path, "5").unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        if beat(&path) == Some(5) {
            break;
        }
    }
    stop.cancel();
    task.await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(beat(&path), Some(5));
    assert_eq!(std::fs::read(path_beside(&path)).unwrap(), theirs);
}

#[test]
fn of_other_hosts_and_containers_the_age_of_their_note_tells() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("beat");
    let me = Process::current();
    let is_us = |held| matches!(owner(&path, &me, held), Owner::Us);
    // A container of the same name that was started again takes its own file up at once.
    put_note(&path, |note| note.process.pid_space.push('x'));
    assert!(is_us(false) && !is_us(true));
    // Another host may still write it.
    put_note(&path, |note| note.process.host.push('x'));
    assert!(matches!(owner(&path, &me, false), Owner::Unknown(_)) && !is_us(true));
    let old = SystemTime::now() - Duration::from_mins(1);
    let file = std::fs::File::options()
        .write(true)
        .open(path_beside(&path))
        .unwrap();
    file.set_modified(old).unwrap();
    assert!(is_us(false) && is_us(true));
    // The machine was started again.
    put_note(&path, |note| note.process.boot.push('x'));
    assert!(is_us(false));
    // No note at all, or none that can be read.
    std::fs::write(path_beside(&path), "5").unwrap();
    assert!(is_us(false) && is_us(true));
}

#[test]
fn a_note_that_is_no_regular_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("beat");
    nix::unistd::mkfifo(&path_beside(&path), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(read(&path).is_err());
    std::fs::remove_file(path_beside(&path)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path_beside(&path)).unwrap();
    assert!(read(&path).is_err());
    // Whoever it is that runs there begins all the same.
    let (_heartbeat, _pulse, _pulses) = heartbeat(&path);
    assert!(path_beside(&path).symlink_metadata().is_err(), "it is removed");
}

#[test]
fn a_file_from_before_the_clock_was_set_back_is_old() {
    let ahead = SystemTime::now() + Duration::from_hours(2);
    assert!(age_of(ahead) > Duration::from_mins(119));
}

#[test]
fn a_file_that_another_container_of_the_same_host_took_is_not_taken_back_while_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("beat");
    let me = Process::current();
    put_note(&path, |note| {
        note.process.pid_space = "another".into();
        note.every_ms = 60_000;
    });
    // What a container that was started again finds of the one before.
    assert!(matches!(owner(&path, &me, false), Owner::Us));
    // What an instance finds that had the file: as often as it looks.
    for _look in 0..2 {
        assert!(matches!(owner(&path, &me, true), Owner::Another(_)));
    }
}

#[tokio::test]
async fn an_instance_that_lost_its_file_leaves_it_to_the_other_for_as_long_as_that_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("beat");
    let (mut heartbeat, _pulse, _pulses) = heartbeat(&path);
    assert!(heartbeat.may_write().await);
    put_note(&path, |note| {
        note.process.pid_space = "another".into();
        note.every_ms = 60_000;
    });
    for _look in 0..3 {
        assert!(!heartbeat.may_write().await);
    }
}
