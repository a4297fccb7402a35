//! What PostgreSQL's side tables forget of merges, `PROCESSOR_MERGE_MEMORY_DAYS` after they were written to last:
//!
//! - of `processor_person_overrides` what is published, while the id's mapping names the same person and no merge is yet to
//!   move it. From then on a property write of the id that arrives late, from before the merge, is one of the person that
//!   the id has now, by its event time; and when that person is deleted, and Redis has forgotten the id too, only
//!   `person audit` notices that ClickHouse still names it.
//! - of `processor_person_redirects` the merges that are finished. They say where an id belongs whose mapping alone was
//!   removed: from then on it becomes a person of its own again. (With its survivor's person every mapping goes, and the
//!   redirect leads nowhere.) Of a way over several merges each is later than the one before: what is left of it always
//!   leads to its end.
//! - of `processor_merges` the merges of which no redirect is left: `person show` tells of them no more.
//!
//! How old something is, is reckoned from the earlier of PostgreSQL's time and ours: one wrong clock alone makes nothing
//! old.
//!
//! Nothing waits for it: rows that another transaction has locked stay until the next time.

use std::time::{Duration, Instant};

use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;

use crate::runtime::lock::Lock;
use crate::stores::{Postgres, StoreError};

/// How often what is old is looked for.
const INTERVAL: Duration = Duration::from_hours(1);
/// Rows looked at in one transaction: tens of milliseconds.
const PAGE: i64 = 2_000;
/// Between two transactions, so that the others have PostgreSQL to themselves most of the time.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest that the sweep's lock is held for it: a backlog is worked off in several goes.
const LONGEST: Duration = Duration::from_secs(10);

/// The next page of published overrides by age, and those of it that go. Versions are microseconds, also negative ones: an
/// old one is near 0.
const OVERRIDES: &str = "
    WITH cutoff AS MATERIALIZED (
        SELECT (extract(epoch FROM least(now(), to_timestamp($4)) - make_interval(days => $1)) * 1000000)::bigint AS version),
    page AS MATERIALIZED (
        SELECT o.project_id, o.distinct_id, o.version
        FROM processor_person_overrides o
        WHERE o.published AND o.version > greatest($2, (SELECT -version FROM cutoff))
          AND o.version < (SELECT version FROM cutoff)
        ORDER BY o.version
        LIMIT $3),
    old AS MATERIALIZED (
        SELECT o.project_id, o.distinct_id
        FROM page
        JOIN processor_person_overrides o USING (project_id, distinct_id)
        JOIN person_distinct_ids m USING (project_id, distinct_id)
        WHERE o.published AND o.version = page.version AND m.person_id = o.person_id
          AND NOT EXISTS (SELECT FROM processor_person_redirects r
                          WHERE r.project_id = o.project_id AND r.from_person = o.person_id AND r.unfinished)
        FOR UPDATE OF o SKIP LOCKED),
    gone AS (
        DELETE FROM processor_person_overrides o USING old
        WHERE o.project_id = old.project_id AND o.distinct_id = old.distinct_id
        RETURNING 1)
    SELECT (SELECT count(*) FROM page), (SELECT max(version) FROM page), (SELECT count(*) FROM gone), 0::bigint";

/// The next page of merges in their order, and those of it that go, with their redirects: each redirect is of the merge
/// that was recorded with it. A page with a younger merge counts as the last.
const MERGES: &str = "
    WITH cutoff AS MATERIALIZED (SELECT least(now(), to_timestamp($4)) - make_interval(days => $1) AS at),
    page AS MATERIALIZED (
        SELECT id, project_id, from_person, merged_at < (SELECT at FROM cutoff) AS is_old
        FROM processor_merges WHERE id > $2 ORDER BY id LIMIT $3),
    old AS MATERIALIZED (
        SELECT r.project_id, r.from_person
        FROM processor_person_redirects r
        WHERE (r.project_id, r.from_person) IN (SELECT project_id, from_person FROM page WHERE is_old)
          AND NOT r.unfinished AND r.merged_at < (SELECT at FROM cutoff)
        FOR UPDATE OF r SKIP LOCKED),
    led_nowhere AS (
        DELETE FROM processor_person_redirects r USING old
        WHERE r.project_id = old.project_id AND r.from_person = old.from_person
        RETURNING 1),
    kept AS MATERIALIZED (
        SELECT r.project_id, r.from_person
        FROM processor_person_redirects r
        WHERE (r.project_id, r.from_person) IN (SELECT project_id, from_person FROM page WHERE is_old)
          AND (r.unfinished OR r.merged_at < (SELECT at FROM cutoff))
        EXCEPT SELECT project_id, from_person FROM old),
    gone AS (
        DELETE FROM processor_merges m USING page
        WHERE m.id = page.id AND page.is_old
          AND (page.project_id, page.from_person) NOT IN (SELECT project_id, from_person FROM kept)
        RETURNING 1)
    SELECT (SELECT count(*) FILTER (WHERE is_old) FROM page), (SELECT max(id) FROM page), (SELECT count(*) FROM gone),
           (SELECT count(*) FROM led_nowhere)";

/// Forgets what is old. For as long as it lives it knows how far it has come.
pub struct Forgetter {
    postgres: Postgres,
    /// Nothing is ever forgotten without.
    days: Option<i32>,
    due: Instant,
    overrides: Walk,
    merges: Walk,
}

/// A way through a table.
#[derive(Debug)]
struct Walk {
    sql: &'static str,
    /// What was looked at last.
    after: i64,
    is_over: bool,
}

impl Walk {
    fn new(sql: &'static str) -> Self {
        Self {
            sql,
            after: i64::MIN,
            is_over: false,
        }
    }
}

impl Forgetter {
    /// One that begins at once.
    pub fn new(postgres: Postgres, days: Option<i32>) -> Self {
        Self {
            postgres,
            days,
            due: Instant::now(),
            overrides: Walk::new(OVERRIDES),
            merges: Walk::new(MERGES),
        }
    }

    /// Forgets some of what is old, if it is time for that, while the lock is held and the drain has not begun.
    ///
    /// # Errors
    /// PostgreSQL's. The next call goes on where this one ended.
    pub async fn step(&mut self, lock: &Lock, stop: &CancellationToken) -> Result<(), StoreError> {
        let Some(days) = self.days.filter(|_| self.due <= Instant::now()) else {
            return Ok(());
        };
        let until = Instant::now() + LONGEST;
        let (mut rows, mut redirects) = (0, 0);
        for walk in [&mut self.overrides, &mut self.merges] {
            while !walk.is_over && Instant::now() < until && !stop.is_cancelled() && lock.is_held().await {
                let now = jiff::Timestamp::now().as_second() as f64;
                let page = [
                    (&days as _, Type::INT4),
                    (&walk.after as _, Type::INT8),
                    (&PAGE as _, Type::INT8),
                    (&now as _, Type::FLOAT8),
                ];
                let page = self
                    .postgres
                    .query("forgetting old merges", walk.sql, &page)
                    .await?;
                let [looked_at, last, gone, gone_redirects] = page
                    .first()
                    .map_or([None; 4], |row| std::array::from_fn(|n| row.get(n)));
                rows += gone.unwrap_or(0);
                redirects += gone_redirects.unwrap_or(0);
                walk.after = last.unwrap_or(walk.after);
                walk.is_over = looked_at.unwrap_or(0) < PAGE;
                tokio::time::sleep(PAUSE).await;
            }
        }
        if rows + redirects > 0 {
            tracing::info!(
                rows,
                redirects,
                days,
                "forgot merges that are older than the memory of them"
            );
        }
        if self.overrides.is_over && self.merges.is_over {
            *self = Self::new(self.postgres.clone(), self.days);
            self.due += INTERVAL;
        }
        Ok(())
    }
}
