//! `dlq replay` and `dlq purge`: what was set aside leaves the queue, one way or the other.

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use stream_reply::StreamId;

use super::filter::{Filter, How};
use super::letters::{PAGE, all_there, queue, walk};
use crate::cli::failure::Failure;
use crate::cli::output::{print, print_json};
use crate::config::Config;
use crate::set_aside::Queue;
use crate::worker;

/// What became of letters, for programs.
#[derive(Debug, Default, Serialize)]
struct Account {
    /// Letters that were meant.
    matched: usize,
    /// Of them, those that are gone from the queue.
    left_queue: usize,
    /// Of them, those that are among the rejected events now.
    rejected: usize,
    /// Ids that were asked for and are not there.
    absent: Vec<String>,
    /// Why it ended before its end.
    stopped: Option<String>,
}

impl Account {
    fn new(matched: usize, absent: &[StreamId]) -> Self {
        Self {
            matched,
            absent: absent.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }

    /// For programs as JSON, for people as `text`.
    fn print(&self, how: How, text: &str) -> Result<(), Failure> {
        if how.json {
            print_json(self)?;
        } else {
            print(text);
        }
        Ok(())
    }
}

/// A bar on standard error; none when that is not a terminal.
fn bar(letters: usize, verb: &str) -> ProgressBar {
    let bar = ProgressBar::new(letters as u64);
    let template = format!("{{bar:40}} {{pos}}/{{len}} {verb}, {{per_sec}}, {{eta}} left");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}

pub(super) async fn replay(config: &Config, filter: &Filter, how: How) -> Result<(), Failure> {
    let queue = queue(config, filter.rejected);
    let selection = filter.selection();
    let mut matched = 0;
    let absent = walk(&queue, &selection, |_| matched += 1).await?;
    let mut account = Account::new(matched, &absent);
    if how.dry_run {
        account.print(how, &format!("{matched} would be replayed"))?;
        return all_there(&queue, &absent);
    }
    let (mut stopped, mut stayed) = (None, 0);
    if matched > 0 {
        let bar = bar(matched, "replayed");
        let outcome = worker::replay_once(config, queue.clone(), &selection, |letters| {
            bar.inc(letters as u64);
        })
        .await?;
        bar.finish_and_clear();
        account.left_queue = outcome.left_queue;
        account.rejected = outcome.rejected;
        account.stopped = outcome.stopped.as_ref().map(ToString::to_string);
        stayed = outcome.pending + outcome.failing;
        stopped = outcome.stopped;
    }
    account.print(how, &became(&account, stayed, queue.name))?;
    if let Some(stopped) = stopped {
        return Err(Failure::Failed(stopped.into()));
    }
    all_there(&queue, &absent)?;
    // Where none has landed, though there was one that could have, nothing has come of it.
    let none_landed = account.left_queue == account.rejected;
    if none_landed && (account.rejected > 0 || stayed > 0) {
        return Err(Failure::Silent);
    }
    Ok(())
}

/// What became of letters that were replayed, in words.
fn became(account: &Account, stayed: usize, queue: &str) -> String {
    let mut text = format!("{} landed", account.left_queue.saturating_sub(account.rejected));
    if account.rejected > 0 {
        text += &format!(
            ", {} rejected: see `dlq list --rejected`, and `dlq correct`",
            account.rejected
        );
    }
    if stayed > 0 {
        text += &format!(", {stayed} left in {queue}: the stores fail on them, or their entries are pending");
    }
    let gone = account.matched.saturating_sub(account.left_queue + stayed);
    if gone > 0 && account.stopped.is_none() {
        text += &format!(", {gone} gone before: another instance has replayed them");
    }
    text
}

pub(super) async fn purge(queue: &Queue, filter: &Filter, yes: bool, how: How) -> Result<(), Failure> {
    if filter.is_empty() {
        let usage = "say what to remove: --id, --project, --event, --reason or --older-than; `--older-than 0s --yes` \
                     removes all";
        return Err(Failure::Usage(usage.into()));
    }
    let mut ids = Vec::new();
    let absent = walk(queue, &filter.selection(), |letter| ids.push(letter.id)).await?;
    let mut account = Account::new(ids.len(), &absent);
    if how.dry_run {
        account.print(how, &format!("{} would be removed", ids.len()))?;
        return all_there(queue, &absent);
    }
    // An id names one letter; how many a filter names is seen only now.
    if filter.ids.is_empty() && !yes {
        let usage = format!(
            "{} would be removed from {} for good: add --yes to do so, --dry-run to count only",
            ids.len(),
            queue.name
        );
        return Err(Failure::Usage(usage));
    }
    let bar = bar(ids.len(), "removed");
    for chunk in ids.chunks(PAGE) {
        account.left_queue += queue.remove(chunk).await? as usize;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    let asked = ids.len() + absent.len();
    account.print(
        how,
        &format!("{} of {asked} removed from {}", account.left_queue, queue.name),
    )?;
    all_there(queue, &absent)
}
