//! What a batch asks of each store, in numbers of statements and bytes: the same on every machine, however busy it is.
//!
//! How many batches there are depends on when entries arrive, so what is bounded is what one batch asks. How large a batch
//! is has a bound of its own, by the rule that closes it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::support::{PROJECT, STREAM, Worker, World, ask};

/// Events of each case.
const EVENTS: usize = 20_000;
/// Distinct ids of each case.
const IDS: usize = 2_000;
const PATIENCE: Duration = Duration::from_mins(3);

/// What is sent, and the most that it may cost.
struct Case {
    name: &'static str,
    /// Fields of the `n`-th event besides.
    fields: fn(usize) -> Vec<(&'static str, String)>,
    /// Statements to PostgreSQL about persons in each batch…
    statements: usize,
    /// …and in all: keys that are not remembered are looked up, a thousand in one statement.
    lookups: usize,
    /// Person keys that each batch sets in Redis…
    keys: usize,
    /// …and in all.
    keys_once: usize,
    /// Whether Redis is asked what it knows of persons.
    asks_redis: bool,
}

/// A proxy before a store that writes down what is sent to it.
struct Tap {
    port: u16,
    address: SocketAddr,
    sent: Arc<Mutex<Sent>>,
}

#[derive(Default)]
struct Sent {
    bytes: usize,
    /// Of PostgreSQL.
    statements: Vec<String>,
}

impl Tap {
    /// Before a local port, where PostgreSQL may be.
    async fn before(port: u16, is_postgres: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent: Arc<Mutex<Sent>> = Arc::default();
        let writes = sent.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let messages = is_postgres.then(Messages::default);
                tokio::spawn(pass_on(client, server, messages, writes.clone()));
            }
        });
        Self { port, address, sent }
    }

    /// The store's URL, by way of this.
    fn url(&self, of_the_store: &str) -> String {
        of_the_store.replace(&format!(":{}", self.port), &format!(":{}", self.address.port()))
    }

    /// Takes out what was written down so far.
    fn take(&self) -> Sent {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }
}

async fn pass_on(
    client: TcpStream,
    server: TcpStream,
    mut messages: Option<Messages>,
    sent: Arc<Mutex<Sent>>,
) {
    let ((mut from, mut answers), (mut back, mut to)) = (client.into_split(), server.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut back, &mut answers).await });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        {
            let mut sent = sent.lock().unwrap();
            sent.bytes += read;
            if let Some(messages) = &mut messages {
                messages.append(&buffer[..read], &mut sent.statements);
            }
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// What a client sends: each message is a letter, its length and that many bytes. The first ones, which open the
/// connection, have no letter.
#[derive(Default)]
struct Messages {
    opened: bool,
    held: Vec<u8>,
}

impl Messages {
    const ASKS_FOR_TLS: [u8; 4] = 80_877_103_u32.to_be_bytes();

    fn append(&mut self, bytes: &[u8], statements: &mut Vec<String>) {
        self.held.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let head = usize::from(self.opened);
            let Some(length) = self.held.get(at + head..at + head + 4) else {
                break;
            };
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            let Some(message) = self.held.get(at..at + head + length) else {
                break;
            };
            if !self.opened {
                self.opened = message[4..8] != Self::ASKS_FOR_TLS;
            } else if let Some(statement) = statement(message) {
                statements.push(statement);
            }
            at += head + length;
        }
        self.held.drain(..at);
    }
}

/// The text of a simple query, or of one that is parsed before it is executed: the worker names none of these, so each
/// is parsed every time.
fn statement(message: &[u8]) -> Option<String> {
    let mut texts = message[5..].split(|byte| *byte == 0);
    let text = match message[0] {
        b'Q' => texts.next(),
        b'P' => texts.nth(1),
        _ => None,
    };
    text.map(|text| {
        String::from_utf8_lossy(text)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    })
}

/// How often Redis has been asked what.
async fn commands(world: &World) -> BTreeMap<String, usize> {
    let info: String = ask(world, "INFO", &["commandstats"]).await;
    let lines = info
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
    lines
        .map(|(name, rest)| {
            let (calls, _) = rest.split_once(',').unwrap();
            (name.to_owned(), calls.parse().unwrap())
        })
        .collect()
}

/// A transaction is `BEGIN`, persons and mappings inserted, mappings read under lock, persons without a mapping deleted,
/// a `SELECT` before the `COMMIT`: six, and one look-up before it. Property writes read and write the persons besides.
/// Identifies read and write mappings, and tell of them.
const CASES: [Case; 4] = [
    Case {
        name: "new persons",
        fields: |_| Vec::new(),
        statements: 7,
        lookups: IDS / 1_000,
        keys: 0,
        keys_once: IDS,
        asks_redis: true,
    },
    Case {
        name: "known persons",
        fields: |_| Vec::new(),
        statements: 0,
        lookups: 0,
        keys: 0,
        keys_once: 0,
        asks_redis: false,
    },
    Case {
        name: "property writes",
        fields: |n| {
            let writes = n % 100 < 5;
            let properties = writes.then(|| ("user_properties", r#"{"n":1}"#.to_owned()));
            properties.into_iter().collect()
        },
        statements: 9,
        lookups: 0,
        keys: IDS / 20,
        keys_once: 0,
        asks_redis: true,
    },
    Case {
        name: "identifies",
        fields: |n| {
            let identifies = n % 100 == 0;
            let anonymous = format!("anonymous {n}");
            let fields = [
                ("event_name", "$identify".to_owned()),
                ("anonymous_id", anonymous),
            ];
            fields.into_iter().filter(|_| identifies).collect()
        },
        statements: 12,
        lookups: 0,
        keys: IDS / 100,
        // Once to see that nobody has told of it, once as the key of every person.
        keys_once: 2 * EVENTS / 100,
        asks_redis: true,
    },
];

#[tokio::test]
async fn a_batch_asks_no_more_of_the_stores_than_it_has_to() {
    let world = World::start().await;
    let persons = Tap::before(world.stack.postgres().unwrap().port(), true).await;
    let rows = Tap::before(world.stack.clickhouse().unwrap().port(), false).await;
    // Every insert stays a part of its own.
    world.ch("SYSTEM STOP MERGES events").await;
    let _worker = start(&world, &persons, &rows).await;
    for case in &CASES {
        let (began, redis, parts_before) = (Instant::now(), commands(&world).await, parts(&world).await);
        drop((persons.take(), rows.take()));
        send(&world, case, EVENTS).await;
        world.settled(PATIENCE).await;
        let after = commands(&world).await;
        let calls = |name: &str| {
            let of = |counts: &BTreeMap<String, usize>| counts.get(name).copied().unwrap_or(0);
            of(&after) - of(&redis)
        };
        let spent = Spent {
            batches: parts(&world).await - parts_before,
            // Of loops that do something once a second.
            seconds: began.elapsed().as_secs() as usize + 1,
            statements: persons
                .take()
                .statements
                .into_iter()
                .filter(|text| is_about_a_batch(text))
                .collect(),
            bytes: rows.take().bytes,
            reads: calls("xreadgroup"),
            scripts: calls("eval"),
            acknowledges: calls("xack"),
            looks: calls("mget"),
            sets: calls("set"),
        };
        spent.check(case);
    }
}

/// A worker that has read something.
async fn start(world: &World, persons: &Tap, rows: &Tap) -> Worker {
    let database = persons.url(&world.stack.database_url().unwrap());
    let clickhouse = rows.url(&world.stack.clickhouse_url().unwrap());
    let environment = [
        ("DATABASE_URL", database.as_str()),
        ("CLICKHOUSE_URL", &clickhouse),
        ("PROCESSOR_FLUSH_INTERVAL_MS", "5000"),
        // What is remembered for long, or has been held for long, is asked about again: not here, however long it takes.
        ("PROCESSOR_PERSON_CHECK_SECONDS", "3600"),
        ("PROCESSOR_CLAIM_IDLE_MS", "3600000"),
        ("PROCESSOR_CLAIM_INTERVAL_MS", "3600000"),
        ("PROCESSOR_ROLES", "consume"),
    ];
    // A stranger holds the lock under which is published and forgotten what is old.
    let _: () = ask(world, "SET", &["processor:sweep:lock", "a stranger"]).await;
    world.event("somebody", &[]).await;
    let worker = world.worker("w1", &environment);
    world.settled(PATIENCE).await;
    // The first look at the group beside the reading has what is held, or on its way, asked about: a read waits a second.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    worker
}

/// Large merges and projects are looked for, persons noted as seen this hour, and names written to the catalogue, at times
/// of their own.
fn is_about_a_batch(statement: &str) -> bool {
    let others = [
        "WHERE unfinished",
        "FROM projects",
        "UPDATE persons p SET updated_at",
        "event_definitions",
        "event_properties",
        "property_definitions",
    ];
    others.iter().all(|other| !statement.contains(other))
}

/// What a case has asked of the stores.
#[derive(Debug)]
struct Spent {
    batches: usize,
    seconds: usize,
    statements: Vec<String>,
    bytes: usize,
    reads: usize,
    scripts: usize,
    acknowledges: usize,
    looks: usize,
    sets: usize,
}

impl Spent {
    fn check(&self, case: &Case) {
        let (batches, seconds) = (self.batches, self.seconds);
        let at_most = |what: &str, spent: usize, most: usize| {
            assert!(
                spent <= most,
                "{}: {what}: {spent} where {most} are enough: {self:#?}",
                case.name
            );
        };
        // A batch holds 10,000 events while more is waiting; the last one holds what is left. One that is closed because
        // nothing came for a while, as on a machine that is busy, comes twice a second at most.
        at_most("batches", batches, EVENTS / 10_000 + 2 + 2 * seconds);
        // Persons are resolved for 10,000 events at a time, several times for an insert.
        let steps = batches + EVENTS / 10_000;
        at_most(
            "statements",
            self.statements.len(),
            case.statements * steps + case.lookups,
        );
        // Entries are read by the two thousand; with nothing there, a read waits a second.
        at_most("reads", self.reads, EVENTS / 2_000 + 1 + seconds);
        // The group is looked at before each read and once a second, and each batch trims.
        at_most("scripts", self.scripts, self.reads + 3 * batches + 2 * seconds);
        // By two thousand ids, and the rest of each batch.
        at_most("acknowledges", self.acknowledges, EVENTS / 2_000 + batches);
        if !case.asks_redis {
            at_most("looks at person keys", self.looks, 0);
        }
        // Besides, the process notes that it lives.
        at_most(
            "keys",
            self.sets,
            case.keys * steps + case.keys_once + 2 * seconds,
        );
        // Ids, times and sizes take 68 bytes of a row, 26 texts a byte each and 15 more; the rest is for requests.
        at_most("bytes", self.bytes, 115 * EVENTS);
    }
}

/// Inserts of events, as long as nothing is merged.
async fn parts(world: &World) -> usize {
    let sql = "SELECT count() FROM system.parts WHERE table = 'events' AND active";
    world.ch(sql).await.parse().unwrap()
}

/// Appends so many events at once: all are there when the first one is read.
async fn send(world: &World, case: &Case, events: usize) {
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    for n in 0..events {
        let mut fields = BTreeMap::from([
            ("event_id", Uuid::new_v4().to_string()),
            ("project_id", PROJECT.to_owned()),
            ("distinct_id", format!("person {}", n % IDS)),
            ("event_name", "test".to_owned()),
            // All rows are of one month: an insert makes one part.
            ("timestamp", "2026-01-15T10:30:00.000Z".to_owned()),
        ]);
        fields.extend((case.fields)(n));
        let command = pipeline.cmd("XADD").arg(STREAM).arg("*");
        for field in fields {
            command.arg(field);
        }
        command.ignore();
    }
    pipeline
        .query_async::<()>(&mut world.redis.clone())
        .await
        .unwrap();
}
