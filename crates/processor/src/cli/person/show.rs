//! `person show`: who a distinct id is in all three stores, and how it became so, as sentences for people.

use serde::Serialize;
use stream_reply::StreamId;

use crate::cli::failure::Failure;
use crate::cli::output::{Rows, print, print_json};
use crate::cli::sentences::{quoted, wrapped};
use crate::event::{DistinctId, PersonId, ProjectId};
use crate::identity::upkeep::audit::Auditor;
use crate::identity::upkeep::history::{History, PastMerge, RefusedMerge, history, refused_merges};
use crate::identity::upkeep::view::View;
use crate::stores::StoreError;

/// Distinct ids, merges and refused merges shown of one person.
const MOST_SHOWN: i64 = 100;

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
    /// Newest first.
    merges: Vec<PastMerge>,
    /// Newest first.
    refused_merges: Vec<RefusedMerge>,
}

pub(super) async fn show(
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
    let person = tell(&auditor, project, view).await?;
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

async fn tell(auditor: &Auditor, project: ProjectId, view: View) -> Result<Person, StoreError> {
    let history = match view.postgres {
        Some(person) => history(&auditor.postgres, project, person, MOST_SHOWN).await?,
        None => History::default(),
    };
    let mut ids = history.distinct_ids.clone();
    if !ids.contains(&view.distinct_id) {
        ids.push(view.distinct_id.clone());
    }
    let refused_merges = refused_merges(&auditor.clickhouse, project, &ids, MOST_SHOWN).await?;
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
        refused_merges,
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
    let mut paragraphs = vec![format!("{stores}\n{}", wrapped(verdict(person.agree), ""))];
    if person.overridden {
        let override_is = "By override: rows keep the person that was theirs when they were written; a table of overrides \
                           tells readers whose they are now. It is what a merge leaves behind.";
        paragraphs.push(wrapped(override_is, ""));
    }
    if let Some(properties) = &person.properties {
        paragraphs.push(format!("properties {properties:#}"));
    }
    let ids: Vec<String> = person.distinct_ids.iter().map(|id| quoted(id)).collect();
    paragraphs.push(wrapped(&format!("distinct ids: {}", ids.join(", ")), "  "));
    paragraphs.push(story(person));
    paragraphs.join("\n\n")
}

fn verdict(agree: bool) -> &'static str {
    if agree {
        "the stores agree"
    } else {
        "THE STORES DISAGREE: `qurvo-processor person audit --repair` makes them say what PostgreSQL says"
    }
}

/// What joined this person together, and what was not joined, oldest first.
fn story(person: &Person) -> String {
    let mut story: Vec<Happened<'_>> = Vec::new();
    for merge in &person.merges {
        story.push((&merge.at, &merge.stream_id, merged(merge)));
    }
    for refused in &person.refused_merges {
        story.push((&refused.at, &refused.stream_id, kept_apart(refused)));
    }
    if story.is_empty() {
        let nothing = "No merge is recorded, and none was refused in the last 30 days. An anonymous id that had no events of \
                       its own yet is attached without a merge.";
        return wrapped(nothing, "");
    }
    story.sort_by_cached_key(when);
    let mut text = "How it became so, oldest first; times are when it was decided, in UTC:".to_owned();
    for (at, _, sentence) in story {
        let at = at.replace('T', " ").replace('Z', "");
        text += &format!("\n\n{}", wrapped(&format!("{at}  {sentence}"), "    "));
    }
    text
}

/// When something was decided, the entry that asked for it, and what it was.
type Happened<'a> = (&'a str, &'a str, String);

/// By the second, which is all that is known of a refusal, and within it by the entry.
fn when((at, entry, _): &Happened<'_>) -> (String, Option<StreamId>) {
    let second = at.split(['.', 'Z']).next().unwrap_or_default();
    (second.to_owned(), StreamId::parse(entry.as_bytes()))
}

fn merged(merge: &PastMerge) -> String {
    let [user, anonymous] = [&merge.distinct_id, &merge.anonymous_id].map(|id| quoted(id));
    let PastMerge {
        from,
        into,
        event_id,
        stream_id,
        consumer,
        ..
    } = merge;
    format!(
        "{user} and {anonymous} were joined by an $identify of {user}: person {from} became part of person {into}. (event \
         {event_id}, entry {stream_id}, instance {consumer})"
    )
}

fn kept_apart(refused: &RefusedMerge) -> String {
    let user = quoted(&refused.distinct_id);
    let anonymous = if refused.anonymous_id.is_empty() {
        "an id that was not noted".to_owned()
    } else {
        quoted(&refused.anonymous_id)
    };
    let mut text = format!(
        "{user} and {anonymous} were NOT joined: an $identify of {user} asked for it, but {anonymous} belonged to another \
         identified user, and two of them are never joined (PROCESSOR_MERGE_POLICY=guarded)."
    );
    if !refused.event_id.is_empty() {
        text += &format!(" (event {}, entry {})", refused.event_id, refused.stream_id);
    }
    text
}
