//! `dlq correct`: an event that was set aside is corrected and sent again, as the event that it was.

use std::path::PathBuf;

use serde_json::json;
use stream_reply::StreamId;

use super::endings::{Fate, command, hindrance};
use super::letters::{queue, walk};
use crate::cli::failure::Failure;
use crate::cli::input::text_of;
use crate::cli::output::{note, print};
use crate::cli::sentences::quoted;
use crate::config::Config;
use crate::event::field::{NAMES, PLACE};
use crate::logs::harmless;
use crate::replay::{
    Change, Corrected, Difference, Ended, Selection, corrects, moves_row, refusal, was_rejected,
};
use crate::runtime::retry::GaveUp;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::task::Task;
use crate::set_aside::{Letter, QUEUE, Queue, REJECTED};
use crate::stores::Postgres;
use crate::worker;

/// Which event is corrected, and how.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Correction {
    /// Its id in the queue, as `dlq list` shows it.
    id: StreamId,
    /// It is one of the rejected events, not a dead letter.
    #[arg(long)]
    rejected: bool,
    /// A field and its right value; an empty value means that there is none. May be repeated.
    #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = assignment)]
    fields: Vec<(String, String)>,
    /// The event whole, as a JSON object, or what `dlq show` printed, edited; `-` is standard input.
    #[arg(long, conflicts_with = "fields", required_unless_present = "fields")]
    file: Option<PathBuf>,
    /// Only say what would be changed, and whether the event would be sent.
    #[arg(long)]
    dry_run: bool,
    /// One JSON object: `changed` (field → before and now), `landed`, `reason` and `error` (why it has not), `id` (its id now,
    /// or null; where `reason` is `corrected`, among the dead letters).
    #[arg(long)]
    json: bool,
}

/// Reads `FIELD=VALUE`.
fn assignment(text: &str) -> Result<(String, String), String> {
    let (field, value) = text.split_once('=').ok_or("write it as FIELD=VALUE")?;
    if NAMES.contains(&field) || PLACE.contains(&field) {
        Ok((field.to_owned(), value.to_owned()))
    } else {
        let known = NAMES.into_iter().chain(PLACE).collect::<Vec<_>>();
        let given = quoted(field);
        Err(format!(
            "{given} is no field of an event; fields are {}",
            known.join(", ")
        ))
    }
}

pub(super) async fn correct(config: &Config, correction: Correction) -> Result<(), Failure> {
    let queue = queue(config, correction.rejected)?;
    let id = correction.id;
    let Some(old) = queue.get(id).await? else {
        return Err(gone(&queue, id).await);
    };
    let report = Report {
        is_json: correction.json,
        id,
    };
    let change = match correction.file {
        Some(file) => Change::Whole(text_of(&file)?),
        None => Change::Fields(correction.fields),
    };
    let corrected = Corrected::of(&old, &change).map_err(|why| report.unchanged(&why))?;
    let Corrected {
        letter: new,
        differences,
    } = &corrected;
    if differences.is_empty() {
        let replay = command("replay", queue.name, id);
        return Err(report.unchanged(&format!("nothing is different; {replay} sends it as it is")));
    }
    report.changes(differences);
    if let Some((reason, error)) = still_refused(config, new).await? {
        report.outcome(false, (Some(reason), Some(&error)), Some(id), differences);
        return Err(report.unchanged(&format!("it would still be rejected as {reason}: {error}")));
    }
    if !was_rejected(&queue, &old) && moves_row(&old, new, &config.streams) {
        let stay = "a dead letter keeps its project_id, event_name and timestamp: its row is looked for by them when its \
                    entry is delivered again";
        return Err(report.hindered(stay, differences));
    }
    if correction.dry_run {
        report.text("nothing was changed; it would be sent so");
        report.outcome(false, (None, None), Some(id), differences);
        return Ok(());
    }
    match worker::correct_once(config, &queue, &old, new).await? {
        Ended::Gone => Err(gone(&queue, id).await),
        Ended::Replayed { id, outcome, refused } => {
            let fate = Fate::of(id, outcome, refused.as_deref());
            report.outcome(fate.landed, fate.why(), fate.stands, differences);
            if fate.landed {
                report.text("1 landed");
                return Ok(());
            }
            Err(failed(fate.sentence))
        }
        ended => Err(report.hindered(&hindrance(&ended, queue.name, id), differences)),
    }
}

fn failed(message: String) -> Failure {
    Failure::Failed(anyhow::anyhow!(message))
}

/// Says where a letter is that is not in a queue, as far as that can be found out.
async fn gone(queue: &Queue, id: StreamId) -> Failure {
    let name = queue.name;
    let called = |name| Queue {
        name,
        ..queue.clone()
    };
    let (other, option) = if name == REJECTED {
        (QUEUE, "without")
    } else {
        (REJECTED, "with")
    };
    if matches!(called(other).get(id).await, Ok(Some(_))) {
        return failed(format!(
            "{id} is not in {name}, but in {other}: say it {option} `--rejected`"
        ));
    }
    let mut now = None;
    let (all, dead_letters) = (Selection::default(), called(QUEUE));
    let looked = walk(&dead_letters, &all, |letter| {
        if corrects(&letter, id) {
            now = Some(letter.id);
        }
    })
    .await;
    failed(match (looked, now) {
        (Ok(_), Some(now)) => {
            format!(
                "{id} is not in {name} any more: corrected, it stands in {QUEUE} as {now} until it has landed"
            )
        }
        _ => format!("{id} is not in {name}: replayed, purged, corrected and landed since, or never there"),
    })
}

/// Why a letter would be rejected by the rules that entries are checked by: code and text.
async fn still_refused(config: &Config, letter: &Letter) -> Result<Option<(&'static str, String)>, Failure> {
    let shutdown = Shutdown::default();
    let task = Task::new("correct", config.heartbeat_stale, &shutdown).within_presets();
    let postgres = Postgres::new(&config.postgres)?;
    let refused = refusal(letter, &config.streams, &postgres, &task).await;
    postgres.close();
    match refused {
        Ok(reject) => {
            Ok(reject.map(|reject| (reject.reason.code(), reject.reason.explanation().into_owned())))
        }
        Err(GaveUp::Away(error) | GaveUp::TakesNone(error) | GaveUp::Poison(error)) => Err(error.into()),
        Err(GaveUp::Abandoned(_)) => Err(Failure::Silent),
    }
}

/// What is said of a correction: for people as lines, for programs as one object.
struct Report {
    is_json: bool,
    id: StreamId,
}

impl Report {
    fn unchanged(&self, why: &str) -> Failure {
        failed(format!("{} is left as it was: {why}", self.id))
    }

    /// The same of what is no fault of the correction's.
    fn hindered(&self, why: &str, differences: &[Difference]) -> Failure {
        self.outcome(false, (None, Some(why)), Some(self.id), differences);
        self.unchanged(why)
    }

    fn text(&self, text: &str) {
        if !self.is_json {
            print(text);
        }
    }

    fn changes(&self, differences: &[Difference]) {
        for Difference { field, before, now } in differences {
            let line = format!("{}: {field}: {} -> {}", self.id, shown(before), shown(now));
            self.text(&harmless::line(&line));
            let is_known = NAMES.contains(&field.as_str()) || PLACE.contains(&field.as_str());
            if !is_known && field != "person_id" {
                note(&format!("{field} is no field of an event: it is ignored"));
            }
        }
    }

    fn outcome(
        &self,
        landed: bool,
        (reason, error): (Option<&str>, Option<&str>),
        stands: Option<StreamId>,
        differences: &[Difference],
    ) {
        if !self.is_json {
            return;
        }
        let changed = differences
            .iter()
            .map(|d| (d.field.clone(), json!({"before": d.before, "now": d.now})));
        let line = json!({
            "changed": changed.collect::<serde_json::Map<_, _>>(), "landed": landed,
            "reason": reason, "error": error, "id": stands.map(|id| id.to_string()),
        });
        print(&line.to_string());
    }
}

/// A value in quotes; nothing where there is none.
fn shown(text: &str) -> String {
    if text.is_empty() {
        "nothing".to_owned()
    } else {
        quoted(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_set_by_its_name_and_no_other() {
        assert_eq!(
            assignment("url=https://x.example/?a=b"),
            Ok(("url".into(), "https://x.example/?a=b".into()))
        );
        assert_eq!(assignment("url="), Ok(("url".into(), String::new())));
        assert_eq!(assignment("url"), Err("write it as FIELD=VALUE".into()));
        let error = assignment("event=x").unwrap_err();
        assert!(
            error.contains("\"event\" is no field") && error.contains("event_name"),
            "{error}"
        );
    }
}
