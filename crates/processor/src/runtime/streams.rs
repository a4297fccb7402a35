//! The streams that an instance is told of, as it reports them, and whether instances agree about them. Pure.

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
}

impl Streams {
    /// Whether instances of these two get into each other's way: they have streams in common, and not the same list, or not
    /// the same way to share it.
    pub fn is_at_odds_with(&self, other: &Self) -> bool {
        self != other && self.list.iter().any(|stream| other.list.contains(stream))
    }

    /// For people: which streams, and how they are shared.
    pub fn described(&self) -> String {
        let how = if self.shared { "auto" } else { "all" };
        format!("{} (PROCESSOR_STREAM_SHARE={how})", shortened(&self.list))
    }
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

/// What instances disagree about, if they do.
pub fn odds<'a>(instances: impl Iterator<Item = (&'a str, &'a Streams)>) -> Option<String> {
    let mut by_list = BTreeMap::<&Streams, Vec<&str>>::new();
    for (name, streams) in instances {
        by_list.entry(streams).or_default().push(name);
    }
    let at_odds = by_list
        .iter()
        .filter(|(streams, _)| by_list.keys().any(|other| streams.is_at_odds_with(other)));
    let told = at_odds.map(|(streams, names)| {
        let has = if names.len() == 1 { "has" } else { "have" };
        format!("{} {has} {}", few(names), streams.described())
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| {
        format!(
            "instances have different lists of streams, or share them differently: {}. Give all the same PROCESSOR_STREAM and \
             PROCESSOR_STREAM_SHARE, unless they are just being restarted one after another",
            told.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(list: &[&str], shared: bool) -> Streams {
        Streams {
            list: list.iter().map(|name| (*name).to_owned()).collect(),
            shared,
        }
    }

    #[test]
    fn lists_that_overlap_and_differ_and_ways_to_share_that_differ_are_at_odds() {
        let ours = streams(&["a", "b"], true);
        for (theirs, is_at_odds) in [
            (streams(&["a", "b"], true), false),
            (streams(&["a", "b"], false), true),
            (streams(&["a", "b", "c"], true), true),
            // Which place a stream has is part of the version of property writes.
            (streams(&["b", "a"], true), true),
            (streams(&["c"], false), false),
        ] {
            assert_eq!(ours.is_at_odds_with(&theirs), is_at_odds, "{theirs:?}");
        }
    }

    #[test]
    fn who_has_which_list_is_told_and_those_that_get_into_nobodys_way_are_not() {
        let (four, five) = (["s0", "s1", "s2", "s3"], ["s0", "s1", "s2", "s3", "s4"]);
        let (four, five, other) = (streams(&four, true), streams(&five, false), streams(&["x"], true));
        let same = [("a", &four), ("b", &four), ("d", &other)];
        assert_eq!(odds(same.into_iter()), None);
        let said = odds([("a", &four), ("b", &four), ("c", &five), ("d", &other)].into_iter()).unwrap();
        assert!(
            said.contains("a, b have s0 … s3, 4 streams (PROCESSOR_STREAM_SHARE=auto)")
                && said.contains("c has s0 … s4, 5 streams (PROCESSOR_STREAM_SHARE=all)")
                && !said.contains("x ("),
            "{said}"
        );
        assert_eq!(few(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
