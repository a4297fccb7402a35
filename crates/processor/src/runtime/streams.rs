//! The streams that an instance is told of, as it reports them, and whether instances agree about them. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// So many are named; of the rest it is said how many they are.
const NAMED: usize = 3;

/// The streams that an instance is told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Streams {
    /// All of them, in its order.
    pub list: Vec<String>,
    /// Whether it shares them out among instances, rather than reading each.
    pub shared: bool,
    /// Those that it reads to their end before the others; nothing in the reports of versions that did not say it.
    #[serde(default)]
    pub first: Option<Vec<String>>,
}

impl Streams {
    /// For people: which streams, and how they are shared.
    pub fn described(&self) -> String {
        let how = if self.shared { "auto" } else { "all" };
        let first = match &self.first {
            Some(first) if !first.is_empty() => format!(", PROCESSOR_STREAM_FIRST={}", shortened(first)),
            _ => String::new(),
        };
        format!("{} (PROCESSOR_STREAM_SHARE={how}{first})", shortened(&self.list))
    }

    /// Where instances of these two differ, and what that does. Nothing where they agree.
    pub fn differences(&self, (ours, theirs): (&str, &str), other: &Self) -> Vec<String> {
        let is_in = |list: &[String], stream: &&String| list.contains(stream);
        if !self.list.iter().any(|stream| is_in(&other.list, &stream)) {
            return vec![format!(
                "{ours} and {theirs} have no stream in common: neither reads for the other, so unless that is meant one \
                 PROCESSOR_STREAM is wrong"
            )];
        }
        let mut told = Vec::new();
        for (name, one, another) in [(ours, self, other), (theirs, other, self)] {
            let alone = one.list.iter().filter(|stream| !is_in(&another.list, stream));
            let alone: Vec<&str> = alone.map(String::as_str).collect();
            if !alone.is_empty() {
                let streams = few(&alone);
                told.push(format!("only {name} reads {streams}: nobody does when that ends"));
            }
        }
        let places = self.list.iter().zip(&other.list).zip(1..);
        let mut moved = places.filter(|((one, another), _)| {
            one != another && (is_in(&other.list, one) || is_in(&self.list, another))
        });
        if let Some(((one, another), place)) = moved.next() {
            told.push(format!(
                "from place {place} on the order differs ({ours}: {one}, {theirs}: {another}): the place decides into which \
                 stream a project or person is sent, so a sender with the other order lets events of one person overtake each \
                 other, and which of two property writes is newer"
            ));
        }
        if self.shared != other.shared {
            told.push(
                "some share the streams out and some read all: two may read a stream at once".to_owned(),
            );
        }
        if let (Some(one), Some(another)) = (&self.first, &other.first)
            && sorted(one) != sorted(another)
        {
            let said = |first: &[String]| match first {
                [] => "nothing".to_owned(),
                first => shortened(first),
            };
            told.push(format!(
                "what is read first differs ({ours}: {}, {theirs}: {}): new events overtake what is left in the old streams",
                said(one),
                said(another)
            ));
        }
        told
    }
}

fn sorted(names: &[String]) -> Vec<&String> {
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    sorted
}

/// The first and the last of many.
fn shortened(list: &[String]) -> String {
    match list {
        [first, .., last] if list.len() > NAMED => format!("{first} … {last}, {} streams", list.len()),
        few => few.join(", "),
    }
}

/// A few names, and how many more there are.
pub fn few(names: &[&str]) -> String {
    let named = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// What instances disagree about, if they do: who has what, and where each differs from those that are more.
pub fn odds<'a>(instances: impl Iterator<Item = (&'a str, &'a Streams)>) -> Option<String> {
    let mut by_list = BTreeMap::<&Streams, Vec<&str>>::new();
    for (name, streams) in instances {
        by_list.entry(streams).or_default().push(name);
    }
    let mut groups: Vec<(&Streams, Vec<&str>)> = by_list.into_iter().collect();
    groups.sort_by_key(|(_, names)| Reverse(names.len()));
    let mut differ = vec![false; groups.len()];
    let mut differences = Vec::new();
    for (nth, (streams, names)) in groups.iter().enumerate() {
        for (before, (most, of_most)) in groups[..nth].iter().enumerate() {
            let found = most.differences((of_most[0], names[0]), streams);
            if !found.is_empty() {
                (differ[before], differ[nth]) = (true, true);
                differences.extend(found);
                break;
            }
        }
    }
    let at_odds = groups.iter().zip(differ).filter(|(_, differs)| *differs);
    let told = at_odds.map(|((streams, names), _)| {
        let has = if names.len() == 1 { "has" } else { "have" };
        format!("{} {has} {}", few(names), streams.described())
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| {
        format!(
            "instances have different lists of streams, or share them differently: {}. {}. {SAY_THE_SAME}",
            told.join("; "),
            differences.join("; ")
        )
    })
}

/// What is to be done where they disagree.
pub const SAY_THE_SAME: &str = "Give all the same PROCESSOR_STREAM, PROCESSOR_STREAM_SHARE and PROCESSOR_STREAM_FIRST, unless they \
                                are just being restarted one after another";

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(list: &[&str], shared: bool) -> Streams {
        Streams {
            list: list.iter().map(|name| (*name).to_owned()).collect(),
            shared,
            first: Some(Vec::new()),
        }
    }

    #[test]
    fn where_instances_differ_and_what_that_does_is_told() {
        let ours = streams(&["a", "b"], true);
        let first = |first: Option<&[&str]>| Streams {
            first: first.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            ..ours.clone()
        };
        for (theirs, told) in [
            (ours.clone(), &[][..]),
            (streams(&["a", "b"], false), &["two may read a stream at once"]),
            (streams(&["a", "b", "c"], true), &["only z reads c"]),
            (
                streams(&["b", "a"], true),
                &["from place 1 on the order differs (y: a, z: b)"],
            ),
            (
                streams(&["a", "c", "b"], true),
                &["only z reads c", "from place 2 on the order differs (y: b, z: c)"],
            ),
            (streams(&["c"], false), &["y and z have no stream in common"]),
            (
                first(Some(&["a"])),
                &["what is read first differs (y: nothing, z: a)"],
            ),
            (first(None), &[]),
        ] {
            let found = ours.differences(("y", "z"), &theirs);
            assert_eq!(found.len(), told.len(), "{found:?}");
            for (found, told) in found.iter().zip(told) {
                assert!(
                    found.starts_with(told) || found.ends_with(told) || found.contains(told),
                    "{found}"
                );
            }
        }
        let turned = first(Some(&["b", "a"]));
        assert_eq!(first(Some(&["a", "b"])).differences(("y", "z"), &turned), [""; 0]);
    }

    #[test]
    fn who_has_which_list_is_told_with_how_the_fewer_differ_from_the_more() {
        let (four, five) = (["s0", "s1", "s2", "s3"], ["s0", "s1", "s2", "s3", "s4"]);
        let (four, five, other) = (streams(&four, true), streams(&five, false), streams(&["x"], true));
        let same = [("a", &four), ("b", &four)];
        assert_eq!(odds(same.into_iter()), None);
        let said = odds([("a", &four), ("b", &four), ("c", &five), ("d", &other)].into_iter()).unwrap();
        for told in [
            "a, b have s0 … s3, 4 streams (PROCESSOR_STREAM_SHARE=auto)",
            "c has s0 … s4, 5 streams (PROCESSOR_STREAM_SHARE=all)",
            "d has x (PROCESSOR_STREAM_SHARE=auto)",
            "only c reads s4",
            "a and d have no stream in common",
        ] {
            assert!(said.contains(told), "{told}: {said}");
        }
        assert_eq!(few(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }

    #[test]
    fn the_order_of_many_streams_is_told_where_it_differs() {
        let names: Vec<String> = (0..12).map(|n| format!("s{n}")).collect();
        let mut turned: Vec<&str> = names.iter().map(String::as_str).collect();
        let one = streams(&turned, true);
        turned.swap(4, 7);
        let said = odds([("a", &one), ("b", &streams(&turned, true))].into_iter()).unwrap();
        assert!(
            said.contains("from place 5 on the order differs (a: s4, b: s7)")
                && said.contains("project or person"),
            "{said}"
        );
    }
}
