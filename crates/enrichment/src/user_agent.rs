//! Reads user agents, with the names that ua-parser-js 2 uses, and remembers them by their text.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::browsers::browser;
use crate::devices::device;
use crate::systems::system;

/// What a user agent names. Each field is empty where nothing was recognised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Agent {
    /// `Chrome`, `Mobile Safari`, …
    pub browser: String,
    /// The version of the browser, as far as the text gives one.
    pub browser_version: String,
    /// `Windows`, `macOS`, `iOS`, …
    pub os: String,
    /// The version of the system, as far as the text gives one.
    pub os_version: String,
    /// `mobile`, `tablet`, `smarttv`, `console`, `wearable`, `embedded`, `xr`; `desktop` where a browser was recognised
    /// and none of these.
    pub device_type: String,
}

impl Agent {
    /// Reads a user agent in linear time; only its first 2 KiB count.
    pub fn parse(text: &str) -> Self {
        let text = head(text, LONGEST_READ);
        let (browser, browser_version) = browser(text).unwrap_or_default();
        let (os, os_version) = system(text).unwrap_or_default();
        let device_type = match device(text) {
            "" if !browser.is_empty() => "desktop",
            device => device,
        };
        Self {
            browser: browser.into(),
            browser_version: browser_version.into(),
            os: os.into(),
            os_version: os_version.into(),
            device_type: device_type.into(),
        }
    }
}

/// Most bytes of a user agent that are read.
const LONGEST_READ: usize = 2048;
/// Longest text that is remembered. Longer ones are read each time: remembering them would let a client fill the memory.
const LONGEST_REMEMBERED: usize = 1024;

fn head(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    &text[..end]
}

/// Reads user agents and remembers them.
pub struct UserAgents {
    known: Cache<Box<str>, Arc<Agent>>,
}

impl UserAgents {
    /// A reader that remembers at most `capacity` user agents.
    pub fn new(capacity: usize) -> Self {
        Self {
            known: Cache::new(capacity),
        }
    }

    /// Reads a user agent, or remembers what it was read as.
    pub fn parse(&self, text: &str) -> Arc<Agent> {
        if text.len() > LONGEST_REMEMBERED {
            return Arc::new(Agent::parse(text));
        }
        if let Some(agent) = self.known.get(text) {
            return agent;
        }
        let agent = Arc::new(Agent::parse(text));
        self.known.insert(text.into(), agent.clone());
        agent
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn fields(text: &str) -> [String; 5] {
        let agent = Agent::parse(text);
        [
            agent.browser,
            agent.browser_version,
            agent.os,
            agent.os_version,
            agent.device_type,
        ]
    }

    /// What is found and what was expected of each row that is read otherwise; the last five columns are expected.
    fn read_otherwise(table: &str) -> Vec<(Vec<&str>, [String; 5])> {
        let rows = table.lines().filter(|line| !line.starts_with('#'));
        let rows = rows.map(|line| line.split('\t').collect::<Vec<_>>());
        let read = rows.map(|columns| {
            let found = fields(columns[columns.len() - 6]);
            (columns, found)
        });
        read.filter(|(columns, found)| !columns.ends_with(&found.each_ref().map(String::as_str)))
            .collect()
    }

    #[test]
    fn real_agents_have_the_names_that_analysts_know_for_all_but_a_thousandth_of_the_traffic() {
        let wrong = read_otherwise(include_str!("../tests/data/user-agents-real.tsv"));
        let millionths: f64 = wrong
            .iter()
            .map(|(columns, _)| columns[0].parse::<f64>().unwrap())
            .sum();
        assert!(millionths < 1000.0, "{millionths} millionths: {wrong:#?}");
    }

    #[test]
    fn odd_agents_have_the_names_that_analysts_know() {
        let wrong = read_otherwise(include_str!("../tests/data/user-agents-odd.tsv"));
        assert!(wrong.is_empty(), "{}: {wrong:#?}", wrong.len());
    }

    #[test]
    fn a_processor_is_no_version_and_a_frozen_version_is_not_believed() {
        let version = |text: &str| fields(text)[3].clone();
        assert_eq!(version("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"), "");
        let phone = |system: &str, safari: &str| {
            version(&format!(
                "Mozilla/5.0 (iPhone; CPU iPhone OS {system} like Mac OS X) AppleWebKit/605.1.15 {safari} Mobile/15E148 Safari/604.1"
            ))
        };
        assert_eq!(phone("18_7", "Version/26.1"), "26.1");
        assert_eq!(phone("18_7", "Version/18.7.5"), "18.7");
        assert_eq!(phone("18_6", "CriOS/154.0"), "18.6");
        assert_eq!(phone("17_5", "Version/26.1"), "17.5");
    }

    #[test]
    fn scripts_and_bots_without_a_browser_have_no_device_type() {
        for text in [
            "CustomBot/1.0",
            "curl/8.4.0",
            "python-requests/2.31",
            "node",
            "Go-http-client/1.1",
            "",
        ] {
            assert_eq!(fields(text), ["", "", "", "", ""], "{text}");
        }
    }

    #[test]
    fn absurd_input_takes_no_absurd_time() {
        for piece in ["(", "Chrome/", "; ", "Version/1.", "Mozilla/5.0 (X11; "] {
            let text = piece.repeat((1 << 20) / piece.len());
            let before = Instant::now();
            let _agent = Agent::parse(&text);
            assert!(before.elapsed().as_millis() < 50, "{piece}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let agents = UserAgents::new(10);
            prop_assert_eq!(&*agents.parse(&text), &Agent::parse(&text));
        }
    }
}
