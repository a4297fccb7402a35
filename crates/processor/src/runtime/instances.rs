//! What is known of the instances: what each reported last, and whether it lives.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::Value;

use super::report::{ENDED_SHOWN, INSTANCES, INTERVAL, MISSED, Report};
use crate::stores::{Redis, StoreError};

/// One that keeps its name looks after that every second. When it has not for so many, it stands still.
const STALLED_AFTER_S: u64 = 5;

/// A connection that broke is made again within a second, and so long after the last report it would be back: without it the
/// process has gone.
const GONE_AFTER_MS: u64 = INTERVAL.as_millis() as u64 + 1_000;

/// What Redis knows of the connection by which an instance keeps its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Nothing.
    Unknown,
    /// It has gone: so has the process, or it is cut off.
    Gone,
    /// It stands, and was used so many seconds ago.
    Seen(u64),
}

/// Whether an instance lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It reports.
    Alive,
    /// It is connected, and shows no life: stopped, or starved.
    Stalled,
    /// Its connection has gone, or, where nothing is known of that, three reports or more are missing; whatever it said last.
    Dead,
    /// It said that it ended.
    Ended,
}

/// What is known of an instance.
#[derive(Debug)]
pub struct Instance {
    /// When it last reported, in milliseconds since the epoch by Redis's clock, as far as the report says so.
    pub at: Option<u64>,
    /// What it said then; nothing when the report has another version's form.
    pub report: Option<Report>,
}

/// All instances, by name.
///
/// # Errors
/// Redis's.
pub async fn all(redis: &Redis) -> Result<BTreeMap<String, Instance>, StoreError> {
    let mut read = redis::cmd("HGETALL");
    read.arg(INSTANCES);
    let reports: BTreeMap<String, String> = redis
        .ask_of("reading the instances", (INSTANCES, "hash"), &read)
        .await?;
    let instances = reports
        .into_iter()
        .map(|(name, text)| (name, Instance::of(&text)));
    Ok(instances.collect())
}

impl Instance {
    /// Whether it is alive, by the server's clock.
    pub fn presence(&self, now_ms: u64, sign: Sign) -> Presence {
        let silent_ms = self.at.map(|at| now_ms.saturating_sub(at));
        // Before it serves it has no name yet: what is noted is its predecessor's.
        let serves = self.report.as_ref().is_some_and(|report| report.work.is_some());
        match (&self.report, sign) {
            (Some(report), _) if report.ended.is_some() => Presence::Ended,
            (_, Sign::Gone) if serves && silent_ms.is_none_or(|silent| silent > GONE_AFTER_MS) => {
                Presence::Dead
            }
            (_, Sign::Seen(seconds)) if serves && seconds >= STALLED_AFTER_S => Presence::Stalled,
            (_, Sign::Seen(_)) if serves => Presence::Alive,
            _ if silent_ms.is_none_or(|silent| silent > (INTERVAL * MISSED).as_millis() as u64) => {
                Presence::Dead
            }
            _ => Presence::Alive,
        }
    }

    /// Whether it ended so long ago that it need not be shown any more.
    pub fn has_gone(&self, now_ms: u64) -> bool {
        let gone = |at| now_ms.saturating_sub(at) > ENDED_SHOWN.as_millis() as u64;
        let has_ended = self.report.as_ref().is_some_and(|report| report.ended.is_some());
        has_ended && self.at.is_none_or(gone)
    }

    fn of(text: &str) -> Self {
        let report = serde_json::from_str::<Report>(text).ok();
        // Of a report in another form the time may still be where it always was.
        let at = || serde_json::from_str::<Value>(text).ok()?.get("at")?.as_u64();
        Self {
            at: report.as_ref().map(|report| report.at).or_else(at),
            report,
        }
    }
}

/// What the stores have taken from each instance, by its name.
///
/// # Errors
/// Redis's.
pub async fn taken(redis: &Redis) -> Result<HashMap<String, [u64; 2]>, StoreError> {
    let instances = all(redis).await?.into_iter();
    let taken = instances.filter_map(|(name, instance)| Some((name, instance.report?.taken)));
    Ok(taken.collect())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::report::{Ended, HAS_ENDED, Reading, Work};
    use super::super::streams::Streams;
    use super::*;

    /// As versions write it that say nothing of their work or their end.
    const OLDER: &str = r#"{"at":1000,"roles":["consume"],"reading":"paused","paused_for_s":7,"stores_away":["ClickHouse"],
        "held_events":3,"held_bytes":4,"taken":[5,6],"version":"0.1.0","cohorts":null}"#;

    #[test]
    fn reports_of_older_versions_are_read() {
        let instance = Instance::of(OLDER);
        assert_eq!(instance.at, Some(1000));
        assert_eq!(instance.presence(2_000, Sign::Unknown), Presence::Alive);
        let report = instance.report.unwrap();
        assert_eq!(
            (report.reading, report.work, report.ended),
            (Reading::Paused, None, None)
        );
    }

    #[test]
    fn older_versions_read_ours() {
        /// What they know.
        #[derive(Deserialize)]
        struct Older {
            reading: Reading,
            held_events: usize,
            taken: [u64; 2],
        }
        let mut report = Instance::of(OLDER).report.unwrap();
        report.work = Some(Work::default());
        report.streams = Some(Streams {
            list: vec!["s".into()],
            shared: true,
            first: Some(Vec::new()),
        });
        report.ended = Some(Ended {
            left_pending: 1,
            failed: true,
        });
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains(HAS_ENDED), "{text}");
        let older: Older = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (older.reading, older.held_events, older.taken),
            (Reading::Paused, 3, [5, 6])
        );
    }

    #[test]
    fn three_missing_reports_are_an_instances_death_whatever_it_said_and_its_word_its_end() {
        let mut instance = Instance::of(OLDER);
        assert_eq!(instance.presence(16_000, Sign::Unknown), Presence::Alive);
        assert_eq!(instance.presence(16_001, Sign::Unknown), Presence::Dead);
        assert!(!instance.has_gone(10_000_000));
        instance.report.as_mut().unwrap().ended = Some(Ended {
            left_pending: 0,
            failed: false,
        });
        assert_eq!(instance.presence(1_001, Sign::Unknown), Presence::Ended);
        assert_eq!(instance.presence(600_000, Sign::Unknown), Presence::Ended);
        assert!(!instance.has_gone(601_000) && instance.has_gone(601_001));
        // Nobody knows when an unreadable one was written.
        assert_eq!(Instance::of("?").presence(5, Sign::Unknown), Presence::Dead);
    }

    #[test]
    fn the_connection_of_one_that_serves_says_more_than_its_reports() {
        let mut instance = Instance::of(OLDER);
        // It has no name yet, so the connection is that of the one before it.
        assert_eq!(instance.presence(2_000, Sign::Gone), Presence::Alive);
        instance.report.as_mut().unwrap().work = Some(Work::default());
        for (now, sign, presence) in [
            (7_000, Sign::Gone, Presence::Alive),
            (7_001, Sign::Gone, Presence::Dead),
            (1_001, Sign::Seen(4), Presence::Alive),
            (1_001, Sign::Seen(5), Presence::Stalled),
            (90_000, Sign::Seen(90), Presence::Stalled),
            (90_000, Sign::Seen(0), Presence::Alive),
            (90_000, Sign::Unknown, Presence::Dead),
        ] {
            assert_eq!(instance.presence(now, sign), presence, "{now} {sign:?}");
        }
    }
}
