//! Do the three stores name the same person for every distinct id? And if not, mending it: PostgreSQL is right.
//!
//! Walks PostgreSQL and ClickHouse side by side in the order of the distinct ids' bytes, a page at a time, and asks
//! ClickHouse about a range of them at a time: no memory grows with the number of mappings, here or there.

use tokio_postgres::types::Type;

use crate::event::{DistinctId, PersonId, ProjectId};
use crate::runtime::retry;
use crate::stores::{ClickHouse, FailureKind, Postgres, Redis, StoreError, unnest_keys};

use crate::identity::known::redirects::with_survivors;
use crate::identity::person_key::person_key;
use crate::identity::publish::again::{Differs, publish_again};
use crate::identity::publish::overrides::Publisher;
use crate::identity::upkeep::mover::Mover;
use crate::identity::upkeep::view::{Disagreement, View};
use crate::identity::upkeep::walk::{
    ClickHouseRow, IN_CLICKHOUSE, InClickHouse, Mapped, MappedRow, ONE_IN_CLICKHOUSE, PAGE, mappings, next,
    ranges,
};

/// Overrides that nothing can outrank.
const DELETE_HIGHEST: &str = "
    DELETE FROM person_distinct_id_overrides
    WHERE project_id = {project:UUID} AND has({ids:Array(String)}, distinct_id) AND version >= 9000000000000000000";

/// Versions from here on are deleted: what is published later has to go above them.
const HIGHEST: u64 = 9_000_000_000_000_000_000;

/// Gives a distinct id that has rows but no mapping the person of its rows, or whom that one was merged into.
const MAP: &str = with_survivors!(
    ",
    given AS (
        SELECT n.project_id, n.distinct_id, coalesce(s.survivor, n.person_id) AS person_id
        FROM n
        LEFT JOIN survivors s USING (project_id, person_id)),
    created AS (
        INSERT INTO persons (id, project_id)
        SELECT DISTINCT person_id, project_id FROM given ORDER BY person_id ON CONFLICT DO NOTHING)
    INSERT INTO person_distinct_ids (project_id, person_id, distinct_id)
    SELECT project_id, person_id, distinct_id FROM given ORDER BY project_id, distinct_id
    ON CONFLICT (project_id, distinct_id) DO NOTHING"
);

/// The stores to compare. Cloning is cheap.
#[derive(Clone)]
pub struct Auditor {
    /// The authority.
    pub postgres: Postgres,
    /// Rows and overrides.
    pub clickhouse: ClickHouse,
    /// Person keys.
    pub redis: Redis,
}

impl Auditor {
    /// What the stores say about one distinct id.
    ///
    /// # Errors
    /// Of any of the three stores.
    pub async fn view(&mut self, project: ProjectId, distinct_id: &DistinctId) -> Result<View, StoreError> {
        let query = self.clickhouse.query(ONE_IN_CLICKHOUSE);
        let query = query
            .param("project", project.to_string())
            .param("id", &**distinct_id);
        let found: Vec<ClickHouseRow> = self.clickhouse.rows("reading a person's rows", query).await?;
        let mut view = found
            .into_iter()
            .next()
            .map_or_else(View::default, ClickHouseRow::view);
        view.distinct_id = distinct_id.clone();
        let sql = concat!(mappings!(), " WHERE m.project_id = $1 AND m.distinct_id = $2");
        let key = [(&project as _, Type::UUID), (distinct_id as _, Type::TEXT)];
        let rows = self.postgres.query("reading a mapping", sql, &key).await?;
        if let Some(mapped) = rows.first().map(MappedRow::of) {
            mapped.join(&mut view);
        }
        let mut views = [view];
        self.read_redis(project, &mut views).await?;
        let [view] = views;
        Ok(view)
    }

    /// Projects that have mappings.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn projects(&self) -> Result<Vec<ProjectId>, StoreError> {
        let sql = "SELECT id FROM projects ORDER BY id";
        let rows = self.postgres.query("listing projects", sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Goes through all distinct ids of a project, a page of views at a time.
    ///
    /// # Errors
    /// Of any of the three stores, and the callback's.
    pub async fn walk<E: From<StoreError>>(
        &mut self,
        project: ProjectId,
        mut each: impl AsyncFnMut(Vec<View>) -> Result<(), E>,
    ) -> Result<(), E> {
        let ranges = ranges(&self.postgres, project).await?;
        let mut mapped = Mapped::begin(&self.postgres, project).await?;
        for range in ranges {
            let query = self.clickhouse.query(IN_CLICKHOUSE);
            let query = query.param("project", project.to_string());
            let query = query.param("after", &range.after).param("until", &range.until);
            let mut known = InClickHouse::begin(query).await?;
            loop {
                let mut page = Vec::with_capacity(PAGE);
                while page.len() < PAGE {
                    let Some(view) = next(&mut mapped, &mut known, &range).await? else {
                        break;
                    };
                    page.push(view);
                }
                if page.is_empty() {
                    break;
                }
                self.read_redis(project, &mut page).await?;
                each(page).await?;
            }
        }
        Ok(())
    }

    async fn read_redis(&mut self, project: ProjectId, views: &mut [View]) -> Result<(), StoreError> {
        let keys = views.iter().map(|view| person_key(view.key(project)));
        let keys: Vec<String> = keys.collect();
        let found = self.redis.texts("reading person keys", &keys).await?;
        for (view, found) in views.iter_mut().zip(found) {
            view.redis = found.map(|value| String::from_utf8_lossy(&value).into_owned());
        }
        Ok(())
    }

    /// Makes the other stores say what PostgreSQL says; where it says nothing, it learns it from them first. Tried as often
    /// as PostgreSQL's preset says: traffic that takes the same rows in another order may end it with a deadlock.
    ///
    /// # Errors
    /// Of any of the three stores. Mending again is harmless.
    pub async fn mend(&mut self, project: ProjectId, wrong: &[View]) -> Result<(), StoreError> {
        let mut failures = 0;
        while let Err(error) = self.mend_once(project, wrong).await {
            failures += 1;
            wait_or_give_up(failures, error).await?;
        }
        Ok(())
    }

    async fn mend_once(&mut self, project: ProjectId, wrong: &[View]) -> Result<(), StoreError> {
        let of = |kind: Disagreement| wrong.iter().filter(move |view| view.disagreement() == Some(kind));
        let unmapped =
            of(Disagreement::Unmapped).filter_map(|view| Some((view, *view.in_clickhouse().first()?)));
        let (unmapped, persons): (Vec<&View>, Vec<PersonId>) = unmapped.unzip();
        if !unmapped.is_empty() {
            let (projects, ids) = unnest_keys(unmapped.iter().map(|view| view.key(project)));
            let given = [
                (&projects as _, Type::UUID_ARRAY),
                (&ids as _, Type::TEXT_ARRAY),
                (&persons as _, Type::UUID_ARRAY),
            ];
            self.postgres.query("mapping distinct ids", MAP, &given).await?;
        }
        let differing = [Disagreement::ClickHouse, Disagreement::Ahead, Disagreement::Redis];
        let told: Vec<&View> = differing.into_iter().flat_map(of).chain(unmapped).collect();
        self.publish_again(project, &told).await?;
        for view in wrong
            .iter()
            .filter(|view| view.postgres.is_none() && view.in_clickhouse().is_empty())
        {
            let mut delete = redis::cmd("DEL");
            delete.arg(person_key(view.key(project)));
            self.redis.ask::<()>("removing person keys", &delete).await?;
        }
        Ok(())
    }

    async fn publish_again(&self, project: ProjectId, views: &[&View]) -> Result<(), StoreError> {
        if views.is_empty() {
            return Ok(());
        }
        let highest = views.iter().filter(|view| view.newest >= HIGHEST);
        let highest: Vec<&str> = highest.map(|view| &*view.distinct_id).collect();
        if !highest.is_empty() {
            let query = self.clickhouse.query(DELETE_HIGHEST);
            let query = query.param("project", project.to_string()).param("ids", highest);
            self.clickhouse.execute("deleting overrides", query).await?;
        }
        let differing = views.iter().map(|view| Differs {
            key: view.key(project),
            above: if view.newest < HIGHEST {
                view.newest.cast_signed()
            } else {
                0
            },
        });
        let told = publish_again(&self.postgres, differing).await?;
        self.publisher().publish(&told).await
    }

    /// Moves all that large merges have left over: until then PostgreSQL names persons that are going.
    ///
    /// # Errors
    /// Of any of the three stores. Going on later is harmless.
    pub async fn finish_merges(&self) -> Result<(), StoreError> {
        let mut mover = Mover::new(self.publisher());
        let mut failed_passes = 0;
        loop {
            let mut failed = None;
            // What fails is passed over, and tried again by the next pass.
            loop {
                match mover.step().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        if error.kind == FailureKind::Poison {
                            return Err(error);
                        }
                        failed = Some(error);
                    }
                }
            }
            let Some(error) = failed else { return Ok(()) };
            failed_passes += 1;
            wait_or_give_up(failed_passes, error).await?;
        }
    }

    fn publisher(&self) -> Publisher {
        Publisher::new(self.postgres.clone(), self.clickhouse.clone(), self.redis.clone())
    }
}

/// Waits before the next attempt, while there is one and it can help. Not `Task::retry`: what is tried concerns all three
/// stores, a preset names one, and whichever fails, that one would be told of as away.
async fn wait_or_give_up(failures: u32, error: StoreError) -> Result<(), StoreError> {
    if error.kind == FailureKind::Poison || failures >= retry::POSTGRES.attempts {
        return Err(error);
    }
    tokio::time::sleep(retry::pause(retry::POSTGRES, failures)).await;
    Ok(())
}
