//! The letters that a command is about: found, and said to be missing.

use stream_reply::StreamId;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::Config;
use crate::replay::Selection;
use crate::set_aside::{Letter, QUEUE, Queue, REJECTED};
use crate::stores::Redis;

/// Letters read, or removed, in one round trip.
pub(super) const PAGE: usize = 500;

/// The queue that is meant.
pub(super) fn queue(config: &Config, rejected: bool) -> Queue {
    Queue {
        redis: Redis::new(&config.redis),
        name: if rejected { REJECTED } else { QUEUE },
        capacity: config.dead_letters.capacity,
    }
}

/// Calls `each` with what is meant, oldest first. Returns the ids that were asked for and are not there.
pub(super) async fn walk(
    queue: &Queue,
    selection: &Selection,
    mut each: impl FnMut(Letter),
) -> Result<Vec<StreamId>, Failure> {
    let now = jiff::Timestamp::now().as_millisecond() as u64;
    let mut take = |letter: Letter| {
        if selection.takes(&letter, now) {
            each(letter);
        }
    };
    let mut absent = Vec::new();
    if !selection.ids.is_empty() {
        let mut ids = selection.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            match queue.get(id).await? {
                Some(letter) => take(letter),
                None => absent.push(id),
            }
        }
        return Ok(absent);
    }
    let mut behind = StreamId::MIN;
    loop {
        let page = queue.after(behind, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(absent);
        };
        behind = last.id;
        page.into_iter().for_each(&mut take);
        if !output::is_open() {
            return Ok(absent);
        }
    }
}

/// Says that letters are not there, if any is not.
pub(super) fn all_there(queue: &Queue, absent: &[StreamId]) -> Result<(), Failure> {
    if absent.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = absent.iter().map(ToString::to_string).collect();
    let verb = if let [_] = absent { "is" } else { "are" };
    let message = format!(
        "{} {verb} not in {}: replayed, purged, or never there",
        ids.join(", "),
        queue.name
    );
    Err(Failure::Failed(anyhow::anyhow!(message)))
}
