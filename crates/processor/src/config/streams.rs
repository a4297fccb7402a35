//! The streams of `PROCESSOR_STREAM`: names, and patterns for many of them.

use std::collections::BTreeSet;

use super::read::{ConfigError, Reader, invalid};
use super::variables::Variable;

/// Streams that one list may name: each has a reader with a connection of its own.
const MOST: usize = 256;

impl Reader<'_> {
    /// Names in their order.
    pub(super) fn streams(&self, variable: &Variable) -> Result<Vec<String>, ConfigError> {
        names(variable, self.text(variable))
    }

    /// Some of the streams of another variable, if there are.
    pub(super) fn streams_first(
        &self,
        variable: &Variable,
        of: &Variable,
    ) -> Result<Vec<String>, ConfigError> {
        let Some(value) = self.optional(variable) else {
            return Ok(Vec::new());
        };
        let (some, all) = (names(variable, value.clone())?, self.streams(of)?);
        if some.len() < all.len() && some.iter().all(|name| all.contains(name)) {
            return Ok(some);
        }
        let accepted = format!("streams of {}, and not all of them", of.name);
        Err(invalid(variable, value, &accepted))
    }
}

/// The streams that a list stands for, as in `PROCESSOR_STREAM`; nothing where it is none.
pub fn stream_names(list: &str) -> Option<Vec<String>> {
    names(&super::variables::PROCESSOR_STREAM, list.to_owned()).ok()
}

/// The streams of a list, each once.
fn names(variable: &Variable, value: String) -> Result<Vec<String>, ConfigError> {
    let mut streams = Vec::new();
    for name in value.split(',') {
        let Some(names) = expanded(name.trim()) else {
            let accepted = format!("a pattern such as name:{{0..3}}, of at most {MOST} streams");
            return Err(invalid(variable, value, &accepted));
        };
        streams.extend(names);
    }
    let distinct: BTreeSet<&String> = streams.iter().collect();
    let is_name = |name: &String| {
        let braces = (name.matches('{').count(), name.matches('}').count());
        !name.is_empty() && braces.0 == braces.1
    };
    if !streams.iter().all(is_name) || distinct.len() != streams.len() || streams.len() > MOST {
        let accepted = format!(
            "a stream name or a comma-separated list of at most {MOST} distinct ones, with braces in pairs"
        );
        return Err(invalid(variable, value, &accepted));
    }
    Ok(streams)
}

/// `a{2..4}b` is `a{2}b`, `a{3}b` and `a{4}b`, each with its own hash tag: on a cluster, with its own slot. What is no
/// pattern is a name. Nothing where the numbers are none.
fn expanded(name: &str) -> Option<Vec<String>> {
    let pattern = name.split_once('{').and_then(|(before, rest)| {
        let (numbers, behind) = rest.split_once('}')?;
        let (first, last) = numbers.split_once("..")?;
        Some((before, first, last, behind))
    });
    let Some((before, first, last, behind)) = pattern else {
        return Some(vec![name.to_owned()]);
    };
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    if last < first || last - first >= MOST {
        return None;
    }
    Some(
        (first..=last)
            .map(|number| format!("{before}{{{number}}}{behind}"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn streams(value: &str) -> Result<Vec<String>, String> {
        let lookup = |name: &str| (name == "PROCESSOR_STREAM").then(|| value.to_owned());
        Config::from_lookup(&lookup)
            .map(|config| config.streams)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_pattern_is_as_many_streams_each_with_its_own_hash_tag() {
        for (value, names) in [
            ("events:incoming", vec!["events:incoming"]),
            ("a, b", vec!["a", "b"]),
            ("e:{0..2}", vec!["e:{0}", "e:{1}", "e:{2}"]),
            ("e,e:{7..8}:x", vec!["e", "e:{7}:x", "e:{8}:x"]),
            ("e:{tag}", vec!["e:{tag}"]),
        ] {
            assert_eq!(streams(value).unwrap(), names, "{value}");
        }
    }

    #[test]
    fn streams_that_come_first_are_some_of_all() {
        let first = |value: &str| {
            let lookup = |name: &str| match name {
                "PROCESSOR_STREAM" => Some("e,e:{0..1}".to_owned()),
                "PROCESSOR_STREAM_FIRST" => Some(value.to_owned()),
                _ => None,
            };
            Config::from_lookup(&lookup)
                .map(|config| config.streams_first)
                .map_err(|error| error.to_string())
        };
        assert_eq!(first("").unwrap(), [""; 0]);
        assert_eq!(first("e").unwrap(), ["e"]);
        assert_eq!(first("e:{0..1}").unwrap(), ["e:{0}", "e:{1}"]);
        for wrong in ["f", "e,e:{0..1}", "e,"] {
            assert!(
                first(wrong).unwrap_err().contains("PROCESSOR_STREAM_FIRST"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_list_that_is_none_is_told_with_what_is_accepted() {
        for wrong in [
            "a,,b",
            "a,a",
            "e:{0..1},e:{1}",
            "e:{3..1}",
            "e:{0..n}",
            "e:{0..256}",
            "e:{0..200},f:{0..200}",
        ] {
            let told = streams(wrong).unwrap_err();
            assert!(
                told.contains("PROCESSOR_STREAM") && told.contains("256"),
                "{wrong}: {told}"
            );
        }
    }
}
