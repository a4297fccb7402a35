//! What a cohort finds in documents that are out of the ordinary.

use cohort_query::{Definition, Reference, compile};
use serde_json::json;
use uuid::Uuid;

use crate::engine::{Engine, Event, NOW, person};

/// Events of one person, a minute apart, by their user properties; and the value that the person then has.
type Story = (&'static [&'static str], &'static str, &'static str);

/// Stories whose person is not found by the value, or by having none.
async fn wrong(stories: &[Story]) -> Vec<String> {
    let engine = Engine::start().await;
    let mut wrong = Vec::new();
    for (index, (documents, property, value)) in stories.iter().enumerate() {
        let project = Uuid::from_u128(index as u128 + 1);
        let events: Vec<Event> = documents
            .iter()
            .enumerate()
            .map(|(minute, document)| Event {
                id: Uuid::now_v7(),
                distinct_id: "a".into(),
                person: person("a"),
                name: "x".into(),
                time: NOW - 3_600_000 + minute as i64 * 60_000,
                properties: (*document).to_owned(),
                user_properties: (*document).to_owned(),
                country: String::new(),
            })
            .collect();
        engine.add(project, &events).await;
        let (operator, value) = if value.is_empty() {
            ("is_not_set", None)
        } else {
            ("eq", Some(value))
        };
        let mut test = json!({"type": "person_property", "property": property, "operator": operator});
        if let Some(value) = value {
            test["value"] = json!(value);
        }
        let definition = Definition::parse(&json!({"type": "AND", "values": [test]})).unwrap();
        let query = compile(&definition, project, NOW, &|_| Reference::Missing);
        if engine.members_of(&query).await.is_empty() {
            wrong.push(format!("{documents:?}: {property} is not {value:?}"));
        }
    }
    wrong
}

const SET_ONCE: &[Story] = &[
    (&[r#"{"$set_once":{"k":"first"}}"#], "k", "first"),
    (
        &[
            r#"{"$set_once":{"k":"first"}}"#,
            r#"{"$set_once":{"k":"second"}}"#,
        ],
        "k",
        "first",
    ),
    (
        &[r#"{"$set_once":{"k":"first"}}"#, r#"{"$set":{"k":"set"}}"#],
        "k",
        "set",
    ),
    (&[r#"{"k":"root"}"#, r#"{"$set_once":{"k":"late"}}"#], "k", "root"),
    (&[r#"{"$set":{"k":"set"},"$set_once":{"k":"once"}}"#], "k", "set"),
    (
        &[r#"{"$set_once":{"k":"first"}}"#, r#"{"$unset":["k"]}"#],
        "k",
        "",
    ),
    (&[r#"{"$set_once":{"k":"gone"},"$unset":["k"]}"#], "k", ""),
    (
        &[
            r#"{"$set":{"k":"gone"}}"#,
            r#"{"$unset":["k"]}"#,
            r#"{"$set_once":{"k":"new"}}"#,
        ],
        "k",
        "new",
    ),
    (
        &[
            r#"{"$set_once":{"k":"0"}}"#,
            r#"{"$unset":["k"]}"#,
            r#"{"$set_once":{"k":"2"}}"#,
            r#"{"$unset":["k"]}"#,
            r#"{"$set_once":{"k":"4"}}"#,
            r#"{"$set_once":{"k":"5"}}"#,
        ],
        "k",
        "4",
    ),
    (
        &[r#"{"$set":{"k":null}}"#, r#"{"$set_once":{"k":"late"}}"#],
        "k",
        "",
    ),
    (
        &[r#"{"$set_once":{"k":null}}"#, r#"{"$set_once":{"k":"late"}}"#],
        "k",
        "",
    ),
    (&[r#"{"$set_once":{"k":"-"}}"#], "k", "-"),
    (
        &[r#"{"$set_once":{"a":{"b":"nested"}}}"#],
        "user_properties.a.b",
        "nested",
    ),
    (
        &[r#"{"$set_once":{"a.b":"exact","a":{"b":"nested"}}}"#],
        "a.b",
        "exact",
    ),
    (
        &[r#"{"$set_once":{"a":{"b":"gone"}}}"#, r#"{"$unset":["a"]}"#],
        "a.b",
        "",
    ),
    (&[r#"{"\u0024set_once":{"\u006b":"escaped"}}"#], "k", "escaped"),
    (&[r#"{"$set_once":["k"]}"#], "k", ""),
];

#[tokio::test]
async fn a_value_that_was_set_once_counts_where_nothing_else_was_set_since_the_newest_unset() {
    let wrong = wrong(SET_ONCE).await;
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        SET_ONCE.len()
    );
}

#[tokio::test]
async fn a_number_beyond_every_type_has_its_text_and_hides_no_other_key() {
    let stories: &[Story] = &[
        (&[r#"{"n":1e999,"k":"seen"}"#], "k", "seen"),
        (&[r#"{"n":1e999,"k":"seen"}"#], "n", "1e999"),
        (&[r#"{"n":1e999,"k":"seen"}"#], "properties.k", "seen"),
        (&[r#"{"n":-9223372036854775809,"k":"seen"}"#], "k", "seen"),
        (&[r#"{"n":18446744073709551616}"#], "n", "18446744073709551616"),
        (&[r#"{"$set":{"n":[-1E400],"k":"seen"}}"#], "k", "seen"),
        (&[r#"{"$set":{"n":[-1E400, 5],"k":"seen"}}"#], "n", "[-1E400,5]"),
        (&[r#"{"$set_once":{"a":{"b":1e999}}}"#], "a.b", "1e999"),
        (&[r#"{"$set_once":{"a":{"b":1e999}}}"#], "a", r#"{"b":1e999}"#),
        (&[r#"{"k":"old"}"#, r#"{"$unset":["k"],"n":1e999}"#], "k", ""),
        (&[r#"{"n":1e999,"k":"a \"1e999\\\" 5"}"#], "k", r#"a "1e999\" 5"#),
        (&[r#"{"n":1e999,"k":"1e999"}"#], "k", "1e999"),
        (&[r#"{"n":1e999,"m":1.50}"#], "m", "1.5"),
        (&[r#"{"n":1e999,"k":"cut\ud83d"}"#], "k", "cut"),
        (&[r#"{ "n" : 1e999 , "k" : "seen" }"#], "k", "seen"),
        // No document at all.
        (&[r#"{"n":1e999,"k":01}"#], "k", ""),
        (&[r#"{"n":1e999,"k":5"#], "k", ""),
        (&[r#"{"n":1e999,"k":5}}"#], "k", ""),
        (&[r#"{"n":1e999"","k":5}"#], "k", ""),
    ];
    let wrong = wrong(stories).await;
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        stories.len()
    );
}
