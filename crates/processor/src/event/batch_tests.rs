//! Joined batches are what one batch of all their entries would be.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stream_reply::{EntryBlock, StreamId};

use super::*;
use crate::event::decode;
use crate::event::field::FIELDS;

const PROJECT: &str = "11111111-1111-1111-1111-111111111111";

type Fields = Vec<(&'static str, String)>;

prop_compose! {
    /// The fields of an entry; some are refused.
    fn fields()(
        user in 0..4_u8,
        anonymous in 0..4_u8,
        name in prop::sample::select(vec!["$identify", "click", ""]),
        members in 0..3_usize,
    ) -> Fields {
        let object = |prefix: &str| {
            let members: BTreeMap<_, _> = (0..members).map(|n| (format!("{prefix}{n}"), n)).collect();
            serde_json::to_string(&members).unwrap()
        };
        vec![
            ("project_id", PROJECT.to_owned()),
            ("event_name", name.to_owned()),
            ("distinct_id", format!("user-{user}")),
            ("anonymous_id", format!("anonymous-{anonymous}")),
            ("properties", object("p")),
            ("user_properties", object("u")),
        ]
    }
}

fn append(batch: &mut Batch, entries: &[(u64, Fields)]) {
    let entries = entries.iter().map(|(ms, fields)| {
        let fields = fields.iter().map(|(name, value)| (*name, value.as_str()));
        (StreamId::new(*ms, 0), fields.collect::<Vec<_>>())
    });
    let block = EntryBlock::of("s", &FIELDS, entries.collect::<Vec<_>>());
    decode::append(batch, block, 0, "s", false, &[]);
}

/// Everything that can be asked of a batch's events, and the ids of what was refused.
fn told(batch: &Batch) -> (Vec<String>, Vec<u64>) {
    let event = |event: &Event| {
        let key = |index: u32| batch.keys[index as usize].distinct_id.to_string();
        let anonymous = event.identify.map(|identify| identify.anonymous.map(key));
        let properties: Vec<_> = batch.properties(event).collect();
        let user_properties: Vec<_> = batch.user_properties(event).collect();
        let text = batch.text(event, Field::DistinctId);
        let id = event.source.id.ms;
        format!(
            "{id} {text} {} {anonymous:?} {properties:?} {user_properties:?}",
            key(event.key)
        )
    };
    let refused = batch.rejects.iter().map(|reject| reject.source.id.ms);
    (batch.events.iter().map(event).collect(), refused.collect())
}

proptest! {
    #[test]
    fn joined_batches_are_what_one_batch_of_all_entries_would_be(
        entries in prop::collection::vec(fields(), 0..20),
        at in prop::collection::vec(0..20_usize, 0..3),
    ) {
        let entries: Vec<(u64, Fields)> = (1..).zip(entries).collect();
        let mut whole = Batch::default();
        append(&mut whole, &entries);
        let mut cuts: Vec<usize> = at.into_iter().map(|at| at.min(entries.len())).collect();
        cuts.extend([0, entries.len()]);
        cuts.sort_unstable();
        let mut joined = Batch::default();
        for cut in cuts.windows(2) {
            let mut next = Batch::default();
            append(&mut next, &entries[cut[0]..cut[1]]);
            joined.join(next);
        }
        prop_assert_eq!(told(&joined), told(&whole));
        prop_assert_eq!(joined.len(), whole.len());
        let keys = |batch: &Batch| batch.keys.iter().map(|key| key.distinct_id.to_string()).collect::<Vec<_>>();
        prop_assert_eq!(keys(&joined), keys(&whole));
    }
}
