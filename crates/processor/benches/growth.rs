//! What bends as the number of persons grows: the same traffic, the same commands, at several sizes.
//!
//! `./dev bench -p qurvo-processor --bench growth`: 100,000 persons, then a million; `GROWTH_PERSONS=10000000` names other
//! sizes (ten millions need 20 GB of disk and 6 GB of memory). A tenth of the persons has taken in another one. Private
//! services on loopback, gone afterwards.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark"
)]

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use embedded_stack::{Stack, StackOptions};
use redis::aio::MultiplexedConnection;
use serde_json::json;
use uuid::Uuid;

use common::{STREAM, ask, command, connect_redis, drain};

const PROJECT: Uuid = Uuid::from_u128(0x1111_1111_1111_1111_1111_1111_1111_1111);
/// Events of the mix, at every size.
const EVENTS: usize = 200_000;
/// Events that each person has in the warehouse beforehand.
const EVENTS_EACH: usize = 2;
const STEP: usize = 500_000;

#[tokio::main]
async fn main() {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let sizes = std::env::var("GROWTH_PERSONS").unwrap_or_else(|_| "100000,1000000".into());
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "persons",
        "mix, events/s",
        "worker µs",
        "PostgreSQL µs",
        "worker MB",
        "dictionary",
        "five cohorts",
        "audit",
        "status",
        "a person",
    ]);
    for size in sizes.split(',').map(|size| size.trim().parse().unwrap()) {
        let bench = Bench::start(size).await;
        bench.fill().await;
        table.add_row(bench.measure().await);
        println!("{table}");
    }
    println!(
        "\nµs are CPU time per event of the mix: known persons, 5 % with a property, 1 % that identify an anonymous id"
    );
}

struct Bench {
    stack: Stack,
    postgres: tokio_postgres::Client,
    redis: MultiplexedConnection,
    http: reqwest::Client,
    persons: usize,
}

impl Bench {
    async fn start(persons: usize) -> Self {
        let stack = Stack::start(StackOptions::temporary().unwrap()).await.unwrap();
        let url = stack.database_url().unwrap();
        let (postgres, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let bench = Self {
            redis: connect_redis(&stack).await,
            stack,
            postgres,
            http: reqwest::Client::new(),
            persons,
        };
        bench.run(&["migrate"]);
        let rows = format!(
            "INSERT INTO projects (id, name) VALUES ('{PROJECT}', 'bench');
             INSERT INTO users (id, email, password_hash, display_name) VALUES ('{PROJECT}', 'a@b.example', '', '')"
        );
        bench.postgres.batch_execute(&rows).await.unwrap();
        bench
    }

    /// Runs a command of the program. Returns its seconds and its peak memory in MB.
    fn run(&self, arguments: &[&str]) -> (f64, u64) {
        let began = Instant::now();
        let mut child = command(&self.stack)
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut peak = 0;
        let status = loop {
            peak = peak.max(common::peak_mb(child.id()));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{arguments:?}");
        let seconds = began.elapsed().as_secs_f64();
        println!("  {} took {seconds:.2} s", arguments.join(" "));
        (seconds, peak)
    }

    async fn ask(&self, sql: &str) -> String {
        ask(&self.http, &self.stack.env(), sql).await
    }

    /// Persons, their mappings and keys, merges and rows, in bulk, as the worker would have left them.
    async fn fill(&self) {
        let began = Instant::now();
        for from in (0..self.persons).step_by(STEP) {
            let to = (from + STEP).min(self.persons) - 1;
            let merged = to / 10;
            let sql = format!(
                r#"BEGIN;
                INSERT INTO persons (id, project_id, properties)
                SELECT md5('person ' || n)::uuid, '{PROJECT}', '{{"plan": "pro"}}' FROM generate_series({from}, {to}) n;
                INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
                SELECT '{PROJECT}', md5('person ' || n)::uuid, 'visitor-' || n FROM generate_series({from}, {to}) n;
                INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
                SELECT '{PROJECT}', md5('person ' || n)::uuid, 'before-' || n FROM generate_series({first}, {merged}) n;
                INSERT INTO processor_person_overrides (project_id, distinct_id, person_id, version, published)
                SELECT '{PROJECT}', 'before-' || n, md5('person ' || n)::uuid, 1000000 + n, true
                FROM generate_series({first}, {merged}) n;
                INSERT INTO processor_person_redirects (project_id, from_person, into_person)
                SELECT '{PROJECT}', md5('before ' || n)::uuid, md5('person ' || n)::uuid FROM generate_series({first}, {merged}) n;
                INSERT INTO processor_merges
                    (project_id, from_person, into_person, event_id, anonymous_id, distinct_id, stream_id, consumer)
                SELECT '{PROJECT}', md5('before ' || n)::uuid, md5('person ' || n)::uuid, gen_random_uuid(), 'before-' || n,
                    'visitor-' || n, '1-0', 'bench' FROM generate_series({first}, {merged}) n;
                COMMIT"#,
                first = from.div_ceil(10),
            );
            self.postgres.batch_execute(&sql).await.unwrap();
            self.ask(&format!(
                "INSERT INTO events (event_id, project_id, event_name, distinct_id, person_id, country, timestamp, user_properties)
                 SELECT generateUUIDv4(), '{PROJECT}', ['$pageview', 'click', 'buy'][1 + number % 3],
                     'visitor-' || toString(intDiv(number, {EVENTS_EACH}) AS who),
                     toUUID(UUIDNumToString(MD5('person ' || toString(who)))), ['CH', 'DE', ''][1 + who % 3],
                     now64(3) - toIntervalSecond(cityHash64(number) % (60 * 86400)),
                     if(number % 10 = 0, '{{\"plan\":\"pro\"}}', '{{}}')
                 FROM numbers({}, {})",
                from * EVENTS_EACH,
                (to + 1 - from) * EVENTS_EACH,
            ))
            .await;
            self.keys(from, to).await;
        }
        self.ask(&format!(
            "INSERT INTO person_distinct_id_overrides
             SELECT '{PROJECT}', 'before-' || toString(number),
                 toUUID(UUIDNumToString(MD5('person ' || toString(number)))), 1000000 + number
             FROM numbers({})",
            (self.persons - 1) / 10 + 1
        ))
        .await;
        self.postgres.batch_execute("VACUUM ANALYZE").await.unwrap();
        println!(
            "{} persons are there after {:.0} s",
            self.persons,
            began.elapsed().as_secs_f64()
        );
    }

    async fn keys(&self, from: usize, to: usize) {
        let ids = format!(
            "SELECT UUIDNumToString(MD5('person ' || toString(number))) FROM numbers({from}, {}) ORDER BY number",
            to + 1 - from
        );
        let ids = self.ask(&ids).await;
        let ids: Vec<&str> = ids.lines().collect();
        for (chunk, ids) in ids.chunks(10_000).enumerate() {
            let mut pipeline = redis::pipe();
            for (n, id) in ids.iter().enumerate() {
                let key = format!("person:{PROJECT}:visitor-{}", from + chunk * 10_000 + n);
                pipeline.set_ex(key, *id, 7_776_000).ignore();
            }
            pipeline.query_async::<()>(&mut self.redis.clone()).await.unwrap();
        }
    }

    async fn measure(&self) -> Vec<String> {
        self.send().await;
        let drained = drain(&self.stack, &mut self.redis.clone(), EVENTS).await;
        let began = Instant::now();
        self.ask("SYSTEM RELOAD DICTIONARY person_overrides_dict").await;
        let reload = began.elapsed().as_secs_f64();
        let bytes = "SELECT round(bytes_allocated / 1e6, 1) FROM system.dictionaries WHERE name = 'person_overrides_dict'";
        let dictionary = format!("{reload:.1} s, {} MB", self.ask(bytes).await);
        self.cohorts().await;
        let (cohorts, _) = self.run(&["cohorts", "recompute"]);
        let (audit, audit_peak) = self.run(&["person", "audit"]);
        let (status, _) = self.run(&["status", "--json"]);
        let (person, _) = self.run(&["person", "show", &PROJECT.to_string(), "before-7"]);
        let per_event = |seconds: f64| format!("{:.1}", seconds * 1e6 / EVENTS as f64);
        vec![
            self.persons.to_string(),
            format!("{:.0}", EVENTS as f64 / drained.seconds),
            per_event(drained.worker_cpu),
            per_event(drained.services.postgres),
            drained.worker_peak_mb.to_string(),
            dictionary,
            format!("{cohorts:.1} s"),
            format!("{audit:.0} s, {audit_peak} MB"),
            format!("{status:.2} s"),
            format!("{person:.2} s"),
        ]
    }

    /// The mix, over all persons alike.
    async fn send(&self) {
        for chunk in 0..EVENTS.div_ceil(1000) {
            let mut pipeline = redis::pipe();
            for n in chunk * 1000..((chunk + 1) * 1000).min(EVENTS) {
                let who = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % self.persons;
                let at = jiff::Timestamp::now();
                let (name, anonymous, properties) = match n % 100 {
                    0 => ("$identify", format!("anonymous-{n}"), "{}".to_owned()),
                    1..=5 => ("click", String::new(), format!(r#"{{"seen":{n}}}"#)),
                    _ => ("$pageview", String::new(), "{}".to_owned()),
                };
                pipeline
                    .cmd("XADD")
                    .arg(&[
                        STREAM,
                        "*",
                        "event_id",
                        &Uuid::from_u128(n as u128 | 1 << 100).to_string(),
                    ])
                    .arg(&["project_id", &PROJECT.to_string(), "event_name", name])
                    .arg(&[
                        "distinct_id",
                        &format!("visitor-{who}"),
                        "anonymous_id",
                        &anonymous,
                    ])
                    .arg(&["properties", r#"{"price":5}"#, "user_properties", &properties])
                    .arg(&["timestamp", &format!("{at:.3}")])
                    .ignore();
            }
            pipeline.query_async::<()>(&mut self.redis.clone()).await.unwrap();
        }
    }

    async fn cohorts(&self) {
        let property =
            json!({"type": "person_property", "property": "plan", "operator": "eq", "value": "pro"});
        let not_property =
            json!({"type": "person_property", "property": "plan", "operator": "neq", "value": "pro"});
        let bought = json!({"type": "event", "event_name": "buy", "count_operator": "gte", "count": 2,
            "time_window_days": 30});
        let idle = json!({"type": "not_performed_event", "event_name": "buy", "time_window_days": 30});
        let other = json!({"type": "cohort", "cohort_id": Uuid::from_u128(0xc000), "negated": true});
        for (n, condition) in [property, not_property, bought, idle, other]
            .into_iter()
            .enumerate()
        {
            let definition = json!({"type": "AND", "values": [condition]});
            let sql = "INSERT INTO cohorts (id, project_id, created_by, name, definition) VALUES ($1, $2, $2, 'c', $3)";
            let id = Uuid::from_u128(0xc000 + n as u128);
            self.postgres
                .execute(sql, &[&id, &PROJECT, &definition])
                .await
                .unwrap();
        }
    }
}
