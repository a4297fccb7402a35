//! `dlq list` and `dlq show`: nothing is changed.

use serde_json::{Value, json};
use stream_reply::StreamId;

use super::filter::Filter;
use super::letters::{all_there, walk};
use crate::cli::failure::Failure;
use crate::cli::output::{Rows, note, print};
use crate::set_aside::{Letter, Queue, REJECTED};

/// Lines of a list, unless told.
const LINES: usize = 50;

pub(super) async fn list(
    queue: &Queue,
    filter: &Filter,
    limit: Option<usize>,
    json: bool,
) -> Result<(), Failure> {
    let most = match limit {
        Some(0) => usize::MAX,
        told => told.unwrap_or(LINES),
    };
    let mut table = Rows::new(&[
        "id",
        "event",
        "distinct id",
        "reason",
        "error",
        "set aside at",
        "attempts",
        "project",
    ])
    .whole(&["id"])
    .optional(&["project", "attempts", "set aside at"]);
    let mut count = 0;
    let absent = walk(queue, &filter.selection(), |letter| {
        count += 1;
        if count > most {
            return;
        }
        if json {
            print(&described(&letter).to_string());
        } else {
            table.add(row(&letter));
        }
    })
    .await?;
    let shown = count.min(most);
    if !json {
        print(&format!("{table}\n{shown} of {count} in {}", queue.name));
        if shown > 0 {
            let option = if queue.name == REJECTED { " --rejected" } else { "" };
            print(&format!(
                "`dlq show ID{option}` shows one whole, `dlq correct ID{option} --set FIELD=VALUE` corrects and sends it"
            ));
        }
    } else if limit.is_none() && shown < count {
        // A user who names a limit knows of it; one who does not must not take these lines for all.
        note(&format!(
            "{} more in {}: --limit 0 for all",
            count - shown,
            queue.name
        ));
    }
    all_there(queue, &absent)
}

fn row(letter: &Letter) -> [String; 8] {
    let fields = letter.fields().unwrap_or_default();
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    [
        letter.id.to_string(),
        field("event_name"),
        field("distinct_id"),
        letter.reason.clone(),
        letter.error.clone(),
        letter.failed_at.clone(),
        letter.attempts.clone(),
        field("project_id"),
    ]
}

/// Everything known about a letter, its data as JSON where it is.
fn described(letter: &Letter) -> Value {
    let data = letter.text();
    let data = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
    json!({
        "id": letter.id.to_string(), "reason": letter.reason, "error": letter.error, "stream": letter.stream,
        "stream_id": letter.stream_id.map(|id| id.to_string()), "failed_at": letter.failed_at,
        "attempts": letter.attempts, "consumer": letter.consumer, "data": data,
    })
}

pub(super) async fn show(queue: &Queue, id: StreamId) -> Result<(), Failure> {
    match queue.get(id).await? {
        Some(letter) => {
            print(&format!("{:#}", described(&letter)));
            Ok(())
        }
        None => all_there(queue, &[id]),
    }
}
