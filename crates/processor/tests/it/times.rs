//! Event times: which are taken, which the table keeps, and whether ClickHouse reads them alike.

use qurvo_processor::event::timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::support::{PROJECT, REJECTED, SOON, STREAM, World, entries};

/// Adds an entry under an id of our choice; returns its event id.
async fn add_at(world: &World, id: &str, more: &[(&str, &str)]) -> Uuid {
    let event_id = Uuid::new_v4();
    let mut command = redis::cmd("XADD");
    command.arg(STREAM).arg(id);
    let text = event_id.to_string();
    for (name, value) in [
        ("event_id", text.as_str()),
        ("project_id", PROJECT),
        ("distinct_id", "d"),
        ("event_name", "e"),
    ]
    .iter()
    .chain(more)
    {
        command.arg(name).arg(value);
    }
    let _id: String = command.query_async(&mut world.redis.clone()).await.unwrap();
    event_id
}

/// The reasons of the rejected entries, by stream id.
async fn rejected(world: &World) -> Vec<String> {
    let entries = entries(world, REJECTED).await;
    let field = |entry: &redis::streams::StreamId, name: &str| entry.get::<String>(name).unwrap();
    entries
        .iter()
        .map(|entry| format!("{} {}", field(entry, "stream_id"), field(entry, "reason")))
        .collect()
}

/// The times of the rows that are left once everything that has expired is gone.
async fn kept(world: &World) -> String {
    world.ch("OPTIMIZE TABLE events FINAL").await;
    world.ch("SELECT timestamp FROM events ORDER BY timestamp").await
}

#[tokio::test]
async fn what_the_table_would_drop_at_once_is_rejected_and_the_last_millisecond_before_is_kept() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    let given = [
        ("1-0", "2105-02-05T23:59:59.999Z"),
        ("2-0", "2105-02-06T00:00:00.000Z"),
        ("3-0", "2105-02-07T06:28:16.000Z"),
        ("4-0", "2261-12-31T23:59:59.999Z"),
        ("5-0", "1969-12-31T23:59:59.999Z"),
        ("6-0", "2105-02-05 23:59:59 -00:01"),
        ("7-0", "4263321600"),
        ("8-0", "4263321599999"),
    ];
    for (id, time) in given {
        add_at(&world, id, &[("timestamp", time)]).await;
    }
    world.settled(SOON).await;
    let expected = ["2-0", "3-0", "4-0", "5-0", "6-0", "7-0"].map(|id| format!("{id} invalid_timestamp"));
    assert_eq!(rejected(&world).await, expected);
    assert_eq!(
        kept(&world).await,
        "2105-02-05 23:59:59.999\n2105-02-05 23:59:59.999"
    );
}

#[tokio::test]
async fn the_time_of_a_stream_id_is_checked_like_one_that_is_given() {
    let world = World::start().await;
    let _worker = world.worker("w1", &[]);
    let year_2100 = "2100-01-01T00:00:00.000Z";
    let ids = [
        "4263321599999-0",
        "4263321600000-0",
        "9214646400000-0",
        "9223372036854775807-0",
        "9223372036854775808-0",
        "18446744073709551615-0",
    ];
    for id in ids {
        let id = id.trim_end_matches("-0");
        add_at(&world, &format!("{id}-1"), &[]).await;
        add_at(
            &world,
            &format!("{id}-2"),
            &[
                ("timestamp", year_2100),
                ("user_properties", &format!(r#"{{"last":"{id}"}}"#)),
            ],
        )
        .await;
    }
    world.settled(SOON).await;
    let expected: Vec<String> = ids[1..]
        .iter()
        .map(|id| format!("{} invalid_timestamp", id.replace("-0", "-1")))
        .collect();
    assert_eq!(rejected(&world).await, expected);
    assert_eq!(
        kept(&world).await,
        format!(
            "2100-01-01 00:00:00.000\n{}",
            ["2100-01-01 00:00:00.000"; 5].join("\n")
        ) + "\n2105-02-05 23:59:59.999"
    );
    // Of two writes of one event time the later entry's counts, however far ahead its id lies.
    assert_eq!(
        world.pg("SELECT properties->>'last' FROM persons").await,
        ["18446744073709551615"]
    );
}

#[tokio::test]
async fn a_dead_letter_with_a_time_that_the_table_would_drop_is_rejected() {
    let world = World::start().await;
    let data = |time: &str| {
        serde_json::json!({
            "event_id": Uuid::new_v4(), "project_id": PROJECT, "event_name": "e", "distinct_id": "d", "timestamp": time,
        })
        .to_string()
    };
    for time in ["2200-01-01T00:00:00.000Z", "2100-01-01T00:00:00.000Z"] {
        let _id: String = redis::cmd("XADD")
            .arg("events:dlq")
            .arg("*")
            .arg("data")
            .arg(data(time))
            .query_async(&mut world.redis.clone())
            .await
            .unwrap();
    }
    let (done, said) = world.run(&["dlq", "replay"], &[]);
    assert!(done, "{said}");
    assert_eq!(rejected(&world).await.len(), 1, "{said}");
    assert_eq!(kept(&world).await, "2100-01-01 00:00:00.000");
}

/// A text of one of the forms that the contract lists, of a time that may lie anywhere or nowhere.
fn text(random: &mut StdRng) -> String {
    match random.random_range(0..20) {
        0 => return random.random_range(100_000_000u64..10_000_000_000).to_string(),
        1 => {
            return random
                .random_range(1_000_000_000_000u64..5_000_000_000_000)
                .to_string();
        }
        2 => {
            let whole = random.random_range(100_000_000u64..5_000_000_000);
            return format!("{whole}.{}", digits(random, 1, 9));
        }
        _ => {}
    }
    let year = match random.random_range(0..8) {
        0 => random.random_range(1900..2300),
        1 => [1969, 1970, 2000, 2100, 2104, 2105, 2106][random.random_range(0..7)],
        _ => random.random_range(2020..2030),
    };
    // Now and then there is no such day.
    let (month, day) = (random.random_range(0..14), random.random_range(0..33));
    let (month, day) = if random.random_range(0..6) == 0 {
        (month, day)
    } else {
        (month.clamp(1, 12), day.clamp(1, 28))
    };
    let date = format!("{year:04}-{month:02}-{day:02}");
    if random.random_range(0..12) == 0 {
        return date;
    }
    let separator = ["T", " "][random.random_range(0..2)];
    let (hour, minute) = (random.random_range(0..24), random.random_range(0..60));
    let mut time = format!("{hour:02}:{minute:02}");
    if random.random_range(0..8) > 0 {
        time += &format!(":{:02}", random.random_range(0..60));
        if random.random_range(0..2) == 0 {
            time += &format!(".{}", digits(random, 1, 9));
        }
    }
    format!("{date}{separator}{time}{}", zone(random))
}

fn zone(random: &mut StdRng) -> String {
    let blank = ["", "", " ", "  "][random.random_range(0..4)];
    let sign = ["+", "-"][random.random_range(0..2)];
    let hours = random.random_range(0..=14);
    let minutes = [0, 0, 15, 30, 45, 59][random.random_range(0..6)];
    let zone = match random.random_range(0..8) {
        0 | 1 => return String::new(),
        2 => "Z".to_owned(),
        3 => ["UTC", "GMT"][random.random_range(0..2)].to_owned(),
        4 => format!("{sign}{hours:02}"),
        5 => format!("{sign}{hours:02}{minutes:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}"),
    };
    format!("{blank}{zone}")
}

fn digits(random: &mut StdRng, least: usize, most: usize) -> String {
    let count = random.random_range(least..=most);
    (0..count)
        .map(|_| char::from(random.random_range(b'0'..=b'9')))
        .collect()
}

/// One character of a text is left out, doubled, or another.
fn damaged(random: &mut StdRng, text: &str) -> String {
    const OTHERS: &[u8] = b"0123456789-:+. TZ/";
    let mut bytes = text.as_bytes().to_vec();
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..3) {
        0 => drop(bytes.remove(at)),
        1 => bytes.insert(at, bytes[at]),
        _ => bytes[at] = OTHERS[random.random_range(0..OTHERS.len())],
    }
    String::from_utf8(bytes).unwrap()
}

/// What the engine's best-effort parser makes of each.
async fn engines(world: &World, texts: &[String]) -> Vec<Option<i64>> {
    let mut found = Vec::new();
    for some in texts.chunks(1000) {
        let values: Vec<String> = some.iter().map(|text| format!("('{text}')")).collect();
        let sql = format!(
            "SELECT toUnixTimestamp64Milli(parseDateTime64BestEffortOrNull(t, 3, 'UTC'))
             FROM values('t String', {})",
            values.join(",")
        );
        found.extend(world.ch(&sql).await.lines().map(|line| line.parse().ok()));
    }
    found
}

/// What no event has that is taken: after it the table's expiry wraps.
const END: i64 = 4_263_321_600_000;

#[tokio::test]
async fn times_are_read_as_the_engine_reads_them() {
    let world = World::start().await;
    let mut random = StdRng::seed_from_u64(20_261_123);
    let texts: Vec<String> = (0..6_000).map(|_| text(&mut random)).collect();
    let wrong: Vec<String> = texts
        .iter()
        .zip(engines(&world, &texts).await)
        .map(|(text, engine)| (text, engine.filter(|ms| (0..END).contains(ms))))
        .filter(|(text, engine)| timestamp::parse(text) != *engine && !is_deliberate(text))
        .map(|(text, engine)| format!("{text:?}: {:?}, the engine {engine:?}", timestamp::parse(text)))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of 6000: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(30)]
    );
    let taken = texts
        .iter()
        .filter(|text| timestamp::parse(text).is_some())
        .count();
    assert!(taken > 4_000, "{taken} of 6000 are times");

    // Nothing is read as another time than the engine's, whatever was done to it.
    let texts: Vec<String> = texts.iter().map(|text| damaged(&mut random, text)).collect();
    let wrong: Vec<String> = texts
        .iter()
        .zip(engines(&world, &texts).await)
        .filter_map(|(text, engine)| {
            let ours = timestamp::parse(text)?;
            (Some(ours) != engine && !is_deliberate(text))
                .then(|| format!("{text:?}: {ours}, the engine {engine:?}"))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of 6000: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(30)]
    );
}

/// Where we differ from the engine on purpose.
fn is_deliberate(text: &str) -> bool {
    // Twelve digits are milliseconds of the years 1973 to 2001, and white space around a time does no harm: the engine
    // takes neither twelve digits nor white space behind a number.
    let is_number = text
        .trim()
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    // The engine takes month 0 for January, day 0 for the first, and second 60 for the next minute; to us it is second 59.
    is_number && (text.trim().len() == 12 || text.ends_with(' '))
        || text.get(4..8) == Some("-00-")
        || text.get(7..10) == Some("-00")
        || text.contains(":60")
        // An hour and a minute without a colon, behind a date with hyphens, are what they look like.
        || text.get(11..15).is_some_and(|time| time.bytes().all(|byte| byte.is_ascii_digit()))
}
