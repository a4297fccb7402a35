//! What earlier versions of this program stored is read, and what they understand is stored in the same form.

use stream_reply::StreamId;

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
