//! How long a cycle over many cohorts takes, what it asks of ClickHouse's memory, and which conditions are the slow ones.
//!
//! `cargo bench -p qurvo-processor --bench cohorts`: 200 cohorts over 5 million events; `COHORT_EVENTS` names another
//! number. Private services on loopback, gone afterwards.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark"
)]

mod common;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use embedded_stack::{ServiceState, Stack, StackOptions};
use serde_json::{Value, json};
use uuid::Uuid;

use common::{ask, resident_bytes};

const PROJECT: Uuid = Uuid::from_u128(0x1111_1111_1111_1111_1111_1111_1111_1111);
const COHORTS: usize = 200;
const PERSONS: usize = 100_000;
/// Times that a condition alone is measured.
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let events: usize = std::env::var("COHORT_EVENTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(5_000_000);
    let bench = Bench::start().await;
    bench.fill(events).await;
    println!("{events} events of {PERSONS} persons in one project; every process on this machine\n");

    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "condition",
        "s, median",
        "query's peak MB",
        "members",
    ]);
    for (index, (name, condition)) in conditions().into_iter().enumerate() {
        let id = Uuid::from_u128(0xc000 + index as u128);
        bench
            .cohort(id, name, &json!({"type": "AND", "values": [condition]}))
            .await;
        let watched = bench.watch().await;
        let mut seconds: Vec<f64> = (0..ROUNDS).map(|_| bench.recompute(&[id])).collect();
        let (query_peak, _) = watched.end().await;
        seconds.sort_by(f64::total_cmp);
        let members = format!("SELECT uniqExact(person_id) FROM cohort_members WHERE cohort_id = '{id}'");
        table.add_row([
            name.to_owned(),
            format!("{:.2}", seconds[ROUNDS / 2]),
            format!("{:.0}", query_peak / 1e6),
            bench.ask(&members).await,
        ]);
    }
    println!("{table}\n");

    bench.postgres.batch_execute("DELETE FROM cohorts").await.unwrap();
    for n in 0..COHORTS {
        bench.cohort(nth(n), &format!("cohort {n}"), &definition(n)).await;
    }
    let watched = bench.watch().await;
    let seconds = bench.recompute(&[]);
    let (queries_peak, process_peak) = watched.end().await;
    println!(
        "a cycle over {COHORTS} cohorts: {seconds:.1} s; most memory of all its queries together {:.0} MB, \
         of the ClickHouse process {:.0} MB",
        queries_peak / 1e6,
        process_peak / 1e6
    );
}

fn nth(n: usize) -> Uuid {
    Uuid::from_u128(0xd000 + n as u128)
}

/// One condition of each kind that costs something of its own.
#[expect(clippy::too_many_lines, reason = "a table")]
fn conditions() -> Vec<(&'static str, Value)> {
    let person = |property: &str, operator: &str, value: &str| json!({"type": "person_property", "property": property, "operator": operator, "value": value});
    let event = |kind: &str, fields: Value| {
        let mut condition = json!({"type": kind, "event_name": "buy", "time_window_days": 30});
        condition
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        condition
    };
    let price = json!([{"property": "properties.price", "operator": "gt", "value": "50"}]);
    let steps = json!([{"event_name": "$pageview"}, {"event_name": "add"}, {"event_name": "buy"}]);
    vec![
        ("person property", person("plan", "eq", "pro")),
        (
            "person property, dotted",
            person("address.city", "contains", "Bern"),
        ),
        ("person property, column", person("country", "eq", "CH")),
        (
            "event, at least 2",
            event("event", json!({"count_operator": "gte", "count": 2})),
        ),
        (
            "event, none (eq 0)",
            event("event", json!({"count_operator": "eq", "count": 0})),
        ),
        (
            "event, filtered",
            event(
                "event",
                json!({"count_operator": "gte", "count": 1, "event_filters": price}),
            ),
        ),
        (
            "event, sum",
            event(
                "event",
                json!({"count_operator": "gte", "count": 100, "aggregation_type": "sum",
                    "aggregation_property": "properties.price"}),
            ),
        ),
        (
            "event, p95",
            event(
                "event",
                json!({"count_operator": "gte", "count": 90, "aggregation_type": "p95",
                    "aggregation_property": "properties.price"}),
            ),
        ),
        ("first time event", event("first_time_event", json!({}))),
        ("not performed event", event("not_performed_event", json!({}))),
        ("event sequence", event("event_sequence", json!({"steps": steps}))),
        (
            "not performed sequence",
            event("not_performed_event_sequence", json!({"steps": steps})),
        ),
        (
            "performed regularly",
            event(
                "performed_regularly",
                json!({"event_name": "$pageview", "period_type": "week", "total_periods": 4, "min_periods": 3}),
            ),
        ),
        (
            "stopped performing",
            event(
                "stopped_performing",
                json!({"recent_window_days": 30, "historical_window_days": 90}),
            ),
        ),
        (
            "restarted performing",
            event(
                "restarted_performing",
                json!({"recent_window_days": 7, "gap_window_days": 30, "historical_window_days": 90}),
            ),
        ),
        (
            "cohort, negated",
            json!({"type": "cohort", "cohort_id": Uuid::from_u128(0xc000), "negated": true}),
        ),
    ]
}

/// Every kind in turn; every third with a second condition, every fourth with a reference to an earlier cohort.
fn definition(n: usize) -> Value {
    let kinds = conditions();
    let of_kind = |index: usize| {
        let mut condition = kinds[index % (kinds.len() - 1)].1.clone();
        if condition.get("time_window_days").is_some() {
            condition["time_window_days"] = [7, 14, 30, 60][n / 16 % 4].into();
        }
        if let Some(name) = condition.get_mut("event_name") {
            *name = ["buy", "add", "search", "click"][n / 4 % 4].into();
        }
        condition
    };
    let mut values = vec![of_kind(n)];
    if n.is_multiple_of(3) {
        values.push(of_kind(n + 7));
    }
    if n >= 4 && n.is_multiple_of(4) {
        let negated = n.is_multiple_of(8);
        values.push(json!({"type": "cohort", "cohort_id": nth(n / 2), "negated": negated}));
    }
    json!({"type": if n.is_multiple_of(2) { "AND" } else { "OR" }, "values": values})
}

struct Bench {
    stack: Stack,
    postgres: tokio_postgres::Client,
    http: reqwest::Client,
}

impl Bench {
    async fn start() -> Self {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let stack = Stack::start(StackOptions::temporary().unwrap()).await.unwrap();
        let (postgres, connection) =
            tokio_postgres::connect(&stack.database_url().unwrap(), tokio_postgres::NoTls)
                .await
                .unwrap();
        tokio::spawn(connection);
        let bench = Self {
            stack,
            postgres,
            http: reqwest::Client::new(),
        };
        assert!(bench.command().arg("migrate").status().unwrap().success());
        let rows = format!(
            "INSERT INTO projects (id, name) VALUES ('{PROJECT}', 'bench');
             INSERT INTO users (id, email, password_hash, display_name) VALUES ('{PROJECT}', 'a@b.example', '', '')"
        );
        bench.postgres.batch_execute(&rows).await.unwrap();
        bench
    }

    fn command(&self) -> Command {
        let mut command = Command::new(common::worker());
        command.env_clear().envs(self.stack.env()).stdout(Stdio::null());
        command
    }

    async fn ask(&self, sql: &str) -> String {
        ask(&self.http, &self.stack.env(), sql).await
    }

    /// Half a year of events: ten names of different frequency, a tenth of them with person properties, a tenth of the
    /// distinct ids with an override.
    async fn fill(&self, events: usize) {
        const STEP: usize = 50_000;
        for from in (0..events).step_by(STEP) {
            let rows = STEP.min(events - from);
            let sql = format!(
                r#"INSERT INTO events (event_id, project_id, event_name, distinct_id, person_id, country, timestamp,
                    properties, user_properties)
                SELECT generateUUIDv4(), '{PROJECT}',
                    ['$pageview', '$pageview', '$pageview', '$pageview', '$pageview', 'click', 'click', 'click', 'search',
                     'search', 'search', 'add', 'add', 'buy', 'share', 'rate', 'login', 'logout', 'help', 'error']
                        [1 + cityHash64(number, 'name') % 20],
                    'id ' || toString(cityHash64(number, 'who') % {PERSONS} AS who),
                    reinterpretAsUUID(MD5(toString(who))),
                    ['CH', 'DE', 'FR', 'IT', ''][1 + who % 5],
                    now64(3) - toIntervalSecond(cityHash64(number, 'when') % (180 * 86400)),
                    '{{"price":' || toString(cityHash64(number, 'price') % 100) || ',"category":"shoes","position":'
                        || toString(number % 40) || ',"note":"a text of usual length, as sites send them"}}',
                    multiIf(number % 20 = 0, '{{"plan":"' || ['free', 'pro', 'team'][1 + cityHash64(number) % 3] || '"}}',
                        number % 20 = 1, '{{"$set":{{"plan":"pro","address":{{"city":"Bern"}}}}}}', '{{}}')
                FROM numbers({from}, {rows})"#
            );
            self.ask(&sql).await;
        }
        self.ask(&format!(
            "INSERT INTO person_distinct_id_overrides
             SELECT '{PROJECT}', 'id ' || toString(number * 10), reinterpretAsUUID(MD5(toString(number * 10 + 1))), 1
             FROM numbers({})",
            PERSONS / 10
        ))
        .await;
        self.ask("SYSTEM RELOAD DICTIONARY person_overrides_dict").await;
    }

    async fn cohort(&self, id: Uuid, name: &str, definition: &Value) {
        let sql =
            "INSERT INTO cohorts (id, project_id, created_by, name, definition) VALUES ($1, $2, $2, $3, $4)";
        self.postgres
            .execute(sql, &[&id, &PROJECT, &name, definition])
            .await
            .unwrap();
    }

    /// Seconds that computing these, or all, takes.
    fn recompute(&self, ids: &[Uuid]) -> f64 {
        let began = Instant::now();
        let ids = ids.iter().map(Uuid::to_string);
        let status = self.command().args(["cohorts", "recompute"]).args(ids).status();
        assert!(status.unwrap().success());
        began.elapsed().as_secs_f64()
    }

    async fn watch(&self) -> Watch {
        let ServiceState::Running(pid) = self.stack.clickhouse().unwrap().state().await else {
            panic!("ClickHouse is away");
        };
        let over = Arc::new(AtomicBool::new(false));
        let (done, http, env) = (over.clone(), self.http.clone(), self.stack.env());
        let watching = tokio::spawn(async move {
            let (mut queries, mut process) = (0f64, 0f64);
            while !done.load(Ordering::Relaxed) {
                let now = ask(&http, &env, "SELECT sum(memory_usage) FROM system.processes").await;
                queries = queries.max(now.parse().unwrap_or_default());
                process = process.max(resident_bytes(pid));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (queries, process)
        });
        Watch { over, watching }
    }
}

/// Memory of the server while something runs.
struct Watch {
    over: Arc<AtomicBool>,
    watching: tokio::task::JoinHandle<(f64, f64)>,
}

impl Watch {
    /// Most bytes of all queries together, and of the process.
    async fn end(self) -> (f64, f64) {
        self.over.store(true, Ordering::Relaxed);
        self.watching.await.unwrap()
    }
}
