//! `properties` and `user_properties` that are no objects, or objects that test the patience of a parser.

use super::builder::case;
use super::bytes::{Bytes, Piece, repeat, text};
use super::case::HostileCase;

/// All cases of this kind.
pub(crate) fn cases() -> Vec<HostileCase> {
    [malformed(), well_formed(), large(), persons()].concat()
}

/// The row keeps the text as it came; nothing is read from it.
fn malformed() -> Vec<HostileCase> {
    let mut cases = Vec::new();
    for (name, json) in [
        ("null", "null"),
        ("array", "[]"),
        ("array-of-objects", "[{\"a\":1}]"),
        ("string", "\"text\""),
        ("string-holding-an-object", "\"{\\\"a\\\":1}\""),
        ("number", "12"),
        ("true", "true"),
        ("word", "undefined"),
        ("object-object", "[object Object]"),
        ("white-space", "  "),
        ("open", "{\"a\":1"),
        ("only-open", "{"),
        ("only-close", "}"),
        ("open-string", "{\"a\":\"b}"),
        ("no-value", "{\"a\":}"),
        ("no-quotes", "{a:1}"),
        ("single-quotes", "{'a':1}"),
        ("trailing-comma", "{\"a\":1,}"),
        ("comment", "{\"a\":1/* x */}"),
        ("two-objects", "{}{}"),
        ("trailing-text", "{\"a\":1} and more"),
        ("not-a-number", "{\"a\":NaN}"),
        ("infinity", "{\"a\":-Infinity}"),
        ("leading-zero", "{\"a\":01}"),
        ("plus", "{\"a\":+1}"),
        ("bad-escape", "{\"a\":\"\\x41\"}"),
        ("short-unicode-escape", "{\"a\":\"\\u12\"}"),
        ("raw-line-feed-in-string", "{\"a\":\"b\nc\"}"),
        ("raw-nul-in-string", "{\"a\":\"b\0c\"}"),
        ("byte-order-mark", "\u{feff}{\"a\":1}"),
        ("number-as-key", "{1:2}"),
        ("html", "<html></html>"),
        ("sql", "{\"a\":1}'); DROP TABLE events; --"),
    ] {
        let builder = case(&format!("properties-{name}")).kept("properties", json);
        cases.push(
            builder
                .column("user_properties", "{}")
                .warns("malformed_properties")
                .lands(),
        );
        let builder = case(&format!("user-properties-{name}"))
            .kept("user_properties", json)
            .person_has(&[]);
        cases.push(
            builder
                .column("properties", "{}")
                .warns("malformed_properties")
                .lands(),
        );
    }
    let deep_and_open: Vec<Piece> = vec![repeat("{\"a\":", 100_000)];
    let builder = case("properties-deep-and-open").kept("properties", deep_and_open.clone());
    cases.push(builder.warns("malformed_properties").lands());
    let builder = case("user-properties-deep-and-open")
        .kept("user_properties", deep_and_open)
        .person_has(&[]);
    cases.push(builder.warns("malformed_properties").lands());
    cases
}

/// Odd, yet objects: the row keeps the exact text, and nobody is warned.
fn well_formed() -> Vec<HostileCase> {
    let mut cases = Vec::new();
    for (name, json) in [
        ("white-space-inside", " { \"b\" : 1 ,\n\t\"a\" : [ ] } "),
        ("same-key-twice", "{\"a\":1,\"a\":2}"),
        ("empty-key", "{\"\":1}"),
        ("exact-numbers", "{\"a\":1.0,\"b\":1e2,\"c\":0.10,\"d\":-0}"),
        (
            "beyond-64-bits",
            "{\"a\":18446744073709551616,\"b\":-9223372036854775809}",
        ),
        (
            "thirty-digits",
            "{\"a\":123456789012345678901234567890.123456789}",
        ),
        ("1e400", "{\"a\":1e400,\"b\":-1e400,\"c\":1e-400}"),
        ("1e999999999", "{\"a\":1e999999999}"),
        ("lone-high-surrogate", "{\"a\":\"\\ud800\"}"),
        ("lone-low-surrogate", "{\"a\":\"x\\udc00y\"}"),
        ("surrogates-swapped", "{\"a\":\"\\ude00\\ud83d\"}"),
        ("surrogate-pair", "{\"a\":\"\\ud83e\\udd94\"}"),
        ("escaped-nul", "{\"a\\u0000b\":\"c\\u0000d\"}"),
        ("escaped-slashes", "{\"a\":\"<\\/script>\\\\\"}"),
        ("noncharacters", "{\"a\":\"\u{ffff}\u{fdd0}\"}"),
        (
            "prototype",
            "{\"__proto__\":{\"x\":1},\"constructor\":{\"prototype\":1},\"toString\":2}",
        ),
        (
            "template",
            "{\"a\":\"${jndi:ldap://localhost/x}\",\"{{7*7}}\":\"'; DROP TABLE x; --\"}",
        ),
    ] {
        cases.push(
            case(&format!("properties-{name}"))
                .kept("properties", json)
                .lands(),
        );
        cases.push(
            case(&format!("user-properties-{name}"))
                .kept("user_properties", json)
                .lands(),
        );
    }
    for field in ["properties", "user_properties"] {
        let empty = case(&format!("{field}-empty"))
            .with(field, "")
            .column(field, "{}");
        cases.push(empty.lands());
        cases.push(
            case(&format!("{field}-missing"))
                .without(&[field])
                .column(field, "{}")
                .lands(),
        );
    }
    cases
}

fn large() -> Vec<HostileCase> {
    let object = |inner: Vec<Piece>| Bytes::Pieces([vec![text("{\"a\":")], inner, vec![text("}")]].concat());
    let values = [
        (
            "a-megabyte",
            object(vec![text("\""), repeat("x", 1_048_576), text("\"")]),
            "",
        ),
        (
            "a-megabyte-of-cyrillic",
            object(vec![text("\""), repeat("Ж", 524_288), text("\"")]),
            "",
        ),
        (
            "a-megabyte-of-escapes",
            object(vec![text("\""), repeat("\\u0041", 174_762), text("\"")]),
            "",
        ),
        (
            "a-key-of-100000",
            Bytes::Pieces(vec![text("{\""), repeat("k", 100_000), text("\":1}")]),
            "",
        ),
        ("a-number-of-10000-digits", object(vec![repeat("9", 10_000)]), ""),
        (
            "5000-objects-deep",
            Bytes::Pieces(vec![repeat("{\"a\":", 5_000), text("1"), repeat("}", 5_000)]),
            "depth does not make it any less an object; what no store can hold of it is left out of the person",
        ),
        (
            "5000-arrays-deep",
            object(vec![repeat("[", 5_000), repeat("]", 5_000)]),
            "depth does not make it any less an object; what no store can hold of it is left out of the person",
        ),
        (
            "10000-keys",
            Bytes::Pieces(vec![Piece::Keys { keys: 10_000 }]),
            "the most that definitions take",
        ),
        (
            "10001-keys",
            Bytes::Pieces(vec![Piece::Keys { keys: 10_001 }]),
            "no definitions of this event, with a warning whose type the contract leaves open",
        ),
    ];
    let mut cases = Vec::new();
    for field in ["properties", "user_properties"] {
        for (name, value, note) in values.clone() {
            let builder = case(&format!("{field}-{name}"))
                .kept(field, value)
                .with("event_name", format!("hostile {field} {name}"));
            cases.push(
                if note.is_empty() {
                    builder
                } else {
                    builder.note(note)
                }
                .lands(),
            );
        }
    }
    cases
}

/// A name, user properties, and what the person has afterwards.
type Person = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const PERSONS: [Person; 15] = [
    (
        "wrong-types",
        "{\"$set\":\"abc\",\"$set_once\":[1],\"$unset\":{\"k\":1},\"k\":1}",
        &[("k", "1")],
    ),
    (
        "null-instructions",
        "{\"$set\":null,\"$set_once\":null,\"$unset\":null}",
        &[],
    ),
    (
        "unset-of-anything",
        "{\"a\":1,\"b\":2,\"$unset\":[\"a\",1,null,{\"b\":1},[\"b\"]]}",
        &[("b", "2")],
    ),
    (
        "root-wins",
        "{\"a\":1,\"$set\":{\"a\":2,\"b\":3}}",
        &[("a", "1"), ("b", "3")],
    ),
    (
        "once-yields",
        "{\"$set_once\":{\"a\":1,\"b\":1},\"a\":2}",
        &[("a", "2"), ("b", "1")],
    ),
    (
        "removed-at-once",
        "{\"a\":1,\"$set_once\":{\"b\":1},\"$unset\":[\"a\",\"b\"]}",
        &[],
    ),
    (
        "noise",
        "{\"$browser\":\"x\",\"$set\":{\"$ip\":\"1\"},\"$set_once\":{\"$os\":1},\"$Os\":1}",
        &[("$Os", "1")],
    ),
    (
        "escaped-nul-stripped",
        "{\"a\\u0000b\":\"c\\u0000d\"}",
        &[("ab", "\"cd\"")],
    ),
    (
        "large-integer",
        "{\"n\":123456789012345678901234567890}",
        &[("n", "123456789012345678901234567890")],
    ),
    (
        "exact-decimal",
        "{\"n\":0.10,\"m\":1.000}",
        &[("m", "1.000"), ("n", "0.10")],
    ),
    ("null-is-a-value", "{\"n\":null}", &[("n", "null")]),
    (
        "prototype",
        "{\"__proto__\":1,\"constructor\":2}",
        &[("__proto__", "1"), ("constructor", "2")],
    ),
    (
        "injection",
        "{\"'; DROP TABLE persons; --\":\"{{7*7}}\"}",
        &[("'; DROP TABLE persons; --", "\"{{7*7}}\"")],
    ),
    ("empty-key", "{\"\":1}", &[("", "1")]),
    ("emoji-key", "{\"🦔\":\"\\ud83e\\udd94\"}", &[("🦔", "\"🦔\"")]),
];

fn persons() -> Vec<HostileCase> {
    let mut cases = Vec::new();
    for (name, json, left) in PERSONS {
        cases.push(
            case(&format!("person-{name}"))
                .kept("user_properties", json)
                .person_has(left)
                .lands(),
        );
    }
    cases.push(
        case("person-set-inside-properties")
            .kept(
                "properties",
                "{\"$set\":{\"a\":1},\"$set_once\":{\"b\":1},\"$unset\":[\"a\"]}",
            )
            .person_has(&[])
            .note("inside `properties` these count for the definitions only")
            .lands(),
    );
    cases
}
