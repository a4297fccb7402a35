//! The tables of members in ClickHouse.

use std::collections::BTreeSet;
use std::time::Duration;

use clickhouse::query::Query;
use cohort_query::Parameter;
use uuid::Uuid;

use crate::config::CohortConfig;
use crate::event::ProjectId;
use crate::stores::{ClickHouse, StoreError};

/// Longest that computing one cohort may take.
pub(super) const LONGEST_QUERY: Duration = Duration::from_mins(5);
/// Longest wait for an answer that takes no work.
const SOON: Duration = Duration::from_secs(5);

/// Members of some cohorts, by the primary key. Of other projects' rows nothing is asked or deleted.
macro_rules! of_cohorts {
    () => {
        "project_id IN {projects:Array(UUID)} AND cohort_id IN {cohorts:Array(UUID)}"
    };
}

/// Cohorts that are asked about by name, at most: the engine bounds what a request may hold.
const MOST_NAMED: usize = 1_000;
/// Their table.
const MEMBERS: &str = "cohort_members";

/// A cohort, with its project before it.
pub(super) type Named = (ProjectId, Uuid);

/// Members of one cohort at one version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Membership {
    pub(super) project: ProjectId,
    pub(super) cohort: Uuid,
    pub(super) version: u64,
}

impl Membership {
    fn bound(&self, query: Query) -> Query {
        query
            .param("computed_project", self.project.to_string())
            .param("computed_cohort", self.cohort.to_string())
            .param("computed_version", self.version)
    }

    /// What the engine calls the query that computes it.
    fn query_id(&self) -> String {
        format!("cohort-{}-{}", self.cohort, self.version)
    }
}

/// Writes and removes members. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Members {
    clickhouse: ClickHouse,
    memory_bytes: u64,
    threads: String,
}

impl Members {
    pub(super) fn new(clickhouse: &ClickHouse, settings: &CohortConfig) -> Self {
        Self {
            // The engine ends the query first, and says so.
            clickhouse: clickhouse.within(LONGEST_QUERY + Duration::from_secs(30)),
            memory_bytes: settings.max_memory_bytes,
            threads: settings.max_threads.to_string(),
        }
    }

    fn limited(&self, query: Query) -> Query {
        query
            .with_setting("max_execution_time", LONGEST_QUERY.as_secs().to_string())
            // Whatever a profile says: half an answer is none.
            .with_setting("timeout_overflow_mode", "throw")
            .with_setting("max_memory_usage", self.memory_bytes.to_string())
            .with_setting("max_threads", self.threads.clone())
    }

    /// Finds the members and writes them at their version. Readers see nothing of it yet.
    pub(super) async fn compute(
        &self,
        membership: &Membership,
        found_by: &cohort_query::Query,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO cohort_members (project_id, cohort_id, person_id, version)\n\
             SELECT {{computed_project:UUID}}, {{computed_cohort:UUID}}, person, {{computed_version:UInt64}}\n\
             FROM (\n{}\n)",
            found_by.sql
        );
        let mut query = membership.bound(self.limited(self.clickhouse.query(&sql)));
        for Parameter { name, value } in &found_by.parameters {
            query = query.param(name, value);
        }
        // Written as one block as far as memory allows: a query that fails half-way then leaves nothing.
        let query = query
            .with_setting("query_id", membership.query_id())
            .with_setting("max_insert_threads", "1")
            .with_setting("min_insert_block_size_rows", "100000000")
            .with_setting("min_insert_block_size_bytes", (self.memory_bytes / 8).to_string())
            // A project may have more persons than memory holds.
            .with_setting(
                "max_bytes_before_external_group_by",
                (self.memory_bytes / 4).to_string(),
            )
            .with_setting(
                "max_bytes_before_external_sort",
                (self.memory_bytes / 4).to_string(),
            )
            .with_setting("async_insert", "0");
        self.clickhouse
            .execute("computing a cohort's members", query)
            .await
    }

    /// Whether the engine answers at all.
    pub(super) async fn answers(&self) -> bool {
        let clickhouse = self.clickhouse.within(SOON);
        let query = clickhouse.query("SELECT 1");
        clickhouse.execute("probing", query).await.is_ok()
    }

    /// Ends queries that are not waited for any more. Not every user may: then they end by their own limit.
    pub(super) async fn stop(&self, computing: impl Iterator<Item = Membership>) {
        let ids: Vec<String> = computing.map(|membership| membership.query_id()).collect();
        if ids.is_empty() {
            return;
        }
        let clickhouse = self.clickhouse.within(SOON);
        let query = clickhouse
            .query("KILL QUERY WHERE has({ids:Array(String)}, query_id) ASYNC")
            .param("ids", ids);
        if let Err(error) = clickhouse.execute("ending queries", query).await {
            tracing::debug!(%error, "queries of cohorts end by their own limit");
        }
    }

    /// The newest version that any member of these cohorts has, or any member at all; 0 without members.
    pub(super) async fn newest(&self, of: Option<&[Named]>) -> Result<u64, StoreError> {
        let query = match of.filter(|named| named.len() <= MOST_NAMED) {
            Some(named) => {
                let sql = concat!("SELECT max(version) FROM @ WHERE ", of_cohorts!());
                bound(self.clickhouse.query_of_all_replicas(sql, MEMBERS).await?, named)
            }
            None => {
                let sql = "SELECT max(version) FROM @";
                self.clickhouse.query_of_all_replicas(sql, MEMBERS).await?
            }
        };
        self.clickhouse
            .row::<u64>("looking for the newest members", self.limited(query))
            .await
    }

    /// Counts the members and keeps the number as the day's.
    pub(super) async fn record_size(&self, membership: &Membership, now_ms: i64) -> Result<(), StoreError> {
        let sql = "
            INSERT INTO cohort_membership_history (project_id, cohort_id, date, count)
            SELECT {computed_project:UUID}, {computed_cohort:UUID},
                toDate(fromUnixTimestamp64Milli({now:Int64}, 'UTC')), uniqExact(person_id)
            FROM cohort_members
            WHERE project_id = {computed_project:UUID} AND cohort_id = {computed_cohort:UUID}
                AND version = {computed_version:UInt64}";
        let query = membership
            .bound(self.limited(self.clickhouse.query(sql)))
            .param("now", now_ms);
        self.clickhouse.execute("recording a cohort's size", query).await
    }

    /// Removes the members of older versions, of several cohorts at once. When there are none, nothing is asked of the
    /// engine's parts.
    pub(super) async fn remove_older(&self, cohorts: &[Named], version: u64) -> Result<(), StoreError> {
        let any = concat!(
            "SELECT count() FROM (SELECT 1 FROM cohort_members WHERE ",
            of_cohorts!(),
            " AND version < {version:UInt64} LIMIT 1)"
        );
        let older = concat!(
            "DELETE FROM cohort_members WHERE ",
            of_cohorts!(),
            " AND version < {version:UInt64}"
        );
        for chunk in cohorts.chunks(MOST_NAMED) {
            let query = bound(self.clickhouse.query(any), chunk).param("version", version);
            let found: u64 = self
                .clickhouse
                .row("looking for old members", self.limited(query))
                .await?;
            if found > 0 {
                self.delete("removing old members", older, chunk, version).await?;
            }
        }
        Ok(())
    }

    /// Cohorts that have members.
    pub(super) async fn cohorts(&self) -> Result<Vec<Named>, StoreError> {
        let sql = "
            SELECT toString(project_id) AS project, toString(cohort_id) AS cohort
            FROM (SELECT DISTINCT project_id, cohort_id FROM cohort_members)";
        let ids = self
            .clickhouse
            .rows::<Having>(
                "looking for members without a cohort",
                self.limited(self.clickhouse.query(sql)),
            )
            .await?;
        Ok(ids
            .iter()
            .filter_map(|having| Some((having.project.parse().ok()?, having.cohort.parse().ok()?)))
            .collect())
    }

    /// Removes members of one version, of several cohorts at once.
    pub(super) async fn remove_version(&self, cohorts: &[Named], version: u64) -> Result<(), StoreError> {
        let sql = concat!(
            "DELETE FROM cohort_members WHERE ",
            of_cohorts!(),
            " AND version = {version:UInt64}"
        );
        for chunk in cohorts.chunks(MOST_NAMED) {
            self.delete("removing unmarked members", sql, chunk, version)
                .await?;
        }
        Ok(())
    }

    async fn delete(
        &self,
        during: &'static str,
        sql: &str,
        cohorts: &[Named],
        version: u64,
    ) -> Result<(), StoreError> {
        let query = bound(self.clickhouse.query(sql), cohorts).param("version", version);
        self.clickhouse.execute(during, query).await
    }
}

#[derive(clickhouse::Row, serde::Deserialize)]
struct Having {
    project: String,
    cohort: String,
}

fn bound(query: Query, cohorts: &[Named]) -> Query {
    let projects: BTreeSet<ProjectId> = cohorts.iter().map(|(project, _)| *project).collect();
    let cohorts = cohorts.iter().map(|(_, cohort)| cohort.to_string());
    query
        .param(
            "projects",
            projects.iter().map(ProjectId::to_string).collect::<Vec<_>>(),
        )
        .param("cohorts", cohorts.collect::<Vec<_>>())
}
