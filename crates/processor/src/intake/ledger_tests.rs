//! Which entries are doubted, whatever happened to them.

use std::time::Duration;

use proptest::prelude::*;
use stream_reply::{EntryBlock, StreamId};

use crate::event::Source;
use crate::event::field::FIELDS;
use crate::runtime::moment::Moment;

use super::ledger::*;

fn source(ms: u64) -> Source {
    Source {
        stream: 0,
        id: StreamId { ms, seq: 0 },
        redelivered: false,
    }
}

fn ledger_with(entries: u64) -> Ledger {
    let ledger = Ledger::new(100, 1 << 20);
    let entries = (1..=entries).map(|ms| (StreamId { ms, seq: 0 }, [("event_name", "x")]));
    let block = EntryBlock::of("s", &FIELDS, entries.collect::<Vec<_>>());
    ledger.take(0, &block, ledger.given_from_now());
    ledger
}

#[test]
fn what_is_doubted_is_asked_about_until_it_is_confirmed() {
    const AGE: Duration = Duration::from_hours(1);
    let ledger = ledger_with(3);
    let sources = || (1..=4).map(source);
    assert_eq!(ledger.unconfirmed_among(sources(), AGE), []);
    ledger.doubt(1);
    assert_eq!(ledger.unconfirmed_among(sources(), AGE), [], "another stream");
    ledger.doubt(0);
    assert_eq!(
        ledger.unconfirmed_among(sources(), AGE),
        [source(1), source(2), source(3)]
    );
    ledger.confirm(0, [source(1).id], ledger.given_from_now());
    ledger.lose(0, [source(2).id]);
    assert_eq!(ledger.unconfirmed_among(sources(), AGE), [source(3)]);
    assert_eq!(ledger.unconfirmed(0, AGE), [source(3).id]);
    assert!(!ledger.is_doubtful([source(1), source(4)].into_iter(), AGE));
    assert!(
        ledger.is_doubtful([source(1), source(2)].into_iter(), AGE),
        "another's"
    );
    assert!(
        ledger.is_doubtful([source(3)].into_iter(), AGE),
        "it is not known whose"
    );
    assert_eq!(ledger.lost_among(&[source(1), source(2), source(4)]), [source(2)]);
}

#[test]
fn what_was_on_its_way_while_its_stream_was_doubted_is_doubtful_like_what_was_held() {
    const AGE: Duration = Duration::from_hours(1);
    let ledger = Ledger::new(100, 1 << 20);
    let block = |ms| EntryBlock::of("s", &FIELDS, [(source(ms).id, [("event_name", "x")])]);
    let before = ledger.given_from_now();
    ledger.doubt(0);
    let since = ledger.given_from_now();
    ledger.take(0, &block(1), before);
    ledger.take(0, &block(2), since);
    let sources = || (1..=2).map(source);
    assert_eq!(ledger.unconfirmed_among(sources(), AGE), [source(1)]);
    assert!(ledger.is_doubtful(sources(), AGE));
    ledger.confirm(0, [source(1).id], ledger.given_from_now());
    assert!(!ledger.is_doubtful(sources(), AGE));
}

#[test]
fn an_answer_from_before_a_doubt_does_not_settle_it() {
    const AGE: Duration = Duration::from_hours(1);
    let ledger = ledger_with(1);
    let before = ledger.given_from_now();
    ledger.doubt(0);
    ledger.confirm(0, [source(1).id], before);
    assert!(ledger.is_doubtful([source(1)].into_iter(), AGE));
}

#[test]
fn what_comes_after_all_was_lost_is_lost_too() {
    let ledger = ledger_with(1);
    ledger.lose_all();
    ledger.release(std::iter::once(source(1)));
    let block = EntryBlock::of("s", &FIELDS, [(source(2).id, [("event_name", "x")])]);
    ledger.take(0, &block, ledger.given_from_now());
    assert_eq!(ledger.lost_among(&[source(2)]), [source(2)]);
    assert!(ledger.is_doubtful([source(2)].into_iter(), Duration::from_hours(1)));
}

/// Something that happens to entries of a stream; ages in hours.
#[derive(Debug, Clone)]
enum Happens {
    Taken(u64, u64),
    Confirmed(u64, u64),
    Lost(u64),
    AllLost,
    Doubted,
    Released(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (1..9_u64, 0..9_u64).prop_map(|(id, ago)| Happens::Taken(id, ago)),
        3 => (1..9_u64, 0..9_u64).prop_map(|(id, ago)| Happens::Confirmed(id, ago)),
        1 => (1..9_u64).prop_map(Happens::Lost),
        1 => Just(Happens::AllLost),
        1 => Just(Happens::Doubted),
        3 => (1..9_u64).prop_map(Happens::Released),
    ]
}

proptest! {
    /// What is held: when each was confirmed, if that is not doubtful, and whether it is another's.
    #[test]
    fn whatever_happened_an_entry_is_doubtful_when_it_is_lost_or_was_not_confirmed_for_long(
        history in prop::collection::vec(happens(), 1..60)
    ) {
        let hours = Duration::from_hours;
        let ledger = Ledger::new(100, 1 << 20);
        let given = |ledger: &Ledger, ago| Given {
            at: Moment::ago(hours(ago)),
            doubts: ledger.doubts(),
        };
        let mut all_lost = false;
        let mut model = std::collections::BTreeMap::<u64, (Option<u64>, bool)>::new();
        for step in history {
            match step {
                Happens::Taken(ms, ago) => {
                    let block = EntryBlock::of("s", &FIELDS, [(source(ms).id, [("event_name", "x")])]);
                    ledger.take(0, &block, given(&ledger, ago));
                    model.entry(ms).or_insert((Some(ago), all_lost));
                }
                Happens::Confirmed(ms, ago) => {
                    ledger.confirm(0, [source(ms).id], given(&ledger, ago));
                    model.entry(ms).and_modify(|held| held.0 = Some(ago));
                }
                Happens::Lost(ms) => {
                    ledger.lose(0, [source(ms).id]);
                    model.entry(ms).and_modify(|held| held.1 = true);
                }
                Happens::AllLost => {
                    ledger.lose_all();
                    all_lost = true;
                    for held in model.values_mut() {
                        held.1 = true;
                    }
                }
                Happens::Doubted => {
                    ledger.doubt(0);
                    for held in model.values_mut() {
                        held.0 = None;
                    }
                }
                Happens::Released(ms) => {
                    ledger.release(std::iter::once(source(ms)));
                    model.remove(&ms);
                }
            }
            for ms in 1..9 {
                let held = model.get(&ms);
                let is_lost = held.is_some_and(|held| held.1);
                let is_doubtful = held.is_some_and(|held| held.1 || held.0.is_none_or(|ago| ago >= 5));
                prop_assert_eq!(ledger.is_doubtful(std::iter::once(source(ms)), hours(5)), is_doubtful);
                prop_assert_eq!(!ledger.lost_among(&[source(ms)]).is_empty(), is_lost);
            }
        }
    }
}

#[tokio::test]
async fn it_is_full_while_the_reader_waits_for_room_and_nothing_was_let_go_of() {
    let ledger = ledger_with(100);
    let is_full = async |ledger: &Ledger| {
        let full = tokio::time::timeout(Duration::from_millis(20), ledger.wait_until_full());
        full.await.is_ok()
    };
    assert!(!is_full(&ledger).await, "nobody waits for room");
    let reader = tokio::time::timeout(Duration::from_millis(20), ledger.wait_for_capacity(2));
    assert!(reader.await.is_err());
    assert!(is_full(&ledger).await);
    ledger.release(std::iter::once(source(1)));
    assert!(
        !is_full(&ledger).await,
        "the reader has yet to look at what there is room for"
    );
}
