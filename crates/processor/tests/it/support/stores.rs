//! What the three stores answer.

use std::collections::BTreeSet;

use tokio_postgres::NoTls;
use uuid::Uuid;

use super::{PROJECT, World};

impl World {
    /// ClickHouse's answer, tab-separated.
    pub(crate) async fn ch(&self, sql: &str) -> String {
        let request = self
            .http
            .post(format!(
                "{}/?database=qurvo_analytics",
                self.stack.clickhouse_url().unwrap()
            ))
            .header("X-ClickHouse-User", "qurvo")
            .header("X-ClickHouse-Key", "qurvo_secret")
            .body(sql.to_owned());
        let response = request.send().await.unwrap();
        let ok = response.status().is_success();
        let text = response.text().await.unwrap();
        assert!(ok, "{sql}: {text}");
        text.trim_end().to_owned()
    }

    /// A connection to PostgreSQL, for as long as the client is kept.
    pub(crate) async fn pg_client(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.stack.database_url().unwrap(), NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    /// PostgreSQL's answer: first column of each row as text.
    pub(crate) async fn pg(&self, sql: &str) -> Vec<String> {
        let client = self.pg_client().await;
        let messages = client
            .simple_query(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
            _ => None,
        });
        rows.collect()
    }

    /// The person of a distinct id as PostgreSQL, Redis and ClickHouse's rows with overrides name it; `None` where the
    /// store knows nothing.
    pub(crate) async fn persons_of(&self, distinct_id: &str) -> [Option<Uuid>; 3] {
        let quoted = distinct_id.replace('\'', "''");
        let in_pg = self
            .pg(&format!(
                "SELECT person_id FROM person_distinct_ids WHERE distinct_id = '{quoted}'"
            ))
            .await
            .first()
            .and_then(|text| text.parse().ok());
        let in_redis: Option<String> = redis::cmd("GET")
            .arg(format!("person:{PROJECT}:{distinct_id}"))
            .query_async(&mut self.redis.clone())
            .await
            .unwrap();
        let escaped = distinct_id.replace('\\', "\\\\").replace('\'', "\\'");
        let in_ch = self
            .ch(&format!(
                "SELECT DISTINCT if(o.person_id = toUUID('00000000-0000-0000-0000-000000000000'), e.person_id, o.person_id)
                 FROM events e LEFT JOIN (
                     SELECT distinct_id, argMax(person_id, version) AS person_id
                     FROM person_distinct_id_overrides GROUP BY distinct_id) o USING (distinct_id)
                 WHERE distinct_id = '{escaped}'"
            ))
            .await;
        assert!(
            in_ch.lines().count() <= 1,
            "{distinct_id} is several persons in ClickHouse: {in_ch}"
        );
        [
            in_pg,
            in_redis.and_then(|text| text.parse().ok()),
            in_ch.parse().ok(),
        ]
    }

    /// Checks that exactly these events are there, each once, without `FINAL`.
    pub(crate) async fn holds_exactly(&self, sent: &BTreeSet<Uuid>) {
        let counts = self.ch("SELECT count(), uniqExact(event_id) FROM events").await;
        let stored: BTreeSet<Uuid> = self
            .ch("SELECT event_id FROM events")
            .await
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        let missing = sent.difference(&stored).count();
        assert_eq!(missing, 0, "{missing} of {} events are missing", sent.len());
        assert_eq!(
            counts,
            format!("{0}\t{0}", sent.len()),
            "rows and distinct event ids"
        );
    }

    /// Removes what Redis remembers of persons.
    pub(crate) async fn forget_person_keys(&self) {
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("person:*")
            .query_async(&mut self.redis.clone())
            .await
            .unwrap();
        for keys in keys.chunks(1000) {
            let _: () = redis::cmd("DEL")
                .arg(keys)
                .query_async(&mut self.redis.clone())
                .await
                .unwrap();
        }
    }
}
