//! Required fields, identifiers and anonymous ids that are missing, illegal, too long or strange.

use super::builder::{Builder, PROJECT, case};
use super::bytes::{Bytes, Piece, repeat, text};
use super::case::HostileCase;
use crate::account::ILLEGAL_IDS;

const REQUIRED: [&str; 3] = ["project_id", "event_name", "distinct_id"];

/// A project that nobody has.
const UNKNOWN_PROJECT: &str = "00000000-0000-4000-8000-000000000000";

/// All cases of this kind.
pub(crate) fn cases() -> Vec<HostileCase> {
    [
        required(),
        identifiers(),
        illegal(),
        lengths(),
        anonymous(),
        strange(),
    ]
    .concat()
}

fn required() -> Vec<HostileCase> {
    let mut cases = Vec::new();
    for field in REQUIRED {
        cases.push(
            case(&format!("missing-{field}"))
                .without(&[field])
                .rejected("missing_fields"),
        );
        for (what, value) in [("empty", ""), ("spaces", "   "), ("tab-and-line-feed", "\t\n")] {
            cases.push(
                case(&format!("{what}-{field}"))
                    .with(field, value)
                    .rejected("missing_fields"),
            );
        }
    }
    cases.push(
        case("ideographic-space-distinct-id")
            .with("distinct_id", "\u{3000}")
            .note("blank is taken as nothing but Unicode white space")
            .rejected("missing_fields"),
    );
    cases.push(
        case("missing-all-three")
            .without(&REQUIRED)
            .rejected("missing_fields"),
    );
    cases.push(
        case("missing-two")
            .without(&["event_name", "distinct_id"])
            .rejected("missing_fields"),
    );
    cases.push(
        case("missing-before-invalid")
            .with("project_id", "x")
            .without(&["event_name"])
            .note("checks in the contract's order: what is missing comes first")
            .rejected("missing_fields"),
    );
    cases.push(
        case("nothing-but-an-empty-field")
            .only(&[("", "")])
            .note("the smallest entry the stream takes")
            .rejected("missing_fields"),
    );
    cases.push(
        case("nothing-known")
            .only(&[("hello", "world"), ("{", "}")])
            .rejected("missing_fields"),
    );
    let capitals = [
        ("PROJECT_ID", PROJECT),
        ("Event_Name", "hostile"),
        ("distinct_id ", "x"),
    ];
    cases.push(
        case("names-in-other-spelling")
            .only(&capitals)
            .rejected("missing_fields"),
    );
    cases
}

fn identifiers() -> Vec<HostileCase> {
    let mut cases = Vec::new();
    for (name, value) in [
        ("word", "x"),
        ("number", "12345"),
        ("one-digit-short", "3d9c1f52-7a0e-4b6d-9f18-c25e60a7b84"),
        ("wrong-letter", "3d9c1f52-7a0e-4b6d-9f18-c25e60a7b84g"),
        ("braces", "{3d9c1f52-7a0e-4b6d-9f18-c25e60a7b841}"),
        ("surrounded-by-spaces", " 3d9c1f52-7a0e-4b6d-9f18-c25e60a7b841 "),
        ("sql", "' OR '1'='1"),
        ("nul", "3d9c1f52-7a0e-4b6d-9f18-c25e60a7b841\0"),
        ("full-width-digits", "３d9c1f52-7a0e-4b6d-9f18-c25e60a7b841"),
    ] {
        let note = "only the 36-character form counts as a UUID";
        let builder = case(&format!("project-id-{name}"))
            .with("project_id", value)
            .note(note);
        cases.push(builder.rejected("invalid_project_id"));
        let builder = case(&format!("event-id-{name}"))
            .with("event_id", value)
            .note(note);
        cases.push(builder.rejected("invalid_event_id"));
    }
    cases.push(
        case("unknown-project")
            .with("project_id", UNKNOWN_PROJECT)
            .rejected("unknown_project"),
    );
    let nil = "00000000-0000-0000-0000-000000000000";
    cases.push(
        case("nil-project")
            .with("project_id", nil)
            .rejected("unknown_project"),
    );
    cases.push(
        case("project-id-in-capitals")
            .with("project_id", PROJECT.to_uppercase())
            .column("project_id", PROJECT)
            .note("the person id is made of the project id exactly as in the entry")
            .lands(),
    );
    cases.push(
        case("invalid-project-before-illegal-id")
            .with("project_id", "x")
            .with("distinct_id", "null")
            .rejected("invalid_project_id"),
    );
    cases.push(
        case("illegal-id-before-invalid-event-id")
            .with("distinct_id", "null")
            .with("event_id", "x")
            .rejected("illegal_distinct_id"),
    );
    let derived = "the event id is derived from the entry id: the same on every delivery";
    cases.push(case("no-event-id").without(&["event_id"]).note(derived).lands());
    cases.push(case("empty-event-id").with("event_id", "").note(derived).lands());
    cases.push(
        case("blank-event-id")
            .with("event_id", "  ")
            .note("white space is neither empty nor a UUID")
            .rejected("invalid_event_id"),
    );
    cases.push(
        case("event-id-in-capitals")
            .with("event_id", "5A0E8C41-97B3-4D26-B1F0-3C84E7D2A965")
            .column("event_id", "5a0e8c41-97b3-4d26-b1f0-3c84e7d2a965")
            .lands(),
    );
    cases.push(case("nil-event-id").kept("event_id", nil).lands());
    cases
}

fn illegal() -> Vec<HostileCase> {
    let mut cases = Vec::new();
    for id in ILLEGAL_IDS {
        let name = id.trim_matches(['[', ']']).replace(' ', "-");
        let mut variants = vec![
            ("plain", id.to_owned()),
            ("spaces", format!(" \t{id}\n ")),
            ("no-break-space", format!("\u{a0}{id}")),
        ];
        if id != "0" {
            variants.push(("capitals", id.to_uppercase()));
            let mixed = id
                .char_indices()
                .map(|(at, c)| if at % 2 == 0 { c } else { c.to_ascii_uppercase() });
            variants.push((
                "mixed-case-and-spaces",
                format!(" {} ", mixed.collect::<String>()),
            ));
        }
        for (variant, value) in variants {
            let builder = case(&format!("illegal-id-{name}-{variant}")).with("distinct_id", value);
            cases.push(builder.rejected("illegal_distinct_id"));
        }
    }
    for id in [
        "anonymous1",
        "nullable",
        "00",
        "0.0",
        "-0",
        "[object]",
        "no ne",
        "guest@example.com",
        "nil.",
        "ｎｕｌｌ",
    ] {
        cases.push(
            case(&format!("legal-lookalike-{id}"))
                .with("distinct_id", id)
                .lands(),
        );
    }
    cases
}

fn lengths() -> Vec<HostileCase> {
    let mut cases = Vec::new();
    for (name, letter) in [
        ("ascii", "a"),
        ("cyrillic", "Ж"),
        ("emoji", "🦔"),
        ("combining", "e\u{301}"),
    ] {
        let times = 400 / letter.chars().count();
        let longest = vec![repeat(letter, times)];
        let too_long = vec![text("b"), repeat(letter, times)];
        let id = |pieces: &Vec<Piece>| {
            case(&format!("{}-characters-{name}", 399 + pieces.len())).with("distinct_id", pieces.clone())
        };
        cases.push(id(&longest).lands());
        cases.push(id(&too_long).rejected("distinct_id_too_long"));
    }
    let long = vec![repeat("long", 250_000)];
    cases.push(
        case("distinct-id-of-a-megabyte")
            .with("distinct_id", long)
            .rejected("distinct_id_too_long"),
    );
    cases.push(
        case("401-with-surrounding-spaces")
            .with("distinct_id", vec![text(" "), repeat("c", 399), text(" ")])
            .note("the id is stored untrimmed, so it is measured untrimmed")
            .rejected("distinct_id_too_long"),
    );
    for (name, id) in [("within", "a\0b"), ("first", "\0a"), ("last", "a\0")] {
        cases.push(
            case(&format!("nul-{name}-distinct-id"))
                .with("distinct_id", id)
                .rejected("invalid_distinct_id"),
        );
    }
    cases
}

fn anonymous() -> Vec<HostileCase> {
    let warns = |builder: Builder| {
        builder
            .warns("illegal_anonymous_id")
            .note("the contract demands a warning and leaves its type open")
            .lands()
    };
    let mut cases = Vec::new();
    for id in ILLEGAL_IDS {
        let name = id.trim_matches(['[', ']']).replace(' ', "-");
        cases.push(warns(case(&format!("identify-with-{name}")).identify(id)));
        cases.push(warns(
            case(&format!("identify-with-{name}-variant")).identify(format!(" {}\t", id.to_uppercase())),
        ));
    }
    cases.push(warns(
        case("identify-with-itself").identify("hostile-identify-with-itself"),
    ));
    cases.push(warns(
        case("identify-with-401-characters").identify(vec![repeat("я", 401)]),
    ));
    cases.push(warns(case("identify-with-nul").identify("anon\0ymous-1")));
    let silent = "nothing was sent, so nothing is wrong";
    cases.push(case("identify-with-nothing").identify("").note(silent).lands());
    cases.push(
        case("identify-without-anonymous-id")
            .identify("")
            .without(&["anonymous_id"])
            .lands(),
    );
    cases.push(
        case("identify-with-400-characters")
            .identify(vec![repeat("ю", 400)])
            .lands(),
    );
    cases.push(
        case("illegal-anonymous-id-elsewhere")
            .with("anonymous_id", "null")
            .column("anonymous_id", "null")
            .note("only `$identify` looks at the anonymous id")
            .lands(),
    );
    cases
}

fn strange() -> Vec<HostileCase> {
    let ids: [(&str, Bytes); 16] = [
        ("colons-and-spaces", "a:b c:{d}:".into()),
        ("cyrillic", "Пользователь 1:2".into()),
        ("emoji", "👩‍👩‍👧‍👦 семья".into()),
        ("right-to-left", "\u{202e}txt.exe\u{2066}مرحبا\u{2069}".into()),
        ("zero-width", "zero\u{200b}\u{feff}width".into()),
        ("line-breaks", "a\r\nb\n\tc".into()),
        ("resp", "\r\n*1\r\n$8\r\nFLUSHALL\r\n".into()),
        ("sql", "'; DROP TABLE persons; --".into()),
        ("sql-comment", "x' /*+ */ UNION SELECT 1 -- \\'".into()),
        ("clickhouse", "\\'), (1) FORMAT Values -- \\N".into()),
        ("json", "{\"$gt\":\"\"}".into()),
        ("backslashes", "\\\\\\\"\\u0000".into()),
        ("template", "${jndi:ldap://localhost/x}{{7*7}}<%= 1 %>".into()),
        ("percent", "%s%n%00%d".into()),
        ("control", "bell\u{7}escape\u{1b}[31mdelete\u{7f}".into()),
        ("glob", "*?[a-z]".into()),
    ];
    let mut cases: Vec<_> = ids
        .into_iter()
        .map(|(name, id)| {
            case(&format!("distinct-id-{name}"))
                .with("distinct_id", id)
                .lands()
        })
        .collect();
    let padded = case("distinct-id-padded").with("distinct_id", "  padded \t");
    cases.push(padded.note("used untrimmed").lands());
    cases
}
