//! What earlier versions of this program stored is read, and what they understand is stored in the same form.

use proptest::prelude::*;
use proptest::sample::Index;
use stream_reply::StreamId;

use super::histories_tests::{Said, cases, crowd, disorder, picks, quarrels, through_properties, visits};
use super::*;
use crate::config::PropertyOrder;

fn version(n: u64) -> Version {
    Version::new(n as i64, StreamId::new(n, 0), PropertyOrder::EventTime)
}

fn apply(properties: &mut Properties, at: u64, moves: &[u64], json: &str) -> String {
    let moves: Vec<Version> = moves.iter().copied().map(version).collect();
    properties.apply(&PropertyWrites::parse(json), version(at), &moves, Limits::NONE);
    properties.to_values()
}

#[test]
fn a_person_without_merges_is_stored_as_ever() {
    let mut properties = Properties::default();
    apply(
        &mut properties,
        3,
        &[],
        r#"{"$set":{"a":1},"$unset":["c"],"$set_once":{"b":null}}"#,
    );
    apply(&mut properties, 4, &[], r#"{"$set_once":{"b":2}}"#);
    let stored = r#"{"a":{"s":[3,3,0]},"b":{"o":[[[3,3,0],null],[[4,4,0],2]]},"c":{"u":[3,3,0]}}"#;
    assert_eq!(properties.to_versions(), stored);
    assert_eq!(
        Properties::load(r#"{"a":1,"b":null}"#, Some(stored)).unwrap(),
        properties
    );
}

#[test]
fn set_onces_of_one_value_are_stored_once_and_earlier_versions_read_the_first_of_them() {
    let mut properties = Properties::default();
    for at in [10, 11, 13, 20, 21] {
        let value = u8::from(at >= 20);
        apply(
            &mut properties,
            at,
            &[],
            &format!(r#"{{"$set_once":{{"a":{value}}}}}"#),
        );
    }
    assert_eq!(
        properties.to_versions(),
        r#"{"a":{"o":[[[10,10,0],0],[[20,20,0],1]],"m":["1 2","1"]}}"#
    );
    let mut loaded = Properties::load(&properties.to_values(), Some(&properties.to_versions())).unwrap();
    assert_eq!(loaded, properties);
    assert_eq!(apply(&mut loaded, 12, &[], r#"{"$unset":["a"]}"#), r#"{"a":0}"#);
    assert_eq!(apply(&mut loaded, 15, &[], r#"{"$unset":["a"]}"#), r#"{"a":1}"#);
}

/// Two merges, the writes behind each in its third place, and an `$identify` that was found to have been no merge.
const WITH_MERGES: &str = r#"[{"a":{"s":[2,2,0],"v":"own"}},
    [[[5,5,0],[{"a":{"s":[3,3,0],"v":"first"},"b":{"s":[3,3,0],"v":"first"}},[],[]],{"b":{"u":[6,6,0]}}],
     [[8,8,0],[{"b":{"s":[4,4,0],"v":"second"},"c":{"o":[[[7,7,0],"second"]]}},[],[]],{"c":{"s":[9,9,0],"v":"since"}}]],
    [[[30,30,0],[8,8,0]]]]"#;

#[test]
fn merges_as_earlier_versions_stored_them_are_read() {
    let values = r#"{"a":"own","b":"second","c":"since"}"#;
    let mut properties = Properties::load(values, Some(WITH_MERGES)).unwrap();
    assert_eq!(properties.to_values(), values);
    let again = Properties::load(values, Some(&properties.to_versions())).unwrap();
    assert_eq!(again, properties);
    // Whatever arrives late is joined where it belongs.
    let late = apply(&mut properties, 4, &[5], r#"{"$unset":["b"],"$set":{"d":1}}"#);
    assert_eq!(late, r#"{"a":"own","b":"second","c":"since","d":1}"#);
    let late = apply(&mut properties, 7, &[30], r#"{"$unset":["b"]}"#);
    assert_eq!(late, r#"{"a":"own","c":"since","d":1}"#);
    let late = apply(&mut properties, 3, &[], r#"{"$set":{"d":"own"},"$unset":["a"]}"#);
    assert_eq!(late, r#"{"a":"first","c":"since","d":"own"}"#);
}

#[test]
fn up_to_where_merges_are_joined_for_good_is_stored_too() {
    let mut properties = Properties::load("{}", Some(WITH_MERGES)).unwrap();
    properties.lineage.join_up_to(version(5));
    properties.weigh();
    let mut loaded = Properties::load(&properties.to_values(), Some(&properties.to_versions())).unwrap();
    assert_eq!(loaded, properties);
    assert_eq!(loaded.lineage.merged.len(), 1);
    let before = loaded.to_values();
    assert_eq!(apply(&mut loaded, 4, &[5], r#"{"$set":{"b":2,"d":2}}"#), before);
}

/// How the version before this one reads both columns, written from its rules alone: a person's first writes, and then one
/// merge after another, each with the writes behind it.
mod earlier {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer};
    use serde_json::Value;

    const MOST_ONCES: usize = 4;

    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
    struct Version(i64, u64, u64);

    /// Members that it does not know are ignored.
    #[derive(Default, Deserialize)]
    struct Stored {
        #[serde(default)]
        s: Option<Version>,
        #[serde(default, deserialize_with = "even_null")]
        v: Option<Value>,
        #[serde(default)]
        u: Option<Version>,
        #[serde(default)]
        o: Vec<(Version, Value)>,
    }

    #[derive(Deserialize)]
    struct Lineage(
        BTreeMap<String, Stored>,
        Vec<(Version, Lineage, BTreeMap<String, Stored>)>,
        #[expect(dead_code, reason = "has to be readable")] Vec<(Version, Version)>,
    );

    fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(deserializer).map(Some)
    }

    #[derive(Default)]
    struct Key {
        decided: Option<(Version, Option<Value>)>,
        onces: Vec<(Version, Value)>,
    }

    type Keys = BTreeMap<String, Key>;

    impl Key {
        fn read(stored: Stored, plain: Option<&Value>) -> Self {
            let value = stored.v.or(plain.cloned());
            let decided = match (stored.s, stored.u) {
                (Some(set), _) => value.map(|value| (set, Some(value))),
                (None, unset) => unset.map(|unset| (unset, None)),
            };
            let onces = stored.o;
            Self { decided, onces }
        }

        fn value(&self) -> Option<&Value> {
            match &self.decided {
                Some((_, Some(value))) => Some(value),
                _ => self.onces.first().map(|(_, value)| value),
            }
        }

        fn is_behind(&self, at: Version) -> bool {
            self.decided.as_ref().is_none_or(|(decided, _)| *decided < at)
        }

        fn join(&mut self, other: Self) {
            if let Some((at, value)) = other.decided
                && self.is_behind(at)
            {
                self.decided = Some((at, value));
                self.onces.retain(|(once, _)| *once > at);
            }
            for (at, value) in other.onces {
                if self.is_behind(at) && self.onces.iter().all(|(once, _)| *once != at) {
                    self.onces.push((at, value));
                    self.onces.sort_by_key(|(once, _)| *once);
                    self.onces.truncate(MOST_ONCES);
                }
            }
        }
    }

    fn read(stored: BTreeMap<String, Stored>, plain: &BTreeMap<String, Value>) -> Keys {
        let keys = stored.into_iter();
        keys.map(|(key, stored)| {
            let read = Key::read(stored, plain.get(&key));
            (key, read)
        })
        .collect()
    }

    fn current(Lineage(first, merges, _): Lineage) -> Keys {
        let none = BTreeMap::new();
        let mut current = read(first, &none);
        for (_, side, behind) in merges {
            for (key, theirs) in self::current(side) {
                let ours = current.entry(key).or_default();
                match (ours.value(), theirs.value()) {
                    (Some(_), _) => {}
                    (None, Some(_)) => *ours = theirs,
                    (None, None) => ours.join(theirs),
                }
            }
            for (key, key_behind) in read(behind, &none) {
                current.entry(key).or_default().join(key_behind);
            }
        }
        current
    }

    /// The values that hold now.
    pub(super) fn values(properties: &str, versions: &str) -> String {
        let plain: BTreeMap<String, Value> = serde_json::from_str(properties).unwrap();
        let current = if versions.starts_with('[') {
            current(serde_json::from_str(versions).unwrap())
        } else {
            read(serde_json::from_str(versions).unwrap(), &plain)
        };
        let values = current.iter();
        let values: BTreeMap<_, _> = values
            .filter_map(|(key, state)| Some((key, state.value()?)))
            .collect();
        serde_json::to_string(&values).unwrap()
    }
}

#[test]
fn what_a_person_unset_or_set_once_behind_a_merge_is_stored_where_earlier_versions_look_for_it() {
    let mut properties = Properties::default();
    apply(&mut properties, 3, &[5], r#"{"$set":{"k":1,"l":1,"m":1}}"#);
    apply(&mut properties, 4, &[], r#"{"$unset":["m"]}"#);
    apply(
        &mut properties,
        9,
        &[],
        r#"{"$unset":["k"],"$set_once":{"l":2,"m":2}}"#,
    );
    assert_eq!(properties.to_values(), r#"{"l":1,"m":1}"#);
    assert_eq!(
        properties.to_versions(),
        concat!(
            r#"[{"m":{"u":[4,4,0]}},[[[5,5,0],"#,
            r#"[{"k":{"s":[3,3,0],"v":1},"l":{"s":[3,3,0],"v":1},"m":{"s":[3,3,0],"v":1}},[],[]],"#,
            r#"{"k":{"u":[9,9,0]},"l":{"o":[[[9,9,0],2]]},"m":{"o":[[[9,9,0],2]]}}]],[]]"#
        )
    );
    let loaded = Properties::load(&properties.to_values(), Some(&properties.to_versions())).unwrap();
    assert_eq!(loaded, properties);
}

/// Whether earlier versions see the same values after each event, in the order of the stream and in another one. They may
/// take another value for an edit by another program, and it would stay.
fn earlier_versions_agree(
    ids: usize,
    said: &[Said],
    picks: &[Index],
    limits: Limits,
) -> Result<(), TestCaseError> {
    let in_stream: Vec<usize> = (0..said.len()).collect();
    for order in [in_stream, disorder(said.len(), picks)] {
        for guarded in [true, false] {
            for (values, versions) in through_properties(ids, said, &order, guarded, limits).stored {
                let read = earlier::values(&values, &versions);
                prop_assert_eq!(read, values, "{}", versions);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(1_024))]

    #[test]
    fn earlier_versions_see_the_values_of_a_user_and_whom_it_identified(said in visits(5, 30), picks in picks()) {
        earlier_versions_agree(5, &said, &picks, Limits::NONE)?;
    }

    #[test]
    fn earlier_versions_see_the_values_of_whoever_was_identified_with_whomever(
        said in quarrels(4, 20),
        picks in picks(),
    ) {
        earlier_versions_agree(4, &said, &picks, Limits::NONE)?;
    }
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn earlier_versions_see_the_values_of_merges_that_are_joined_for_good(
        said in crowd(40),
        picks in picks(),
    ) {
        const SMALL: Limits = Limits {
            keys: 1_000,
            bytes: 12_000,
        };
        earlier_versions_agree(40, &said, &picks, SMALL)?;
    }
}
