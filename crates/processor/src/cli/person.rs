//! `qurvo-processor person`: who a distinct id is, in all three stores, and whether they agree.

use std::collections::BTreeMap;

use clap::Subcommand;
use serde::Serialize;

use super::failure::Failure;
use super::output::{Rows, print, print_json};
use crate::config::Config;
use crate::event::{DistinctId, PersonId, ProjectId};
use crate::identity::upkeep::audit::Auditor;
use crate::identity::upkeep::history::{History, PastMerge, history};
use crate::identity::upkeep::view::{Disagreement, View};
use crate::logs::harmless;
use crate::stores::{ClickHouse, Postgres, Redis, StoreError};

/// Disagreements told one by one; the rest is counted.
const MOST_TOLD: usize = 100;
/// Distinct ids and merges shown of one person.
const MOST_SHOWN: i64 = 100;

/// Arguments of `person`.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    /// How a distinct id resolves in each store, its person's properties and merges; exit 1 when the stores disagree.
    Show {
        /// Project id.
        project: ProjectId,
        /// Distinct id, exactly as events have it.
        distinct_id: DistinctId,
        /// One JSON object instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Compare all three stores for every distinct id; exit 1 when a disagreement is left. Made for quiet hours: what
    /// is on its way while it runs may be reported, or mended, without need.
    Audit {
        /// Only this project.
        #[arg(long)]
        project: Option<ProjectId>,
        /// Make Redis and ClickHouse say what PostgreSQL says.
        #[arg(long)]
        repair: bool,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let auditor = Auditor {
        postgres: Postgres::new(&config.database_url)?,
        clickhouse: ClickHouse::new(&config.clickhouse),
        redis: Redis::new(&config.redis_url)?,
    };
    match arguments {
        Arguments::Show {
            project,
            distinct_id,
            json,
        } => show(auditor, project, &distinct_id, json).await,
        Arguments::Audit {
            project,
            repair,
            json,
        } => audit(auditor, project, repair, json).await,
    }
}

/// What `show` tells.
#[derive(Debug, Serialize)]
struct Person {
    project: ProjectId,
    distinct_id: DistinctId,
    postgres: Option<PersonId>,
    redis: Option<String>,
    /// Whom ClickHouse's readers take the id for.
    clickhouse: Vec<PersonId>,
    /// Whether an override says so, rather than the rows themselves.
    overridden: bool,
    agree: bool,
    properties: Option<serde_json::Value>,
    distinct_ids: Vec<DistinctId>,
    merges: Vec<PastMerge>,
}

async fn show(
    mut auditor: Auditor,
    project: ProjectId,
    distinct_id: &DistinctId,
    json: bool,
) -> Result<(), Failure> {
    let view = auditor.view(project, distinct_id).await?;
    let anybody = view.postgres.is_some() || view.redis.is_some() || !view.in_clickhouse().is_empty();
    if !anybody {
        return Err(anyhow::anyhow!("no store knows {distinct_id:?} in project {project}").into());
    }
    let person = tell(&auditor.postgres, project, view).await?;
    if json {
        print_json(&person)?;
    } else {
        print(&text(&person));
    }
    if person.agree {
        Ok(())
    } else {
        Err(Failure::Silent)
    }
}

async fn tell(postgres: &Postgres, project: ProjectId, view: View) -> Result<Person, StoreError> {
    let history = match view.postgres {
        Some(person) => history(postgres, project, person, MOST_SHOWN).await?,
        None => History::default(),
    };
    Ok(Person {
        project,
        agree: view.disagreement().is_none(),
        postgres: view.postgres,
        clickhouse: view.in_clickhouse().to_vec(),
        overridden: view.moved_to.is_some(),
        redis: view.redis,
        distinct_id: view.distinct_id,
        properties: history.properties,
        distinct_ids: history.distinct_ids,
        merges: history.merges,
    })
}

fn text(person: &Person) -> String {
    let names = |ids: &[PersonId]| match ids {
        [] => "nothing".to_owned(),
        ids => ids.iter().map(PersonId::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut stores = Rows::new(&["store", "person"]);
    stores.add(["PostgreSQL", &names(person.postgres.as_slice())]);
    stores.add(["Redis", person.redis.as_deref().unwrap_or("nothing")]);
    let how = if person.overridden { " (by override)" } else { "" };
    stores.add(["ClickHouse", &(names(&person.clickhouse) + how)]);
    let verdict = if person.agree {
        "the stores agree"
    } else {
        "THE STORES DISAGREE: `qurvo-processor person audit --repair` makes them say what PostgreSQL says"
    };
    let mut text = format!("{stores}\n{verdict}\n");
    if let Some(properties) = &person.properties {
        text += &format!("\nproperties {properties:#}\n");
    }
    text += &format!(
        "\ndistinct ids: {}\n",
        harmless::line(&person.distinct_ids.join(", "))
    );
    if !person.merges.is_empty() {
        let mut merges = Rows::new(&[
            "merged at",
            "from",
            "into",
            "because of $identify by",
            "with",
            "event",
            "entry",
            "instance",
        ]);
        for merge in &person.merges {
            merges.add([
                merge.at.as_str(),
                &merge.from.to_string(),
                &merge.into.to_string(),
                &merge.distinct_id,
                &merge.anonymous_id,
                &merge.event_id.to_string(),
                &merge.stream_id,
                &merge.consumer,
            ]);
        }
        text += &format!("\n{merges}\n");
    }
    text
}

/// What `audit` found.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// Distinct ids compared.
    compared: u64,
    /// Disagreements by kind.
    disagreements: BTreeMap<&'static str, u64>,
    /// Of them, mended.
    mended: u64,
    /// The first ones.
    first: Vec<String>,
}

async fn audit(
    mut auditor: Auditor,
    project: Option<ProjectId>,
    repair: bool,
    json: bool,
) -> Result<(), Failure> {
    let projects = match project {
        Some(project) => vec![project],
        None => auditor.projects().await?,
    };
    if repair {
        auditor.finish_merges().await?;
    }
    let mut findings = Findings::default();
    let mut mender = auditor.clone();
    for project in projects {
        let compare = async |page: Vec<View>| -> Result<(), StoreError> {
            findings.compared += page.len() as u64;
            let mut wrong = page;
            wrong.retain(|view| view.disagreement().is_some());
            for view in &wrong {
                findings.note(project, view);
            }
            if repair {
                mender.mend(project, &wrong).await?;
                findings.mended += wrong.len() as u64;
            }
            Ok(())
        };
        auditor.walk(project, compare).await?;
    }
    if json {
        print_json(&findings)?;
    } else {
        print(&findings.text());
    }
    let found: u64 = findings.disagreements.values().sum();
    if found == findings.mended {
        Ok(())
    } else {
        Err(Failure::Silent)
    }
}

impl Findings {
    fn note(&mut self, project: ProjectId, view: &View) {
        let name = match view.disagreement() {
            Some(Disagreement::ClickHouse) => "clickhouse",
            Some(Disagreement::Ahead) => "version_ahead",
            Some(Disagreement::Redis) => "redis",
            Some(Disagreement::Unmapped) => "unmapped",
            None => return,
        };
        *self.disagreements.entry(name).or_default() += 1;
        if self.first.len() < MOST_TOLD {
            let View {
                distinct_id,
                postgres,
                redis,
                ..
            } = view;
            let in_clickhouse = view.in_clickhouse();
            self.first.push(format!(
                "{name}: project {project}, {distinct_id:?}: PostgreSQL {postgres:?}, Redis {redis:?}, ClickHouse \
                 {in_clickhouse:?}"
            ));
        }
    }

    fn text(&self) -> String {
        let found: u64 = self.disagreements.values().sum();
        let mut text = self.first.join("\n");
        if found > self.first.len() as u64 {
            text += &format!("\n… and {} more", found - self.first.len() as u64);
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text += &format!(
            "{} distinct ids compared, {found} disagreements, {} mended",
            self.compared, self.mended
        );
        if found > self.mended {
            text += ": `--repair` mends them";
        }
        text
    }
}
