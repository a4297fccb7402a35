//! `person audit`: every distinct id in all three stores.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::output::{print, print_json};
use crate::event::ProjectId;
use crate::identity::upkeep::audit::Auditor;
use crate::identity::upkeep::view::{Disagreement, View};
use crate::stores::StoreError;

/// Disagreements told one by one; the rest is counted.
const MOST_TOLD: usize = 100;

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

pub(super) async fn audit(
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
