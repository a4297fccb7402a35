//! Memberships: in the order of references, shown when complete, whatever fails on the way.

mod computing;
mod costs;
mod failures;
mod histories;
mod instances;
mod looking;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{PROJECT, SOON, World, eventually};

/// A worker that does nothing but cohorts, again and again.
const OFTEN: [(&str, &str); 3] = [
    ("PROCESSOR_ROLES", "cohorts"),
    ("COHORT_INITIAL_DELAY_MS", "100"),
    ("COHORT_INTERVAL_MS", "200"),
];

fn person(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

fn persons(names: &[&str]) -> BTreeSet<Uuid> {
    names.iter().map(|name| person(name)).collect()
}

fn all(conditions: impl Into<Value>) -> Value {
    let conditions: Value = conditions.into();
    json!({"type": "AND", "values": conditions})
}

fn plan_is(plan: &str) -> Value {
    json!({"type": "person_property", "property": "plan", "operator": "eq", "value": plan})
}

fn cohort(id: Uuid, negated: bool) -> Value {
    json!({"type": "cohort", "cohort_id": id, "negated": negated})
}

impl World {
    /// A row of `cohorts`.
    async fn cohort(&self, id: u128, name: &str, definition: &Value) -> Uuid {
        let id = Uuid::from_u128(id);
        self.pg(&format!(
            "INSERT INTO users (id, email, password_hash, display_name)
             VALUES ('{PROJECT}', 'a@b.example', '', '') ON CONFLICT DO NOTHING;
             INSERT INTO cohorts (id, project_id, created_by, name, definition)
             VALUES ('{id}', '{PROJECT}', '{PROJECT}', '{name}', '{definition}')"
        ))
        .await;
        id
    }

    /// An event of now that says which plan somebody has.
    async fn on_plan(&self, who: &str, plan: &str) {
        let properties = json!({"plan": plan});
        self.ch(&format!(
            "INSERT INTO events (project_id, event_name, distinct_id, person_id, timestamp, user_properties)
             VALUES ('{PROJECT}', 'x', '{who}', '{}', now64(3) - INTERVAL 1 SECOND, '{properties}')",
            person(who)
        ))
        .await;
    }

    /// Who is in a cohort at the version that readers are told.
    async fn members(&self, cohort: Uuid) -> BTreeSet<Uuid> {
        let version = self.tracked(cohort, "membership_version").await;
        self.members_at(cohort, &version).await
    }

    async fn members_at(&self, cohort: Uuid, version: &str) -> BTreeSet<Uuid> {
        let sql = format!(
            "SELECT person_id FROM cohort_members WHERE cohort_id = '{cohort}' AND version = {version}"
        );
        self.ch(&sql)
            .await
            .lines()
            .map(|id| id.parse().unwrap())
            .collect()
    }

    /// A column of a cohort.
    async fn tracked(&self, cohort: Uuid, column: &str) -> String {
        let sql = format!("SELECT {column}::text FROM cohorts WHERE id = '{cohort}'");
        self.pg(&sql).await.remove(0)
    }

    /// Makes memberships older than the limit.
    async fn age(&self) {
        self.pg("UPDATE cohorts SET membership_computed_at = now() - interval '16 minutes'")
            .await;
    }

    /// Keeps a cohort from being marked, until the transaction of the answer ends.
    async fn held_row(&self, cohort: Uuid) -> tokio_postgres::Client {
        let client = self.pg_client().await;
        client
            .batch_execute(&format!(
                "BEGIN; SELECT 1 FROM cohorts WHERE id = '{cohort}' FOR UPDATE"
            ))
            .await
            .unwrap();
        client
    }

    /// Waits until somebody wants the row that is held; the server process that waits.
    async fn blocked(&self) -> String {
        let mut found = Vec::new();
        eventually("a mark waits for the row", SOON, async || {
            let sql = "SELECT pid::text FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            found = self.pg(sql).await;
            !found.is_empty()
        })
        .await;
        found.remove(0)
    }

    /// Keeps the engine from merging members of two versions; deleting goes on.
    async fn without_merges(&self) {
        self.ch("ALTER TABLE cohort_members MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1")
            .await;
    }

    fn recompute(&self) -> (bool, String) {
        self.run(&["cohorts", "recompute"], &[])
    }
}
