//! Slots of a cluster that are on their way from one node to another: while they are moved, or because moving them was given
//! up half-way. Only the two nodes know of it, each for itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::slots;

/// A slot that is on its way, as the nodes at its ends say, or one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenSlot {
    /// Which one.
    pub slot: u16,
    /// The node that gives it.
    pub from: String,
    /// The node that takes it.
    pub to: String,
    /// Which of the two say so: one alone where a move was given up at its beginning or end.
    pub said_by: Vec<String>,
}

/// The slot of a key.
pub fn slot_of(key: &str) -> u16 {
    slots::of_key(key.as_bytes())
}

/// What each node that was asked says of its own slots.
pub(super) fn open(answers: &[(Option<String>, String)]) -> Vec<OpenSlot> {
    let mut found = BTreeMap::<(u16, String, String), BTreeSet<String>>::new();
    for (asked, text) in answers {
        let asked = asked.as_deref().unwrap_or_default();
        let nodes = || text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let own = nodes().find(|words| words.get(2).is_some_and(|flags| flags.contains("myself")));
        for word in own.iter().flatten() {
            let Some((slot, gives, other)) = moved(word) else {
                continue;
            };
            let other = nodes()
                .find(|words| words.first() == Some(&other))
                .and_then(|words| address(words[1]));
            let other = other.unwrap_or("a node that is not known");
            let (from, to) = if gives { (asked, other) } else { (other, asked) };
            let said_by = found.entry((slot, from.to_owned(), to.to_owned())).or_default();
            said_by.insert(asked.to_owned());
        }
    }
    let found = found.into_iter();
    found
        .map(|((slot, from, to), said_by)| OpenSlot {
            slot,
            from,
            to,
            said_by: said_by.into_iter().collect(),
        })
        .collect()
}

/// The slot, whether it is given rather than taken, and the id of the other node: `[93->-ID]`, `[77-<-ID]`.
fn moved(word: &str) -> Option<(u16, bool, &str)> {
    let word = word.strip_prefix('[')?.strip_suffix(']')?;
    let given = word.split_once("->-").map(|(slot, id)| (slot, true, id));
    let (slot, gives, id) = given.or_else(|| word.split_once("-<-").map(|(slot, id)| (slot, false, id)))?;
    Some((slot.parse().ok()?, gives, id))
}

/// `127.0.0.1:6379@16379,name` without what stands behind the port; nothing where the node does not know its address.
fn address(word: &str) -> Option<&str> {
    word.split('@')
        .next()
        .filter(|address| !address.is_empty() && !address.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_ends_of_a_move_say_is_one_open_slot() {
        let say = |own: usize, words: &str| {
            let line = |nth: usize| {
                let (flags, words) = if nth == own {
                    ("myself,master", words)
                } else {
                    ("master", "")
                };
                format!(
                    "id{nth} 10.0.0.{nth}:6379@16379,host-{nth} {flags} - 0 0 {nth} connected 0-5460 {words}"
                )
            };
            (
                Some(format!("10.0.0.{own}:6379")),
                [1, 2].map(line).join("\n") + "\n",
            )
        };
        let slot = |slot: u16, from: &str, to: &str, said_by: &[&str]| OpenSlot {
            slot,
            from: from.to_owned(),
            to: to.to_owned(),
            said_by: said_by.iter().map(|name| (*name).to_owned()).collect(),
        };
        let (one, two) = ("10.0.0.1:6379", "10.0.0.2:6379");
        let both = [say(1, "[93->-id2]"), say(2, "[93-<-id1] [7-<-id1]")];
        assert_eq!(
            open(&both),
            [slot(7, one, two, &[two]), slot(93, one, two, &[one, two])]
        );
        let gone = [say(1, "[93->-id9]"), say(2, "")];
        assert_eq!(open(&gone), [slot(93, one, "a node that is not known", &[one])]);
        assert_eq!(open(&[say(1, ""), say(2, "5461-10922")]), []);
    }
}
