//! Facts for the tests of what is made of them.

use std::collections::BTreeMap;

use std::time::Duration;

use jiff::Timestamp;

use super::facts::{
    ClickHouseFacts, Consumer, Instance, Look, PostgresFacts, Reader, RedisFacts, StoreState, Stream,
};
use super::tables::Settings;
use super::watch::model::Model;
use crate::runtime::instances::Presence;
use crate::runtime::report::{Reading, Report, Work};

pub(super) fn everything(unread: u64, pending: u64, instances: Vec<Instance>) -> RedisFacts {
    let consumers = instances.iter().map(|instance| Consumer {
        name: instance.name.clone(),
        pending: pending / instances.len() as u64,
        idle_ms: 660_500,
    });
    let readers = instances.iter().map(|instance| Reader {
        name: Some(instance.name.clone()),
        presence: Some(instance.presence),
        lease: false,
    });
    RedisFacts {
        streams: vec![Stream {
            name: "events:incoming".into(),
            length: Some(unread.max(50_000) + 1_000),
            lag: Some(unread),
            lag_s: (unread > 0).then_some(12),
            pending: Some(pending),
            pending_s: (pending > 0).then_some(12),
            readers: Some(readers.collect()),
            read: Some(1_000_000),
            consumers: consumers.collect(),
        }],
        instances: Some(instances),
        rejected: Some(4),
        dead_letters: Some(0),
        locks: Some([("dlq:replay:lock", Some(20))].into()),
        open_slots: Some(Vec::new()),
        ..RedisFacts::default()
    }
}

pub(super) fn consuming(name: &str) -> Instance {
    Instance {
        name: name.into(),
        presence: Presence::Alive,
        silent_for_s: Some(3),
        readable: true,
        report: Some(Report {
            at: 0,
            roles: vec!["consume".into(), "dlq".into(), "cohorts".into()],
            reading: Reading::On,
            streams: None,
            paused_for_s: None,
            state: None,
            stores_away: Vec::new(),
            needs_operator: BTreeMap::new(),
            unanswered_s: BTreeMap::new(),
            held_events: 250,
            held_bytes: 120_000,
            taken: [0, 0],
            version: "0.1.0".into(),
            cohorts: None,
            work: None,
            ended: None,
        }),
    }
}

pub(super) fn working(name: &str, stage: &str, share: f64) -> Instance {
    let mut instance = consuming(name);
    let report = instance.report.as_mut().expect("it has one");
    report.work = Some(Work {
        settled_per_s: 600.0,
        shares: [("decode", 0.02), ("full", 0.8), (stage, share)]
            .map(|(stage, share)| (stage.to_owned(), share))
            .into(),
        ..Work::default()
    });
    instance
}

pub(super) fn paused_for(name: &str, seconds: u64, away: &[&str]) -> Instance {
    let mut instance = consuming(name);
    let report = instance.report.as_mut().expect("it has one");
    report.reading = Reading::Paused;
    report.paused_for_s = Some(seconds);
    report.stores_away = away.iter().map(|store| (*store).to_owned()).collect();
    instance
}

pub(super) fn store(name: &'static str, reachable: bool) -> StoreState {
    StoreState {
        name,
        at: "127.0.0.1:4000/qurvo".into(),
        reachable,
        refuses: false,
        answered_ms: reachable.then_some(1),
        error: (!reachable).then(|| format!("{name}: looking at it: no answer within 2 s")),
    }
}

/// What a store tells.
pub(super) fn told<F>(name: &'static str, reachable: bool, facts: F, at: Timestamp) -> Look<F> {
    let store = store(name, reachable);
    Look {
        facts,
        errors: store.error.iter().cloned().collect(),
        store,
        at,
    }
}

/// A screen before anybody was asked.
pub(super) fn model() -> Model {
    let at = Timestamp::UNIX_EPOCH;
    Model::new(
        told("Redis", false, RedisFacts::default(), at),
        told("PostgreSQL", false, PostgresFacts::default(), at),
        told("ClickHouse", false, ClickHouseFacts::default(), at),
        Settings {
            trims: true,
            claim_idle: Duration::from_mins(1),
        },
    )
}
