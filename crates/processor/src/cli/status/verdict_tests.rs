//! Whether it keeps up, as people and programs are told.

use super::facts::{Instance, Level, RedisFacts, StoreState};
use super::history::Trend;
use super::samples::{consuming, everything, paused_for, store, working};
use super::verdict::of;
use crate::runtime::instances::Presence;
use crate::runtime::streams::Streams;

fn answer(redis: &RedisFacts, reachable: [bool; 3], trend: Option<(f64, f64)>) -> (Level, String) {
    let names = ["Redis", "PostgreSQL", "ClickHouse"];
    let stores = [0, 1, 2].map(|index| store(names[index], reachable[index]));
    let trend = trend.map(|(came, settled)| Trend {
        came,
        settled,
        unread: came - settled,
    });
    let said = of(redis, [&stores[0], &stores[1], &stores[2]], trend);
    (said.level, format!("{}: {}", said.answer, said.because))
}

const ALL: [bool; 3] = [true; 3];

#[test]
fn it_says_whether_it_keeps_up_and_what_it_waits_for() {
    let quiet = everything(0, 0, vec![consuming("a")]);
    let behind = everything(
        50_000,
        1_000,
        vec![working("a", "land", 0.97), working("b", "land", 0.95)],
    );
    for (redis, trend, said) in [
        (&quiet, None, (Level::Fine, "keeps up: 0 unread, 0 pending")),
        (
            &quiet,
            Some((1_200.0, 1_198.0)),
            (
                Level::Fine,
                "keeps up: 1,200/s come, 1,198/s settle; 0 unread, 0 pending",
            ),
        ),
        (
            &behind,
            None,
            (
                Level::Look,
                "behind: 50,000 unread, 1,000 pending; waits for ClickHouse (land busy 96%)",
            ),
        ),
        (
            &behind,
            Some((1_000.0, 6_000.0)),
            (
                Level::Look,
                "catches up: 50,000 unread, done in 10 s; 1,000/s come, 6,000/s settle",
            ),
        ),
        (
            &behind,
            Some((3_000.0, 1_000.0)),
            (
                Level::Wrong,
                "falls behind: 50,000 unread, 3,000/s come, 1,000/s settle; waits for ClickHouse (land busy 96%); ingest refuses in 7 min 4 s",
            ),
        ),
        (
            &behind,
            Some((3_000.0, 3_001.0)),
            (
                Level::Look,
                "stays behind: 50,000 unread, 1,000 pending; 3,000/s come, 3,001/s settle; waits for ClickHouse (land busy 96%)",
            ),
        ),
    ] {
        assert_eq!(answer(redis, ALL, trend), (said.0, said.1.to_owned()));
    }
}

#[test]
fn what_keeps_everybody_from_reading_comes_first() {
    let nobody = everything(5, 0, Vec::new());
    let paused = everything(7_009, 10, vec![paused_for("a", 27, &["ClickHouse"])]);
    let half = everything(
        7_009,
        10,
        vec![paused_for("a", 27, &["ClickHouse"]), consuming("b")],
    );
    for (redis, reachable, said) in [
        (
            &nobody,
            ALL,
            "nobody reads: no living instance consumes; 5 unread, 0 pending",
        ),
        (
            &paused,
            ALL,
            "paused: waits for ClickHouse, for 27 s; 7,009 unread, 10 pending",
        ),
        (
            &half,
            [true, true, false],
            "a store is silent: no answer from ClickHouse to this viewer; 7,009 unread, 10 pending",
        ),
        (
            &paused,
            [false, true, true],
            "nobody knows: Redis does not answer: the streams are as they were",
        ),
    ] {
        assert_eq!(answer(redis, reachable, None), (Level::Wrong, said.to_owned()));
    }
}

#[test]
fn an_instance_that_cannot_use_a_store_until_somebody_acts_never_keeps_up() {
    let needs = |name: &str, advice: &str| {
        let mut instance = consuming(name);
        let report = instance.report.as_mut().unwrap();
        report.needs_operator = [("Redis".to_owned(), advice.to_owned())].into();
        instance
    };
    let mut dead = needs("d", "mend the password");
    dead.presence = Presence::Dead;
    let mut redis = everything(
        0,
        30,
        vec![
            needs("a", "give it the right"),
            needs("b", "give it the right"),
            consuming("c"),
            dead,
        ],
    );
    // What nobody reads for that reason is not said instead.
    redis.streams[0].readers = Some(Vec::new());
    assert_eq!(
        answer(&redis, ALL, None),
        (
            Level::Wrong,
            "an operator has to act: a, b cannot use Redis: give it the right; 0 unread, 30 pending"
                .to_owned()
        )
    );
}

#[test]
fn what_an_instance_said_long_ago_is_not_believed_although_it_lives() {
    let mute = |seconds: u64| {
        let mut instance = working("a", "land", 0.1);
        instance.silent_for_s = Some(seconds);
        answer(&everything(0, 49, vec![instance]), ALL, None)
    };
    assert_eq!(mute(15).0, Level::Fine);
    assert_eq!(
        mute(16),
        (
            Level::Wrong,
            "nobody knows: a lives and has not reported for 16 s: its log and `probe ready` there say why; 0 unread, 49 pending"
                .to_owned()
        )
    );
}

#[test]
fn instances_that_do_not_say_how_they_work_are_no_proof_of_anything() {
    let mut redis = everything(50_000, 0, vec![consuming("a")]);
    let (level, said) = answer(&redis, ALL, None);
    assert_eq!(level, Level::Look);
    assert!(
        said.ends_with("its instances do not say what they wait for"),
        "{said}"
    );
    redis.streams[0].lag = None;
    assert_eq!(answer(&redis, ALL, None).0, Level::Look);
}

#[test]
fn a_stream_that_nobody_reads_and_instances_that_do_not_work_are_said() {
    let mut redis = everything(7, 0, vec![consuming("a")]);
    redis.streams[0].readers = Some(Vec::new());
    assert_eq!(
        answer(&redis, ALL, None),
        (
            Level::Wrong,
            "a stream is not read: no living instance reads events:incoming; 7 unread, 0 pending".to_owned()
        )
    );
    let mut stalled = consuming("b");
    stalled.presence = Presence::Stalled;
    assert_eq!(
        answer(&everything(0, 0, vec![consuming("a"), stalled]), ALL, None),
        (
            Level::Look,
            "keeps up: 0 unread, 0 pending; without b (stalled)".to_owned()
        )
    );
}

#[test]
fn what_has_waited_for_long_is_not_on_its_way_however_little_it_is() {
    let late = |instances: Vec<Instance>, age: u64| {
        let mut redis = everything(7, 0, instances);
        redis.streams[0].lag_s = Some(age);
        redis
    };
    let up_for = |up_s: u64, held_events: usize| {
        let mut instance = working("a", "land", 0.9);
        let report = instance.report.as_mut().unwrap();
        report.held_events = held_events;
        let work = report.work.as_mut().unwrap();
        (work.settled_per_s, work.up_s) = (0.0, up_s);
        instance
    };
    let idle = |held_events| up_for(900, held_events);
    let said = "7 unread, 0 pending, the oldest unread for 12 min";
    for (redis, trend, level, told) in [
        (
            late(vec![idle(0)], 29),
            None,
            Level::Fine,
            "keeps up: 7 unread, 0 pending".to_owned(),
        ),
        (
            late(vec![idle(0)], 720),
            None,
            Level::Wrong,
            format!("stands still: living instances hold nothing and settle nothing; {said}"),
        ),
        (
            late(vec![idle(0)], 720),
            Some((0.0, 0.0)),
            Level::Wrong,
            format!("stands still: living instances hold nothing and settle nothing; {said}"),
        ),
        (
            late(vec![idle(5)], 720),
            None,
            Level::Look,
            format!("behind: {said}; waits for ClickHouse (land busy 90%)"),
        ),
        (
            late(vec![up_for(29, 0)], 720),
            None,
            Level::Look,
            format!("behind: {said}; waits for ClickHouse (land busy 90%)"),
        ),
        (
            late(vec![idle(0), consuming("b")], 720),
            None,
            Level::Look,
            format!("behind: {said}; waits for ClickHouse (land busy 90%)"),
        ),
        (
            late(vec![consuming("a")], 720),
            Some((10.0, 10.0)),
            Level::Look,
            format!(
                "stays behind: {said}; 10/s come, 10/s settle; its instances do not say what they wait for"
            ),
        ),
    ] {
        assert_eq!(answer(&redis, ALL, trend), (level, told));
    }
}

#[test]
fn what_waits_for_the_streams_that_come_first_is_held_back() {
    let mut instance = consuming("a");
    instance.report.as_mut().unwrap().streams = Some(Streams {
        list: vec!["old".into(), "events:incoming".into()],
        shared: false,
        first: Some(vec!["old".into()]),
    });
    let mut redis = everything(7, 0, vec![instance]);
    redis.streams[0].lag_s = Some(720);
    let mut old = everything(3, 0, vec![consuming("a")]).streams.remove(0);
    (old.name, old.lag_s) = ("old".into(), Some(2));
    redis.streams.push(old);
    let (level, said) = answer(&redis, ALL, None);
    assert_eq!(level, Level::Look);
    assert!(
        said.starts_with("held back: ") && said.ends_with("(PROCESSOR_STREAM_FIRST), old"),
        "{said}"
    );
    redis.streams[1].lag_s = Some(700);
    assert!(answer(&redis, ALL, None).1.starts_with("behind: "));
}

#[test]
fn instances_that_died_without_a_successor_are_wrong_and_those_that_ended_are_not() {
    let gone = |presence| {
        let mut instance = consuming("a");
        instance.presence = presence;
        everything(0, 0, vec![instance])
    };
    for (presence, level, said) in [
        (
            Presence::Dead,
            Level::Wrong,
            "nobody reads: no living instance consumes; nothing waits; without a (dead)",
        ),
        (
            Presence::Stalled,
            Level::Wrong,
            "nobody reads: no living instance consumes; nothing waits; without a (stalled)",
        ),
        (
            Presence::Ended,
            Level::Look,
            "nobody reads: no living instance consumes; nothing waits",
        ),
    ] {
        assert_eq!(answer(&gone(presence), ALL, None), (level, said.to_owned()));
    }
    let mut unknown = gone(Presence::Dead);
    unknown.streams[0].lag = None;
    assert_eq!(answer(&unknown, ALL, None).0, Level::Wrong, "whatever waits");
}

#[test]
fn a_stream_without_a_reader_is_told_before_anything_waits_in_it() {
    let mut instance = consuming("a");
    instance.report.as_mut().unwrap().streams = Some(Streams {
        list: vec!["events:incoming".into()],
        shared: true,
        first: Some(Vec::new()),
    });
    let mut redis = everything(0, 0, vec![instance]);
    assert_eq!(answer(&redis, ALL, None).0, Level::Fine);
    redis.streams[0].readers = Some(Vec::new());
    let said = "a stream has no reader: no living instance reads events:incoming, where nothing has waited for long; 0 unread, 0 \
                pending";
    assert_eq!(answer(&redis, ALL, None), (Level::Look, said.to_owned()));
    redis.instances.as_mut().unwrap()[0]
        .report
        .as_mut()
        .unwrap()
        .streams = None;
    assert_eq!(
        answer(&redis, ALL, None).0,
        Level::Fine,
        "an older version does not say it"
    );
}

#[test]
fn a_store_that_refuses_this_command_is_not_called_silent() {
    let half = everything(7_009, 10, vec![consuming("a")]);
    let [fine, away] = ["PostgreSQL", "ClickHouse"].map(|name| store(name, name == "PostgreSQL"));
    let refusing = |name| StoreState {
        refuses: true,
        ..store(name, false)
    };
    let said = of(&half, [&refusing("Redis"), &fine, &away], None);
    assert_eq!(
        said.because,
        "Redis refuses this command: the streams are as they were"
    );
    let said = of(
        &half,
        [&store("Redis", true), &refusing("PostgreSQL"), &away],
        None,
    );
    assert_eq!(
        said.because,
        "no answer from ClickHouse to this viewer; this viewer is refused by PostgreSQL; 7,009 unread, 10 pending"
    );
}
