//! A private engine with the platform's tables, and events in it.

use clickhouse::{Client, Row};
use cohort_query::{Query, Value};
use embedded_stack::{DATABASE, PASSWORD, ServiceKind, Stack, StackOptions, USER};
use serde::Serialize;
use std::collections::BTreeSet;
use uuid::Uuid;

/// The instant of every run: 2026-06-15 12:00:00 UTC, a Monday.
pub(crate) const NOW: i64 = 1_781_524_800_000;

const MIGRATIONS: [&str; 4] = [
    include_str!("../../../../migrations/clickhouse/0001_events.sql"),
    include_str!("../../../../migrations/clickhouse/0003_person_overrides.sql"),
    include_str!("../../../../migrations/clickhouse/0004_person_overrides_dict.sql"),
    include_str!("../../../../migrations/clickhouse/0005_cohorts.sql"),
];

/// An event as the tests speak of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) distinct_id: String,
    /// The person of its row.
    pub(crate) person: Uuid,
    pub(crate) name: String,
    /// Milliseconds.
    pub(crate) time: i64,
    pub(crate) properties: String,
    pub(crate) user_properties: String,
    pub(crate) country: String,
}

/// A row of `events`; what is left out has its default.
#[derive(Row, Serialize)]
struct EventRow {
    #[serde(with = "clickhouse::serde::uuid")]
    event_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    project_id: Uuid,
    event_name: String,
    distinct_id: String,
    #[serde(with = "clickhouse::serde::uuid")]
    person_id: Uuid,
    timestamp: i64,
    properties: String,
    user_properties: String,
    country: String,
}

pub(crate) struct Engine {
    client: Client,
    _stack: Stack,
}

impl Engine {
    pub(crate) async fn start() -> Self {
        let options = StackOptions::temporary()
            .unwrap()
            .only(&[ServiceKind::ClickHouse]);
        let stack = Stack::start(options).await.unwrap();
        let client = Client::default()
            .with_url(stack.clickhouse_url().unwrap())
            .with_user(USER)
            .with_password(PASSWORD)
            .with_database(DATABASE);
        let engine = Self {
            client,
            _stack: stack,
        };
        for migration in MIGRATIONS {
            let sql = migration
                .replace("{on_cluster}", "")
                .replace("{replacing}", "ReplacingMergeTree")
                .replace("{database}", DATABASE)
                .replace("{credentials}", &format!("USER '{USER}' PASSWORD '{PASSWORD}'"));
            for statement in sql.split(";\n") {
                engine.run(statement).await;
            }
        }
        // The examples have events of more than a year ago.
        engine.run("ALTER TABLE events REMOVE TTL").await;
        engine
    }

    pub(crate) async fn run(&self, sql: &str) {
        // As it is: `?` would be a place for a value.
        let result = self.client.query(&sql.replace('?', "??")).execute().await;
        result.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Adds events, each call as one block.
    pub(crate) async fn add(&self, project: Uuid, events: &[Event]) {
        let mut insert = self.client.insert::<EventRow>("events").await.unwrap();
        for event in events {
            let row = EventRow {
                event_id: event.id,
                project_id: project,
                event_name: event.name.clone(),
                distinct_id: event.distinct_id.clone(),
                person_id: event.person,
                timestamp: event.time,
                properties: event.properties.clone(),
                user_properties: event.user_properties.clone(),
                country: event.country.clone(),
            };
            insert.write(&row).await.unwrap();
        }
        insert.end().await.unwrap();
    }

    /// The members, or the engine's words.
    pub(crate) async fn members(&self, query: &Query) -> Result<BTreeSet<Uuid>, String> {
        let sql = format!("SELECT toString(person) FROM ({})", query.sql);
        let mut asked = self.client.query(&sql.replace('?', "??"));
        for parameter in &query.parameters {
            asked = asked.param(&parameter.name, &parameter.value);
        }
        let members: Vec<String> = asked.fetch_all().await.map_err(|error| error.to_string())?;
        let distinct: BTreeSet<Uuid> = members.iter().map(|id| id.parse().unwrap()).collect();
        assert_eq!(distinct.len(), members.len(), "each member once: {}", query.sql);
        Ok(distinct)
    }

    /// The members, however the engine answers; for definitions that are right.
    pub(crate) async fn members_of(&self, query: &Query) -> BTreeSet<Uuid> {
        let members = self.members(query).await;
        members.unwrap_or_else(|error| panic!("{error}: {}\n{:#?}", query.sql, query.parameters))
    }
}

/// The value of a parameter as text, for a look at what went wrong.
pub(crate) fn text_of(value: &Value) -> String {
    serde_json::to_string(value).unwrap()
}

/// A person named in a test.
pub(crate) fn person(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}
