//! `resolve` against the reference model, over many small histories cut into batches.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexSet;
use proptest::collection::vec;
use proptest::prelude::*;
use qurvo_processor::config::MergePolicy;
use qurvo_processor::event::{
    Batch, DistinctId, Event, IdentifyWith, Key, Members, PersonId, ProjectId, Source,
};
use qurvo_processor::identity::decision::properties::Version;
use qurvo_processor::identity::decision::resolve::{Known, Mapping, resolve};
use stream_reply::StreamId;
use uuid::Uuid;

use super::model::{Model, Said};

const PROJECT: ProjectId = ProjectId(Uuid::from_u128(0x1111_1111_1111_1111_1111_1111_1111_1111));

/// What PostgreSQL would hold: the outcome of each batch, as the commit writes it.
#[derive(Default)]
struct Store {
    mappings: BTreeMap<String, PersonId>,
    identified: BTreeSet<String>,
    merges: usize,
    refused: usize,
}

impl Store {
    /// What the fetch brings of a batch's keys. Keys of events exist by then, unless they are first met as somebody's
    /// anonymous id; at most two identified ids are told per person.
    fn known(&mut self, batch: &Batch) -> Known {
        let mut met_as_anonymous = BTreeSet::new();
        for event in &batch.events {
            let key = &batch.keys[event.key as usize];
            if !met_as_anonymous.contains(&event.key) {
                let person = self.mappings.entry(key.distinct_id.to_string());
                person.or_insert_with(|| key.new_person());
            }
            met_as_anonymous.extend(event.identify.and_then(|identify| identify.anonymous));
        }
        let mut known = Known::default();
        for key in &batch.keys {
            let mapping = self.mappings.get(&*key.distinct_id).map(|person| Mapping {
                person: *person,
                identified: self.identified.contains(&*key.distinct_id),
                moved: Version::OLDEST,
            });
            known.mappings.push(mapping);
            if let Some(mapping) = mapping {
                let ids = self.mappings.iter();
                let ids =
                    ids.filter(|(id, person)| **person == mapping.person && self.identified.contains(*id));
                let two: Vec<DistinctId> = ids.take(2).map(|(id, _)| id.as_str().into()).collect();
                if !two.is_empty() {
                    known.identified.insert(mapping.person, two);
                }
            }
        }
        known
    }

    /// Commits a batch; the persons of its rows.
    fn take(&mut self, batch: &Batch, policy: MergePolicy) -> Vec<PersonId> {
        let known = self.known(batch);
        let outcome = resolve(batch, &known, policy);
        let id = |key: u32| batch.keys[key as usize].distinct_id.to_string();
        for merge in &outcome.merges {
            for person in self.mappings.values_mut().filter(|person| **person == merge.from) {
                *person = merge.into;
            }
        }
        for attached in &outcome.attached {
            let mapped = self.mappings.insert(id(attached.key), attached.person);
            assert_eq!(mapped, None, "an id that has a person is given none");
        }
        self.identified
            .extend(outcome.identified.iter().map(|key| id(*key)));
        self.merges += outcome.merges.len();
        self.refused += outcome.refused.len();
        for (key, person) in outcome.final_persons.iter().enumerate() {
            if let Some(person) = person {
                assert_eq!(self.mappings.get(&id(key as u32)), Some(person));
            }
        }
        outcome.persons
    }
}

fn batch(said: &[Said]) -> Batch {
    let mut keys: IndexSet<Key> = IndexSet::new();
    let mut key = |id: &str| keys.insert_full(Key::new(PROJECT, id)).0 as u32;
    let events = said.iter().map(|said| Event {
        source: Source {
            stream: 0,
            id: StreamId::new(said.place.0, said.place.1),
            redelivered: false,
        },
        block: 0,
        entry: 0,
        project: PROJECT,
        event_id: Uuid::nil(),
        sort_key: 0,
        timestamp: said.time,
        key: key(&said.who),
        identify: said.identifies.then(|| IdentifyWith {
            anonymous: said
                .anonymous
                .as_ref()
                .filter(|anonymous| **anonymous != said.who)
                .map(|anonymous| key(anonymous)),
        }),
        members: Members::default(),
    });
    let mut batch = Batch::default();
    batch.events = events.collect();
    batch.keys = keys;
    batch
}

fn history() -> impl Strategy<Value = Vec<Said>> {
    let id = || (0..5_u8).prop_map(|n| char::from(b'a' + n).to_string());
    let said = prop_oneof![
        2 => id().prop_map(|who| (who, false, None)),
        3 => (id(), id()).prop_map(|(who, anonymous)| (who, true, Some(anonymous))),
        1 => id().prop_map(|who| (who, true, None)),
    ];
    vec(said, 0..14).prop_map(|all| {
        let said = all.into_iter().enumerate();
        said.map(|(n, (who, identifies, anonymous))| Said {
            who,
            anonymous,
            identifies,
            writes: Vec::new(),
            time: n as i64,
            place: (n as u64 + 1, 0),
        })
        .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn a_hundred_thousand_histories_are_decided_as_the_model_decides_them(
        history in history(),
        guarded in any::<bool>(),
        lengths in vec(1..6_usize, 14),
    ) {
        let policy = if guarded { MergePolicy::Guarded } else { MergePolicy::Always };
        let mut model = Model::new(PROJECT.0, guarded);
        let mut store = Store::default();
        let mut rest = &history[..];
        for length in lengths {
            let (now, later) = rest.split_at(length.min(rest.len()));
            rest = later;
            let expected: Vec<PersonId> = now.iter().map(|said| PersonId(model.take(said))).collect();
            // A row may carry a person that was merged within the batch: the override leads on from there.
            prop_assert_eq!(store.take(&batch(now), policy), expected);
        }
        prop_assert_eq!((store.merges, store.refused), (model.merges, model.refused));
        let mappings = model.mappings.into_iter();
        let expected: BTreeMap<_, _> = mappings.map(|(id, person)| (id, PersonId(person))).collect();
        prop_assert_eq!(store.mappings, expected);
    }
}
