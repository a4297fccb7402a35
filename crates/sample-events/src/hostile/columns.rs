//! Everything else of a row: screens, names, addresses, user agents, repeated and unknown fields.

use super::builder::case;
use super::bytes::{Bytes, Piece, repeat, text};
use super::case::HostileCase;

/// All cases of this kind.
pub(crate) fn cases() -> Vec<HostileCase> {
    [
        screens(),
        twice(),
        fields(),
        crowds_of_fields(),
        names(),
        addresses(),
        agents(),
        encodings(),
    ]
    .concat()
}

fn screens() -> Vec<HostileCase> {
    let mut cases: Vec<_> = [
        ("zero", "0", 0),
        ("usual", "1080", 1080),
        ("fraction", "1080.9", 1080),
        ("largest", "65535", 65_535),
        ("one-too-many", "65536", 65_535),
        ("seventy-thousand", "70000", 65_535),
        ("beyond-64-bits", "99999999999999999999999", 65_535),
        ("negative", "-5", 0),
        ("negative-fraction", "-0.5", 0),
        ("negative-huge", "-99999999999999999999", 0),
        ("infinity", "Infinity", 0),
        ("negative-infinity", "-Infinity", 0),
        ("not-a-number", "NaN", 0),
        ("word", "abc", 0),
        ("null", "null", 0),
        ("empty", "", 0),
        ("blank", "  ", 0),
        ("sign-alone", "-", 0),
        ("arabic-digits", "١٠٨٠", 0),
    ]
    .into_iter()
    .map(|(name, value, expected)| {
        case(&format!("screen-{name}"))
            .with("screen_width", value)
            .with("screen_height", value)
            .number("screen_width", expected)
            .number("screen_height", expected)
            .lands()
    })
    .collect();
    let long = vec![repeat("9", 100_000)];
    cases.push(
        case("screen-of-100000-digits")
            .with("screen_width", long)
            .number("screen_width", 65_535)
            .lands(),
    );
    cases
}

const LAST_COUNTS: &str =
    "the stream promises each field once; the last one counts, as in an object made of the pairs";

fn twice() -> Vec<HostileCase> {
    vec![
        case("field-twice-the-same")
            .with("url", "/a")
            .also("url", "/a")
            .column("url", "/a")
            .lands(),
        case("field-twice")
            .with("url", "/first")
            .also("url", "/last")
            .column("url", "/last")
            .note(LAST_COUNTS)
            .lands(),
        case("distinct-id-twice")
            .with("distinct_id", "null")
            .also("distinct_id", "hostile-last-distinct-id")
            .note(LAST_COUNTS)
            .lands(),
    ]
}

fn fields() -> Vec<HostileCase> {
    vec![
        case("unknown-fields")
            .also("schema_version", "1")
            .also("", "nameless")
            .also("person_id", "00000000-0000-4000-8000-000000000001")
            .also("ingested_at", "1999-01-01")
            .also("country", "XX")
            .also("$set", "{}")
            .also("URL", "/shouted")
            .column("url", "")
            .note("only the stream's fields count; columns that are no fields cannot be smuggled in")
            .lands(),
        case("unknown-field-of-a-megabyte")
            .also("noise", vec![repeat("n", 1_048_576)])
            .lands(),
        case("no-event-type")
            .without(&["event_type"])
            .column("event_type", "track")
            .lands(),
        case("strange-event-type").kept("event_type", "'; DROP\n").lands(),
        case("url-of-100000")
            .kept(
                "url",
                vec![text("https://nordlicht.example/?q="), repeat("%20", 33_324)],
            )
            .lands(),
        case("title-with-markup")
            .kept("page_title", "</title><script>alert(1)</script>")
            .lands(),
        case("referrer-javascript")
            .kept("referrer", "javascript:alert(document.cookie)")
            .lands(),
        case("session-formula")
            .kept("session_id", "=HYPERLINK(\"x\")")
            .lands(),
        case("language-nonsense")
            .kept("language", "xx-∞-☃")
            .kept("timezone", "Mars/Olympus_Mons")
            .lands(),
        case("batch-id-nonsense")
            .kept("batch_id", "import-not-a-uuid")
            .lands(),
    ]
}

fn crowds_of_fields() -> Vec<HostileCase> {
    let mut many = case("a-thousand-unknown-fields");
    for number in 0..1000 {
        many = many.also(&format!("field{number}"), "x");
    }
    let mut same = case("a-field-two-hundred-times");
    for number in 0..200 {
        same = same.also("page_title", number.to_string());
    }
    let same = same.column("page_title", "199").note(LAST_COUNTS);
    vec![many.lands(), same.lands()]
}

fn names() -> Vec<HostileCase> {
    let names: [(&str, Bytes); 14] = [
        ("control", "bell\u{7}escape\u{1b}[31m\u{9c}".into()),
        ("right-to-left", "\u{202e}gnp.exe\u{200f} حدث".into()),
        ("zero-width", "zero\u{200b}width\u{feff}".into()),
        ("line-breaks", "two\r\nlines".into()),
        ("padded", "  padded  ".into()),
        ("sql", "'; DROP TABLE events; --".into()),
        ("quotes", "\"\\'`{}[]".into()),
        ("json", "{\"event\":\"x\"}".into()),
        ("null", "null".into()),
        ("number", "0".into()),
        ("placeholder", "{project:UUID} ? $1 :name %s".into()),
        ("200-characters", vec![repeat("é", 200)].into()),
        ("201-characters", vec![repeat("é", 201)].into()),
        ("100000-characters", vec![repeat("event", 20_000)].into()),
    ];
    let mut cases: Vec<_> = names
        .into_iter()
        .map(|(name, value)| {
            case(&format!("event-name-{name}"))
                .kept("event_name", value)
                .lands()
        })
        .collect();
    cases.push(
        case("event-name-nul")
            .kept("event_name", "a\0b")
            .note("the row can hold it; its definition is recorded without")
            .lands(),
    );
    cases.push(case("event-name-and-nul").kept("event_name", "hostile\0").lands());
    cases.push(
        case("event-name-like-identify")
            .kept("event_name", "$Identify")
            .with("anonymous_id", "null")
            .lands(),
    );
    cases
}

/// No country: these addresses are private, or none.
fn addresses() -> Vec<HostileCase> {
    let mut cases: Vec<_> = [
        ("loopback", "127.0.0.1"),
        ("loopback-other", "127.8.9.10"),
        ("loopback-6", "::1"),
        ("loopback-mapped", "::ffff:127.0.0.1"),
        ("loopback-mapped-hex", "::ffff:7f00:1"),
        ("private-10", "10.1.2.3"),
        ("private-172", "172.16.0.1"),
        ("private-192", "192.168.1.1"),
        ("private-mapped", "::ffff:10.0.0.1"),
        ("private-6", "fd12:3456:789a::1"),
        ("link-local", "169.254.1.1"),
        ("link-local-6", "fe80::1"),
        ("zone", "fe80::1%eth0"),
        ("unspecified", "0.0.0.0"),
        ("unspecified-6", "::"),
        ("empty", ""),
        ("word", "localhost"),
        ("too-large", "999.1.1.1"),
        ("too-short", "1.2.3"),
        ("too-long", "1.2.3.4.5"),
        ("port", "1.2.3.4:80"),
        ("list", "1.2.3.4, 5.6.7.8"),
        ("brackets", "[2001:4860:4860::8888]"),
        ("range", "8.8.8.0/24"),
        ("leading-zeros", "008.008.008.008"),
        ("hexadecimal", "0x08080808"),
        ("half-an-address", "2001:4860:"),
        ("sql", "' OR 1=1 --"),
    ]
    .into_iter()
    .map(|(name, ip)| {
        case(&format!("ip-{name}"))
            .kept("ip", ip)
            .column("country", "")
            .lands()
    })
    .collect();
    let public = "a country depends on the database; the text is kept as it came";
    for (name, ip) in [
        ("public-mapped", "::ffff:8.8.8.8"),
        ("capitals", "2A00:1450:4001:82F::200E"),
    ] {
        cases.push(case(&format!("ip-{name}")).kept("ip", ip).note(public).lands());
    }
    cases.push(
        case("ip-endless")
            .kept("ip", vec![repeat("1.", 50_000)])
            .column("country", "")
            .lands(),
    );
    cases
}

const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36";

fn agents() -> Vec<HostileCase> {
    let nothing = |name: &str, header: Bytes| {
        let builder = case(&format!("user-agent-{name}")).with("user_agent", header);
        builder.column("browser", "").column("device_type", "").lands()
    };
    vec![
        nothing("empty", "".into()),
        nothing("custom-bot", "CustomBot/1.0".into()),
        nothing("word", "x".into()),
        nothing("parentheses", vec![repeat("(", 50_000)].into()),
        nothing("semicolons", vec![repeat("; ", 50_000)].into()),
        nothing("control", "\r\n\0\u{7}".into()),
        nothing("emoji", "🦔/1.0".into()),
        case("user-agent-chrome")
            .with("user_agent", CHROME)
            .column("browser", "Chrome")
            .column("os", "Windows")
            .column("device_type", "desktop")
            .lands(),
        case("user-agent-fields-win")
            .with("user_agent", CHROME)
            .kept("browser", "Given")
            .kept("os_version", "95")
            .column("os", "Windows")
            .column("device_type", "desktop")
            .lands(),
        case("user-agent-of-a-megabyte")
            .with("user_agent", vec![text(CHROME), repeat(" Safari/537.36", 74_898)])
            .note("lands in good time, whatever is made of it")
            .lands(),
    ]
}

fn encodings() -> Vec<HostileCase> {
    let broken = |hex: &str| vec![text("a"), Piece::Hex { hex: hex.to_owned() }, text("b")];
    let replaced = "bytes that are no UTF-8 are replaced; by how many characters is left open";
    let mut cases = vec![
        case("title-one-broken-byte")
            .with("page_title", broken("ff"))
            .column("page_title", "a\u{fffd}b")
            .lands(),
        case("title-nul").kept("page_title", "a\0b").lands(),
        case("title-overlong")
            .with("page_title", broken("c0af"))
            .note(replaced)
            .lands(),
        case("title-surrogate")
            .with("page_title", broken("eda080"))
            .note(replaced)
            .lands(),
        case("title-all-planes")
            .kept(
                "page_title",
                "\u{1}\u{7f}\u{80}\u{7ff}\u{800}\u{fffd}\u{10000}\u{10ffff}",
            )
            .lands(),
    ];
    let properties = vec![text("{\"a\":\""), Piece::Hex { hex: "ff".into() }, text("\"}")];
    cases.push(
        case("properties-broken-byte")
            .with("properties", properties)
            .column("properties", "{\"a\":\"\u{fffd}\"}")
            .note("replaced before it is looked at, so it is an object")
            .lands(),
    );
    cases
}
